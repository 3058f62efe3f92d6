"""A reader of sparse matrices that scipy wrote with save_npz."""

import contextlib
import pathlib
from collections.abc import Container, Iterator
from typing import Any

from ...errors import InputError
from .named_arrays import read_named
from .rows import Rows
from .sources import Source


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

    yield {"matrix": scipy.sparse.load_npz(path).tocsr()}
