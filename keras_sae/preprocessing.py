"""Scaling of raw inputs to the range of the output units, fitted on training data, as layers inside the model."""

import keras
import numpy as np
from keras import ops

from keras_sae.chunks import CHUNK_SIZE, Chunks
from keras_sae.errors import InputError

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
        variance = _mean_of(x, chunk_size, lambda rows: rows.var(axis=1)).item()
        steps.add(
            keras.layers.LayerNormalization(
                center=False, scale=False, epsilon=max(0.01 * variance, 1e-12), name="contrast"
            )
        )
    if whiten:
        _add_whitening(steps, x, chunk_size)
    if steps.layers:
        mean = _mean_of(x, chunk_size, lambda rows: rows.mean(axis=1), steps).item()
        deviation = _mean_of(x, chunk_size, lambda rows: ((rows - mean) ** 2).mean(axis=1), steps).item() ** 0.5
        low, high = np.full(x.shape[1], mean - 3 * deviation), np.full(x.shape[1], mean + 3 * deviation)
    elif x.dtype == np.uint8:
        low, high = np.zeros(x.shape[1]), np.full(x.shape[1], 255.0)
    else:
        low, high = _extremes(x, chunk_size)
    _add_scaling(steps, low, high)
    return steps


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


def _add_scaling(steps, low, high):
    """(x - low) / (high - low), cut off at 0 and 1; a feature that does not vary becomes 0."""
    varies = high > low
    width = np.where(varies, high - low, 1.0)
    steps.add(keras.layers.Normalization(mean=low, variance=width**2, name="scale"))
    steps.add(keras.layers.ReLU(max_value=1.0, name="cut_off"))  # cuts off at 0 as well


def _rows(x, chunk_size, steps=None):
    """The chunks of x, through the steps so far, as float64 arrays."""
    for chunk, _ in Chunks(x, chunk_size=chunk_size).read():
        rows = chunk if steps is None or not steps.layers else steps(chunk, training=False)
        yield ops.convert_to_numpy(rows).astype("float64")


def _mean_of(x, chunk_size, function, steps=None, summed=False):
    """The mean over examples of function(rows); `summed` says that it has summed over the chunk's rows itself."""
    total, number = 0.0, 0
    for rows in _rows(x, chunk_size, steps):
        part = function(rows)
        total = total + (part if summed else part.sum(axis=0))
        number += len(rows)
    return total / number


def _extremes(x, chunk_size):
    low, high = np.inf, -np.inf
    for rows in _rows(x, chunk_size):
        low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
    return low, high
