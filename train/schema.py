"""What the numbers of your own data mean: their columns and ranges, what is cut off, and whether labels are classes."""

from typing import NamedTuple

import keras
import numpy as np

from keras_sae.data import batches, readers
from keras_sae.data.preprocessing import scale_range, scaled_without_cut_off
from keras_sae.data.readers.rows import row_blocks
from keras_sae.errors import InputError

MANY_CLASSES = 100


class Scaled(NamedTuple):
    """What is measured of scaled rows, (examples, features).

    mean: of each feature.  half_variance: half the sum of the variances, which is the error of the mean of the rows as
    a reconstruction.  cut_off: the share of the values of each feature that are.
    """

    mean: np.ndarray
    half_variance: float
    cut_off: np.ndarray


def measure(preprocessing, x):
    """Return the `Scaled` of rows x."""

    def sums(chunk, *_):
        uncut = keras.ops.convert_to_numpy(scaled_without_cut_off(preprocessing, chunk)).astype("float64")
        scaled = np.clip(uncut, 0, 1)
        return [scaled.sum(axis=0), (scaled**2).sum(), (abs(uncut - scaled) > 1e-3).sum(axis=0)]

    mean, square, cut_off = batches.mean_over_rows(batches.Chunks(x).read(), sums)
    return Scaled(mean, float((square - (mean**2).sum()) / 2), cut_off)


def distance(preprocessing, x, mean):
    """Return the error of this mean as a reconstruction of other rows."""

    def sums(chunk, *_):
        scaled = keras.ops.convert_to_numpy(preprocessing(chunk)).astype("float64")
        return [((scaled - mean) ** 2).sum() / 2]

    return float(batches.mean_over_rows(batches.Chunks(x).read(), sums)[0])


def cut_off(scaled, number, names):
    """Return a note if values of the training rows, which are so many, are cut off."""
    counts = np.rint(scaled.cut_off * number).astype(int)
    names = names or [f"number {i}" for i in range(len(counts))]
    listed = some([f"{names[i]} ({counts[i]:,})" for i in np.flatnonzero(counts)])
    return [f"values far beyond the others of their column, in training rows, are cut off: {listed}"] if listed else []


def equal_rows(x, train, held_out):
    """Return a note if rows held out are equal to rows that are trained on, in float32: these are no new rows."""
    numbers = np.empty(len(x), "int64")
    for start, block in row_blocks(x):
        rows = block.astype("float32") + 0.0  # of -0 as well
        numbers[start : start + len(rows)] = [hash(row.tobytes()) for row in rows]
    count = int(np.isin(numbers[held_out], numbers[train]).sum())
    share = f"{count:,} of {len(held_out):,} rows held out are equal to rows that are trained on"
    return [f"{share}, so that what is measured on them says less of new rows"] if count else []


def without_constant(rows, x):
    """Return the rows without the columns of one value in all training rows x, and the names of these columns.

    A column of texts goes as a whole or not at all, as it is read again as a whole.

    Raises:
        InputError: the columns have no names, by which they are left out of other data, or all hold one value.
    """
    if not rows.feature_names:
        raise InputError(
            "Expected a table whose columns have names, by which --drop leaves them out of other data as well. "
            f"Received: {rows.source}. Leave --drop out."
        )
    column_of = {f"{name}={text}": name for name, texts in rows.categories.items() for text in texts}
    names = [column_of.get(name, name) for name in rows.feature_names]
    constant = set(readers.constant_columns(x))
    varying = {name for i, name in enumerate(names) if i not in constant}
    if not varying:
        raise InputError(f"Expected training rows that differ. Received: {rows.source}, whose columns hold one value.")
    if varying == {*names}:
        return rows, []
    dropped = [name for name in dict.fromkeys(names) if name not in varying]
    return readers.chosen_columns(rows, [i for i, name in enumerate(names) if name in varying]), dropped


def facts(rows, preprocessing):
    """Return what the numbers of a row mean, for run.json: names and ranges of columns, classes, pixels."""
    found = {"class_names": rows.class_names} if rows.class_names else {}
    found |= {"feature_names": rows.feature_names} if rows.feature_names else {}
    found |= {"categories": dict(rows.categories)} if rows.categories else {}
    found |= {"pixel_range": 255} if rows.image_shape and rows.x.dtype == "uint8" else {}
    if rows.feature_names or rows.value_range:
        low, high = scale_range(preprocessing)
        found |= {"low": np.asarray(low).tolist(), "high": np.asarray(high).tolist()}
    return found


def check_classes(rows, labels):
    """Return a note on labels that may be no classes. Raise InputError if they cannot teach."""
    if rows.y is None:
        return []
    count, number = len(rows.class_names), int((rows.y >= 0).sum())
    if not 1 < count <= number // 2:
        what = f"only {rows.class_names[0]!r}" if count == 1 else f"{count:,} different ones"
        raise InputError(
            f"Expected labels of two classes or more, each in two rows or more on average. Received: {what} in "
            f"{number:,} labels (--labels {labels}). Name a column of classes, or leave --labels out."
        )
    if count > MANY_CLASSES and all(name.lstrip("+-").isdecimal() for name in rows.class_names):
        return [f"--labels {labels} has {count:,} values, all numbers: is it a class, or an amount?"]
    return []


def some(names, number=6):
    more = f" and {len(names) - number:,} more" if len(names) > number else ""
    return ", ".join(map(str, names[:number])) + more
