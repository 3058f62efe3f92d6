"""The features of one autoencoder, by Keras and by the files that `python -m export` makes of it."""

import time

import numpy as np

from benchmarks.contenders import Seconds, initial_weights
from benchmarks.extraction import RUNTIMES

ROWS = 1000  # encoded in all, but in 20 calls or more


def by_transform(x, units, number):
    """Return function() -> Seconds of a row, so many a call, with the largest error of a feature."""
    return _timed(_autoencoder(x, units).transform, x[:number], units)


def in_keras(x, units, number):
    """As `by_transform`, of a model that is called."""
    encoder = _autoencoder(x, units).encoder
    return _timed(lambda rows: np.asarray(encoder(rows)), x[:number], units)


def _autoencoder(x, units):
    from benchmarks.contenders.keras_sae_form import autoencoder

    return autoencoder(x.shape[1], units)


def exported(x, units, number, kind, path):
    """As `by_transform`, of a file."""
    return _timed(RUNTIMES[kind](path)[0], x[:number], units)


def of_dictionary(x, number, kind, path):
    """Return function() -> Seconds of a row, so many a call, with the mean number of active units.

    kind: "keras" for a directory that `load_sae` reads, or as of `exported`.
    """
    if kind == "keras":
        import keras_sae

        encoder = keras_sae.load_sae(path).encoder
        return _seconds(lambda rows: np.asarray(encoder(rows)), x[:number], 10, _active_units)
    return _seconds(RUNTIMES[kind](path)[0], x[:number], 10, _active_units)


def _active_units(features):
    return float(np.count_nonzero(features, axis=1).mean())


def _timed(encode, x, units):
    kernel, bias, *_ = initial_weights(x.shape[1], units)
    expected = 1 / (1 + np.exp(-(x.astype("float64") @ kernel + bias)))
    return _seconds(encode, x, max(20, ROWS // len(x)), lambda features: float(np.abs(features - expected).max()))


def _seconds(encode, x, calls, result):
    def run():
        began = time.perf_counter()
        for _ in range(calls):
            features = encode(x)
        seconds = time.perf_counter() - began
        return Seconds(seconds / calls / len(x), result(features))

    return run
