"""Layers inside a model that scale raw inputs to the range of its output units, fitted on training data."""

from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import ops

from ..errors import InputError
from .batches import CHUNK_SIZE, Chunks, mean_over_rows
from .containers import RowSubset

LARGEST_WHITENED = 4096  # features, whose covariance takes 134 MB, and its eigenvectors a minute


def fit_preprocessing(
    x: np.ndarray | RowSubset, contrast: bool = False, whiten: bool = False, chunk_size: int = CHUNK_SIZE
) -> keras.Sequential:
    """Return Keras' own layers in a row that scale raw rows to [0, 1], fitted on x in passes over its chunks.

        contrast   (x - mean(x)) / sqrt(var(x) + c) of each example on its own; c is 0.01 of the mean variance
        whiten     (x - mean) U (L + c)^(-1/2) U'                        ZCA; U L U' is the covariance, c 0.1 mean(L)
        scale      x / 255 if x is uint8, else (x - low) / (high - low), cut off at 0 and 1: low and high are the least
                   and largest value of each feature or, after `contrast` or `whiten`, 3 standard deviations of all
                   values below and above their mean

    Args:
        x: the training data alone, (examples, features), an array in memory or memory-mapped.
        contrast: whether to normalise the contrast of each example first, as suits images and spectra.
        whiten: whether to make features uncorrelated with equal variances then, staying near the input (zero-phase).
        chunk_size: the number of rows that are read at a time.

    Returns:
        A built keras.Sequential, (examples, features) -> (examples, features), without trainable weights.

    Raises:
        InputError: if there are too many features to whiten.

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


def _add_standardising(steps: keras.Sequential, x: np.ndarray | RowSubset, chunk_size: int, by_feature: bool) -> None:
    """Add layers that scale to mean 0, of all values or of each feature, and to a mean variance of 1.

    This changes the result of neither contrast nor whitening. But both add and square numbers, which float32 would not
    hold in every unit of x.
    """
    mean = _mean_of(x, chunk_size, lambda rows: rows, steps)
    mean = mean if by_feature else mean.mean()
    variance = _mean_of(x, chunk_size, lambda rows: ((rows - mean) ** 2).mean(axis=1), steps).item()
    _add_linear(steps, mean, variance**0.5, "whitening_input" if by_feature else "contrast_input")


def _add_whitening(steps: keras.Sequential, x: np.ndarray | RowSubset, chunk_size: int) -> None:
    """Add a layer that whitens. Raise InputError if there are too many features for it."""
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


def _add_linear(steps: keras.Sequential, shift: np.ndarray | float, width: np.ndarray | float, name: str) -> None:
    """Add layers for (x - shift) / width, with numbers for all features or for each; a width of 0 yields 0.

    They are two, so that large numbers are subtracted before they are scaled, and no Normalization, which takes smaller
    widths for 1e-7.
    """
    width = np.where(width > np.finfo("float32").tiny, width, 1.0)
    steps.add(keras.layers.Rescaling(1.0, -np.asarray(shift, "float64"), name=f"{name}_shift"))
    steps.add(keras.layers.Rescaling(1.0 / width, name=name))


def _rows(x: np.ndarray | RowSubset, chunk_size: int, steps: keras.Sequential | None = None) -> Iterator[np.ndarray]:
    """Yield the chunks of x, after the steps that were added so far, as float64 arrays."""
    for chunk, *_ in Chunks(x, chunk_size=chunk_size).read():
        rows = chunk if steps is None or not steps.layers else steps(chunk, training=False)
        yield ops.convert_to_numpy(rows).astype("float64")


def _mean_of(
    x: np.ndarray | RowSubset,
    chunk_size: int,
    function: Callable[[np.ndarray], np.ndarray],
    steps: keras.Sequential | None = None,
    summed: bool = False,
) -> np.ndarray:
    """Return the mean over examples of function(rows), which returns the sum over rows itself if `summed`."""

    def sums(rows: np.ndarray) -> list[np.ndarray]:
        return [function(rows) if summed else function(rows).sum(axis=0)]

    return mean_over_rows(((rows,) for rows in _rows(x, chunk_size, steps)), sums)[0]


def _extremes(x: np.ndarray | RowSubset, chunk_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest value of each feature."""
    low, high = np.full(x.shape[1], np.inf), np.full(x.shape[1], -np.inf)
    for rows in _rows(x, chunk_size):
        low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
    return low, high
