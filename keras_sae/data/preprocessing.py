"""Layers inside a model that scale raw inputs to the range of its output units, fitted on training data."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from ..constraints import check
from ..errors import InputError
from .batches import CHUNK_SIZE, Chunks, mean_over_rows
from .containers import RowSubset, as_array

LARGEST_WHITENED = 4096  # features, whose covariance takes 134 MB, and its eigenvectors a minute
TAIL = 0.05  # the share of a feature's values on either side that does not decide its range alone
FAR = 10  # times the distance between the tails: what lies farther beyond them is cut off
SAMPLE = 10_000, 2**28  # the rows that the tails are estimated from, and the bytes that they may take at most
USED = 1 / 8  # of a known range, that data use at least if it is theirs
CUT_OFF = "cut_off"


def fit_preprocessing(
    x: Any,
    contrast: bool = False,
    whiten: bool = False,
    value_range: tuple[float, float] | None = None,
    chunk_size: int = CHUNK_SIZE,
) -> keras.Sequential:
    """Return Keras' own layers in a row that scale raw rows to [0, 1], fitted on x in passes over its chunks.

    The numbers alone decide, not their type: 0 and 1 are scaled alike as bool, uint8, int64 and float32.

        contrast   (x - mean(x)) / sqrt(var(x) + c) of each example on its own; c is 0.01 of the mean variance
        whiten     (x - mean) U (L + c)^(-1/2) U'                        ZCA; U L U' is the covariance, and
                   c = mean(L) (1 + sqrt(features / rows))^2
        scale      (x - low) / (high - low), cut off at 0 and 1. low and high are
                   - after `contrast` or `whiten`, 3 standard deviations of all values below and above their mean;
                   - else `value_range`, if it is given and the data use an eighth of it or more: images of 0 and 1
                     have been saved as bytes as well;
                   - else the least and largest value of each feature, but no farther from its quantiles of 5 and 95 %
                     than 10 times their distance, so that a few wrong values do not flatten all others

    Args:
        x: the training data alone, (examples, features): an array, in memory or memory-mapped, a table, or sparse.
        contrast: whether to normalise the contrast of each example first, as suits images and spectra.
        whiten: whether to make features uncorrelated with equal variances then, staying near the input (zero-phase).
        value_range: (lowest, highest) value of every feature if the format tells, as (0, 255) of images of 8 bits.
        chunk_size: the number of rows that are read at a time.

    Returns:
        A built keras.Sequential, (examples, features) -> (examples, features), without trainable weights.

    Raises:
        InputError: if there are too many features to whiten.

    c is the largest variance that a direction has by chance, in so many rows, if all have the variance mean(L): what
    cannot be told from chance is not raised to the level of what can. With the notes' 0.1 mean(L), features of 8 x 8
    colour crops told two pictures apart in 79 % of held-out rows, with this c in 97 %, without whitening in 96 %; from
    180 rows in 77, 93 and 95 %.

    Reference: UFLDL, "Data Preprocessing" and "Whitening"; Bell & Sejnowski 1997 (ZCA); Marchenko & Pastur 1967 (c);
    Tukey 1977, "Exploratory Data Analysis" (fences beyond quantiles).
    """
    x = as_array(x)
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
        steps.add(_zca(x, None, chunk_size, steps))
    if steps.layers:
        mean = _mean_of(x, chunk_size, lambda rows: rows.mean(axis=1), steps).item()
        deviation = _mean_of(x, chunk_size, lambda rows: ((rows - mean) ** 2).mean(axis=1), steps).item() ** 0.5
        low, high = mean - 3 * deviation, mean + 3 * deviation
    else:
        low, high = _ranges(x, chunk_size, value_range)
    _add_linear(steps, low, high - low, "scale")
    steps.add(keras.layers.ReLU(max_value=1.0, name=CUT_OFF))  # cuts off at 0 as well
    return steps


def fit_zca(
    x: Any,
    epsilon: float | None = None,
    chunk_size: int = CHUNK_SIZE,
) -> keras.layers.Dense:
    """Return a layer that makes features uncorrelated and stays as near to the rows as that can be: ZCA.

        (x - mean) U (L + epsilon)^(-1/2) U'                          U L U' is the covariance of x

    Args:
        x: the training data alone, (examples, features): an array, in memory or memory-mapped, a table, or sparse.
        epsilon: what is added to the variance of each direction, in squared units of x: 0.1 in the notes, for pixels
            from 0 to 1. None is the c of `fit_preprocessing`.
        chunk_size: the number of rows that are read at a time.

    Returns:
        A built Dense layer without trainable weights, (examples, features) -> (examples, features): as `preprocessing`
        of a stack whose outputs are linear, it whitens inside of the model.

    Raises:
        ValueError: epsilon is not above 0.
        InputError: there are too many features for their covariance.

    Reference: UFLDL, "Whitening" and "Linear Decoders"; Bell & Sejnowski 1997.

    >>> stack = StackedAutoencoder([SparseAutoencoder(400, output_activation="linear")], preprocessing=fit_zca(x, 0.1))
    """
    check("epsilon", epsilon)
    return _zca(as_array(x), epsilon, chunk_size)


def scale_range(steps: keras.Sequential) -> tuple[np.ndarray, np.ndarray]:
    """Return (low, high), what the scaling of `fit_preprocessing` makes 0 and 1: of each feature, or of all."""
    low = -np.asarray(steps.get_layer("scale_shift").offset)
    return low, low + 1 / np.asarray(steps.get_layer("scale").scale)


def scaled_without_cut_off(steps: Any, x: Any) -> Any:
    """Return what `steps`, a layer or model, makes of x, a tensor, before it cuts off, if that is its last step.

    The distance of rows far outside the training range to their reconstruction is told by this alone.
    """
    layers = getattr(steps, "layers", [])
    if not layers or layers[-1].name != CUT_OFF:
        return steps(x)
    for layer in layers[:-1]:
        x = layer(x)
    return x


def unscaled(steps: Any, x: Any) -> Any | None:
    """Return what `steps`, a layer or model, makes x of, a tensor or array, or None if they do more than scale.

    They can be undone if they are Keras' Rescaling alone, whether or not they cut off then.
    """
    layers = [layer for layer in getattr(steps, "layers", [steps]) if layer.name != CUT_OFF]
    if not all(isinstance(layer, keras.layers.Rescaling) for layer in layers):
        return None
    for layer in reversed(layers):
        x = (x - np.asarray(layer.offset, "float64")) / np.asarray(layer.scale, "float64")
    return x


def _add_standardising(steps: keras.Sequential, x: np.ndarray | RowSubset, chunk_size: int, by_feature: bool) -> None:
    """Add layers that scale to mean 0, of all values or of each feature, and to a mean variance of 1.

    This changes the result of neither contrast nor whitening. But both add and square numbers, which float32 would not
    hold in every unit of x.
    """
    mean = _mean_of(x, chunk_size, lambda rows: rows, steps)
    mean = mean if by_feature else mean.mean()
    variance = _mean_of(x, chunk_size, lambda rows: ((rows - mean) ** 2).mean(axis=1), steps).item()
    _add_linear(steps, mean, variance**0.5, "whitening_input" if by_feature else "contrast_input")


def _zca(
    x: np.ndarray | RowSubset, epsilon: float | None, chunk_size: int, steps: keras.Sequential | None = None
) -> keras.layers.Dense:
    """Return the layer of `fit_zca` for what `steps` make of x. Raise InputError if there are too many features."""
    features = x.shape[1]
    if features > LARGEST_WHITENED:
        raise InputError(
            f"Expected at most {LARGEST_WHITENED:,} features to whiten, whose covariance is features x features. "
            f"Received: {features:,}. Use smaller images, or leave whitening out."
        )
    mean = _mean_of(x, chunk_size, lambda rows: rows, steps)
    covariance = _mean_of(x, chunk_size, lambda rows: (rows - mean).T @ (rows - mean), steps, summed=True)
    values, vectors = np.linalg.eigh(covariance)
    by_chance = values.mean() * (1 + (features / len(x)) ** 0.5) ** 2
    kernel = vectors / np.sqrt(np.maximum(values, 0) + (epsilon or max(by_chance, 1e-12))) @ vectors.T
    layer = keras.layers.Dense(features, trainable=False, name="whitening")
    layer.build((None, features))
    layer.set_weights([kernel, -mean @ kernel])
    return layer


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


def _ranges(
    x: np.ndarray | RowSubset, chunk_size: int, value_range: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (low, high) of all features, `value_range` if the data use it, or of each.

    Those of each are its extremes, but none far beyond the tails of its distribution.

    If nearly all values of a feature are the same, the tails are those of the others; if these are the same as well, it
    keeps its extremes. A feature with a single value has the median width of all: another value then counts as it
    would there, in pixels for example.
    """
    low, high = _extremes(x, chunk_size)
    if value_range is not None and high.max() - low.min() >= USED * (value_range[1] - value_range[0]):
        return np.asarray(value_range[0], "float64"), np.asarray(value_range[1], "float64")
    sample = _sample(x)
    lower, upper = _tails(sample)
    commonest = lower.copy()  # of the features without tails
    for feature in np.flatnonzero(upper <= lower):
        others = sample[sample[:, feature] != lower[feature], feature]
        if len(others) > 3:
            lower[feature], upper[feature] = _tails(others)
    reach = np.where(upper > lower, FAR * (upper - lower), np.inf)
    low = np.maximum(low, np.minimum(lower - reach, commonest))
    high = np.minimum(high, np.maximum(upper + reach, commonest))
    widths = high - low
    usual = np.median(widths[widths > 0]) if widths.any() else 1.0
    return low, np.where(widths > 0, high, low + usual)


def _tails(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the quantiles of TAIL and 1 - TAIL of each column: of four values or more never the outermost."""
    lower = np.quantile(sample, TAIL, axis=0, method="higher").astype("float64")
    return lower, np.quantile(sample, 1 - TAIL, axis=0, method="lower").astype("float64")


def _sample(x: np.ndarray | RowSubset) -> np.ndarray:
    """Return rows of x in float32: all if they are few, else as many as SAMPLE says, drawn at random."""
    number = min(len(x), SAMPLE[0], max(2, SAMPLE[1] // (4 * x.shape[1])))
    rows = np.sort(np.random.default_rng(0).choice(len(x), number, replace=False))
    return np.asarray(x[rows], "float32")


def _extremes(x: np.ndarray | RowSubset, chunk_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest value of each feature."""
    low, high = np.full(x.shape[1], np.inf), np.full(x.shape[1], -np.inf)
    for rows in _rows(x, chunk_size):
        low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
    return low, high
