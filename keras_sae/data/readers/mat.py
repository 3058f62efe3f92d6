"""A reader of MATLAB's files, which are HDF5 from version 7.3 on."""

import contextlib
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import hdf5
from .bounds import check_memory
from .named_arrays import read_named
from .rows import Rows
from .sources import Source
from .sparse import COPIES, by_rows

_PACKED = 15  # the type of an element of a file that zlib has packed


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

    _check_unpacked(path)
    try:
        arrays = scipy.io.loadmat(path, chars_as_strings=True)
    except NotImplementedError:  # version 7.3
        with hdf5.opened(path) as datasets:
            yield _as_matlab_shows(datasets, path)
        return
    yield {name: _plain(array, path) for name, array in arrays.items() if not name.startswith("__") and array.shape}


def _as_matlab_shows(datasets: dict[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """Return the arrays of an HDF5 file that MATLAB wrote by name; a sparse matrix is a group of three of them."""
    groups = {name.removesuffix("/jc"): item.parent for name, item in datasets.items() if name.endswith("/jc")}
    groups = {name: group for name, group in groups.items() if "MATLAB_sparse" in group.attrs}
    arrays = {
        name: _Transposed(item)
        for name, item in datasets.items()
        if not name.startswith("#") and name.rpartition("/")[0] not in groups
    }
    return arrays | {name: _sparse(group, path) for name, group in groups.items()}


def _sparse(group: Any, path: pathlib.Path) -> Any:
    """Return a sparse matrix by rows, which MATLAB keeps by columns, its number of rows beside it."""
    import scipy.sparse

    size = sum(part.nbytes for part in group.values())
    check_memory(COPIES * size, f"a sparse matrix of {size:,} bytes in {path}")
    # Of zeros alone there are no numbers.
    data, rows, starts = (group[part][()] if part in group else np.zeros(0) for part in ("data", "ir", "jc"))
    shape = int(group.attrs["MATLAB_sparse"]), len(starts) - 1
    return by_rows(scipy.sparse.csc_matrix((data, rows.astype("int64"), starts.astype("int64")), shape), path)


def _check_unpacked(path: pathlib.Path) -> None:
    """Raise InputError if what is packed in a file of version 5 takes too much memory: SciPy unpacks all of it."""
    total = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(128)
        order: Any = {b"IM": "little", b"MI": "big"}.get(head[126:128])
        while order and len(tag := file.read(8)) == 8:
            kind, length = (int.from_bytes(part, order) for part in (tag[:4], tag[4:]))
            end, unpack = file.tell() + length, zlib.decompressobj()
            while kind == _PACKED and file.tell() < end and (packed := file.read(min(2**16, end - file.tell()))):
                while packed:
                    total += len(unpack.decompress(packed, 2**20))
                    check_memory(COPIES * total, f"arrays of {total:,} bytes or more, packed in {path}")
                    packed = unpack.unconsumed_tail
            file.seek(end)


def _plain(array: Any, path: pathlib.Path) -> Any:
    """Return an array that can be sliced by rows: a sparse one by rows, a cell array of texts as texts."""
    if hasattr(array, "tocsr"):
        return by_rows(array, path)
    texts = array.dtype == object and all(isinstance(item, np.ndarray) and item.size == 1 for item in array.flat)
    return np.array([str(item.item()) for item in array.flat]) if texts else array


class _Transposed:
    """An array of HDF5 as MATLAB shows it: MATLAB writes the last dimension first."""

    def __init__(self, dataset: Any) -> None:
        self.dataset, self.shape, self.dtype = dataset, dataset.shape[::-1], dataset.dtype
        self.chunks = dataset.chunks

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.dataset[..., rows].T
