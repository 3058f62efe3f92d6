"""A reader of sparse matrices that scipy wrote with save_npz."""

import contextlib
import pathlib
import zipfile
from collections.abc import Container, Iterator
from typing import Any

from ...archives import read_arrays
from ...errors import InputError
from .bounds import check_memory
from .named_arrays import read_named
from .rows import Rows
from .sources import Source

COPIES = 3  # of a matrix while it is read and ordered by rows


def is_matrix(names: Container[str]) -> bool:
    """Return whether these are the names of the arrays that scipy keeps a sparse matrix in."""
    return all(name in names for name in ("format", "shape", "data"))


def read_matrix(source: Source, feature: str | None, cache: pathlib.Path | str | None) -> Rows:
    """Return a sparse matrix in npz files as rows of all its numbers. Raise InputError if `feature` names another."""
    if feature is not None:
        raise InputError(
            f"Expected no name of an array, as there is one sparse matrix in the file. Received: {feature!r} for "
            f"{source}. Leave it out."
        )
    return read_named(source, _opened, None, None, cache)


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yield the sparse matrix in an npz file as the only array of it."""
    import scipy.sparse

    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    check_memory(COPIES * size, f"a sparse matrix of {size:,} bytes in {path}")
    read_arrays(path)  # raises an error unless they are whole, and as large as they say
    yield {"matrix": by_rows(scipy.sparse.load_npz(path), path)}


def by_rows(matrix: Any, where: object) -> Any:
    """Return a sparse matrix of SciPy that can be sliced by rows.

    SciPy's compiled code believes the numbers of rows and columns that a file gives, so they are looked at before.
    """
    if hasattr(matrix, "check_format"):
        matrix.check_format(full_check=True)
    check_memory(COPIES * 8 * matrix.shape[0], f"a sparse matrix of {matrix.shape[0]:,} rows in {where}")
    return matrix.tocsr()
