"""A reader of MATLAB's files, which are HDF5 from version 7.3 on."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import hdf5
from .named_arrays import read_named
from .rows import Rows
from .sources import Source


def read_mat(
    source: Source,
    labels: str | None = None,
    feature: str | None = None,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return an array of MATLAB's files: the one named `feature`, or x, or the only one that can be meant.

    `labels` is the name of another array, of numbers, of text or a cell array of texts.
    """
    return read_named(source, _opened, labels, feature, cache)


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yield the arrays of a file by name."""
    import scipy.io

    try:
        arrays = scipy.io.loadmat(path, chars_as_strings=True)
    except NotImplementedError:  # version 7.3
        with hdf5.opened(path) as datasets:
            yield {name: _Transposed(item) for name, item in datasets.items() if not name.startswith("#")}
        return
    yield {name: _plain(array) for name, array in arrays.items() if not name.startswith("__") and array.shape}


def _plain(array: Any) -> Any:
    """Return an array that can be sliced by rows: a sparse one by rows, a cell array of texts as texts."""
    if hasattr(array, "tocsr"):
        return array.tocsr()
    texts = array.dtype == object and all(isinstance(item, np.ndarray) and item.size == 1 for item in array.flat)
    return np.array([str(item.item()) for item in array.flat]) if texts else array


class _Transposed:
    """An array of HDF5 as MATLAB shows it: MATLAB writes the last dimension first."""

    def __init__(self, dataset: Any) -> None:
        self.dataset, self.shape, self.dtype = dataset, dataset.shape[::-1], dataset.dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.dataset[..., rows].T
