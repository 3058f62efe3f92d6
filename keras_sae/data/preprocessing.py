"""Scaling of raw inputs to the range of the output units, fitted on training data, as layers inside the model."""

import keras
import numpy as np
from keras import ops

from ..errors import InputError
from .batches import CHUNK_SIZE, Chunks, mean_over_rows

LARGEST_WHITENED = 4096  # features: their covariance is 134 MB, its eigenvectors take a minute


def fit_preprocessing(x, contrast=False, whiten=False, chunk_size=CHUNK_SIZE):
    """A keras.Sequential of Keras' own layers that takes raw rows to [0, 1], fitted on x in passes over its chunks.

        contrast   x - mean(x), divided by sqrt(var(x) + c), of each example on its own; c is 0.01 of the mean variance
        whiten     (x - mean) U (L + c)^(-1/2) U'                        ZCA; U L U' is the covariance, c 0.1 mean(L)
        scale      uint8: x / 255.  Otherwise (x - low) / (high - low), cut off at 0 and 1, where low and high are each
                   feature's least and largest value, or, after `contrast` or `whiten`, 3 standard deviations of all
                   values below and above their mean

    Args:
        x: (examples, features), of the training part alone: an array in memory or memory-mapped.
        contrast: normalise the contrast of each example first, as suits images and spectra.
        whiten: then make features uncorrelated with equal variances, staying near the input (zero-phase).
        chunk_size: rows at a time.

    Returns:
        A built keras.Sequential, (examples, features) -> (examples, features), without trainable weights.

    Raises:
        InputError: too many features to whiten.

    Reference: UFLDL, "Data Preprocessing" and "Whitening"; Bell & Sejnowski 1997 (ZCA).
    """
    steps = keras.Sequential([keras.Input((x.shape[1],))], name="preprocessing")
    if contrast:
        _add_standardising(steps, x, chunk_size, by_feature=False)
        variance = _mean_of(x, chunk_size, lambda rows: rows.var(axis=1), steps).item()
        steps.add(
            keras.layers.LayerNormalization(
                center=False, scale=False, epsilon=max(0.01 * variance, 1e-12), name="contrast"
            )
        )
    if whiten:
        _add_standardising(steps, x, chunk_size, by_feature=True)
        _add_whitening(steps, x, chunk_size)
    if steps.layers:
        mean = _mean_of(x, chunk_size, lambda rows: rows.mean(axis=1), steps).item()
        deviation = _mean_of(x, chunk_size, lambda rows: ((rows - mean) ** 2).mean(axis=1), steps).item() ** 0.5
        low, high = mean - 3 * deviation, mean + 3 * deviation
    elif x.dtype == np.uint8:
        low, high = 0.0, 255.0
    else:
        low, high = _extremes(x, chunk_size)
    _add_linear(steps, low, high - low, "scale")
    steps.add(keras.layers.ReLU(max_value=1.0, name="cut_off"))  # cuts off at 0 as well
    return steps


def _add_standardising(steps, x, chunk_size, by_feature):
    """To mean 0, of all values or of each feature, and to a mean variance of 1, so that float32 holds what follows.

    Neither contrast nor whitening changes by it, but they add and square numbers, whatever the units of x.
    """
    mean = _mean_of(x, chunk_size, lambda rows: rows, steps)
    mean = mean if by_feature else mean.mean()
    variance = _mean_of(x, chunk_size, lambda rows: ((rows - mean) ** 2).mean(axis=1), steps).item()
    _add_linear(steps, mean, variance**0.5, "whitening_input" if by_feature else "contrast_input")


def _add_whitening(steps, x, chunk_size):
    features = x.shape[1]
    if features > LARGEST_WHITENED:
        raise InputError(
            f"Expected at most {LARGEST_WHITENED:,} features to whiten, whose covariance is features x features. "
            f"Received: {features:,}. Use smaller images, or leave whitening out."
        )
    mean = _mean_of(x, chunk_size, lambda rows: rows, steps)
    covariance = _mean_of(x, chunk_size, lambda rows: (rows - mean).T @ (rows - mean), steps, summed=True)
    values, vectors = np.linalg.eigh(covariance)
    kernel = vectors / np.sqrt(np.maximum(values, 0) + max(0.1 * values.mean(), 1e-12)) @ vectors.T
    steps.add(keras.layers.Dense(features, trainable=False, name="whitening"))
    steps.get_layer("whitening").set_weights([kernel, -mean @ kernel])


def _add_linear(steps, shift, width, name):
    """(x - shift) / width, of all features or of each; 0 where the width is 0.

    Two layers, for the difference of large numbers comes first; and not a Normalization, whose widths are 1e-7 or more.
    """
    width = np.where(width > np.finfo("float32").tiny, width, 1.0)
    steps.add(keras.layers.Rescaling(1.0, -np.asarray(shift, "float64"), name=f"{name}_shift"))
    steps.add(keras.layers.Rescaling(1.0 / width, name=name))


def _rows(x, chunk_size, steps=None):
    """Yield the chunks of x, through the steps so far, as float64 arrays."""
    for chunk, _ in Chunks(x, chunk_size=chunk_size).read():
        rows = chunk if steps is None or not steps.layers else steps(chunk, training=False)
        yield ops.convert_to_numpy(rows).astype("float64")


def _mean_of(x, chunk_size, function, steps=None, summed=False):
    """Return the mean over examples of function(rows); `summed` says that it has summed over rows itself."""

    def sums(rows):
        return [function(rows) if summed else function(rows).sum(axis=0)]

    return mean_over_rows(((rows, None) for rows in _rows(x, chunk_size, steps)), sums)[0]


def _extremes(x, chunk_size):
    low, high = np.inf, -np.inf
    for rows in _rows(x, chunk_size):
        low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
    return low, high
