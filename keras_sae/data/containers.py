"""What holds rows: arrays of any library, which become NumPy's once, at the door, and chosen rows of large ones."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops

from ..files import forget


def as_array(x: Any) -> Any:
    """Return arrays, tables, lists and tensors of any library as they are read here: by position, as NumPy's.

    A pandas table with an index of its own, for one, would give other rows for the same numbers. A SciPy sparse matrix
    becomes dense some rows at a time.
    """
    if isinstance(x, (np.ndarray, RowSubset)):
        return x
    if is_sparse(x):
        return RowSubset(x.tocsr())
    if hasattr(x, "to_numpy"):  # tables and columns of pandas and polars
        return x.to_numpy()
    return ops.convert_to_numpy(x)


def is_array(x: Any) -> bool:
    """Return whether the rows of x can be counted and indexed, which those of a data set of batches cannot."""
    return hasattr(x, "shape") or isinstance(x, list)


def is_sparse(x: Any) -> bool:
    """Return whether x is a sparse matrix or array of SciPy."""
    return hasattr(x, "tocsr")


def is_repeatable(x: Any) -> bool:
    """Return whether x has an end and can then be read again, which an iterator and a data set that repeats cannot."""
    cardinality = getattr(x, "cardinality", None)  # of tf.data: -1 if it is infinite
    return not isinstance(x, Iterator) and (cardinality is None or int(cardinality()) != -1)


def is_distributed(x: Any) -> bool:
    """Return whether the rows of x lie on the machines of a cluster, which sum over them where they are."""
    return hasattr(x, "rounds")


def in_memory(x: Any) -> bool:
    """Return whether all rows of x are in memory, rather than read when they are needed."""
    if isinstance(x, RowSubset):
        return in_memory(x.x)
    return is_array(x) and not isinstance(x, np.memmap) and not is_sparse(x)


def spread(rows: Any, number: int) -> np.ndarray:
    """Return at most `number` of the rows, evenly spread from first to last: files are often sorted by class."""
    return np.asarray(rows[:: max(1, -(-len(rows) // number))])


class RowSubset:
    """Chosen rows of an array (examples, features), in a chosen order, which are copied and transformed when read.

    They keep the dtype of the array, or become float32 if they are transformed.

    Args:
        x: the array (examples, features), in memory or memory-mapped.
        rows: the indices of the rows, (examples,), or None for all rows.
        transform: a Keras layer or model, tensor -> tensor, or None.
    """

    ndim = 2

    def __init__(self, x: Any, rows: np.ndarray | None = None, transform: Any = None):
        self.x, self.rows, self.transform = x, rows, transform
        features = x.shape[1] if transform is None else transform.compute_output_shape((None, x.shape[1]))[-1]
        self.shape = (x.shape[0] if rows is None else len(rows), features)
        self.dtype = x.dtype if transform is None else np.dtype("float32")

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"RowSubset({self.shape[0]:,} rows of {self.shape[1]:,} features, {self.dtype})"

    def __getitem__(self, key: Any) -> np.ndarray:
        # Copied, as the pages of a memory-mapped array are forgotten.
        rows = self.x[key if self.rows is None else self.rows[key]]
        rows = rows.toarray() if is_sparse(rows) else np.array(rows)
        forget(self.x)
        if self.transform is None:
            return rows
        return ops.convert_to_numpy(self.transform(rows.astype("float32"), training=False))
