"""A reader of sparse matrices that scipy wrote with save_npz."""

import contextlib
import pathlib
import zipfile
from collections.abc import Container, Iterator
from typing import Any

from ...errors import InputError
from .containers import read_containers
from .rows import Rows
from .sources import Source


def is_matrix(names: Container[str]) -> bool:
    """Return whether these are the names of the arrays that scipy keeps a sparse matrix in."""
    return all(name in names for name in ("format", "shape", "data"))


def read_matrix(source: Source, option: str | None, cache: pathlib.Path | str | None) -> Rows:
    """Return a sparse matrix in npz files as rows of all its numbers; `option` is a name that was asked for."""
    if option is not None:
        raise InputError(
            f"Expected no name of an array for a sparse matrix, which is alone in its file. Received: {option!r} for "
            f"{source}. Save labels and matrix as dense arrays in one npz file, or leave the name out."
        )
    return read_containers(source, _opened, None, None, cache)


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yield the sparse matrix in an npz file as the only array of it."""
    import scipy.sparse

    try:
        matrix = scipy.sparse.load_npz(path).tocsr()
    except (ValueError, KeyError, NotImplementedError, zipfile.BadZipFile) as error:
        raise InputError(
            f"Expected a sparse matrix as scipy.sparse.save_npz writes it. Received: {path}: {error}. Save it again."
        ) from error
    yield {"matrix": matrix}
