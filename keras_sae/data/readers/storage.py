"""Files of rows: data are written to one piece by piece, and mapped from it, so that they need not fit into memory."""

import atexit
import contextlib
import dataclasses
import errno
import functools
import itertools
import pathlib
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ...errors import InputError
from ...files import check_space, write_aside
from ...locks import held, remove_abandoned
from . import rows

_PREFIX = "keras_sae-"  # of temporary directories


@functools.cache
def _temporary_folder() -> str:
    """Return the path of a directory that is deleted when the process ends, or, if it is killed, by a later one."""
    remove_abandoned(pathlib.Path(tempfile.gettempdir()), _PREFIX)
    opened = contextlib.ExitStack()
    folder = opened.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX))
    opened.enter_context(held(pathlib.Path(folder), folder))
    atexit.register(opened.close)
    return folder


def cache_file(cache: pathlib.Path | str | None, source: pathlib.Path | str, *options: Any) -> pathlib.Path:
    """Return the path for what is read from a source with these options.

    It is in the directory `cache`, or in a temporary one if that is None.
    """
    folder = pathlib.Path(_temporary_folder() if cache is None else cache)
    stem = re.sub(r"\W+", "-", pathlib.Path(source).name)[:40]
    return folder / f"{stem}-{zlib.crc32(repr((str(source), *options)).encode()):08x}.raw"


def chosen_columns(table: rows.Rows, columns: Sequence[int], cache: pathlib.Path | str | None = None) -> rows.Rows:
    """Return a table of these columns alone, in this order, which are written to a file of their own.

    cache: as for `read_rows`.
    """
    path = cache_file(cache, table.source, "columns", *map(int, columns))
    blocks = (block[:, columns] for _, block in rows.row_blocks(table.x))
    x = store(blocks, path, rows.Audit(table.source), len(table.x), table.x.dtype.name)
    names = tuple(table.feature_names[i] for i in columns)
    categories = {
        name: texts for name, texts in table.categories.items() if {f"{name}={text}" for text in texts} <= {*names}
    }
    return dataclasses.replace(table, x=x, feature_names=names, categories=categories)


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield a path to write to, which takes the place of `path` at the end. Raise InputError if writing fails."""
    cure = "Free some space, or name a directory on another disk as the cache."
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_aside(path) as aside:
            yield aside
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"Expected room for the data in {path.parent}. Received: a full disk. {cure}") from error
        raise InputError(
            f"Expected a directory that can be written to, for the data. Received: {path.parent} ({error.strerror})."
        ) from error


def store(
    batches: Iterable[np.ndarray], path: pathlib.Path, audit: rows.Audit, total: int = 0, dtype: str | None = None
) -> np.ndarray:
    """Write batches of rows, arrays (rows, features) of one type and width, to a file, and return it mapped.

    Args:
        batches: the rows, which `audit` checks as they are.
        path: the file.
        audit: the checks, which say what the rows are.
        total: the number of rows if it is known, so that there is room for them before the first is written.
        dtype: what numbers are rounded to, or None to write them as they are.
    """
    kept = np.zeros((0, 1), dtype or "uint8")
    with writing(path) as aside:
        with open(aside, "wb") as file:
            for batch in batches:
                first = audit.count == 0
                audit.add(batch)
                kept = np.ascontiguousarray(batch, dtype)
                if first:
                    rows.check_rows_shape((max(total, len(kept)), kept.shape[1]), audit.where)
                    check_space(path.parent, max(total, len(kept)) * kept[:1].nbytes)
                file.write(kept.data)
        rows.check_rows_shape((audit.count, kept.shape[1]), audit.where)
    return np.memmap(path, kept.dtype, "r", shape=(audit.count, kept.shape[1]))


def store_each(
    named: Iterable[tuple[Any, np.ndarray]],
    path: pathlib.Path,
    audit: rows.Audit,
    total: int = 0,
    cure: str = "",
    dtype: str | None = None,
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Write single examples, pairs (name, array) of one shape, to a file, and return (the file mapped, that shape).

    `cure` says what to do if they are of several shapes; the other arguments are those of `store`.
    """
    named = iter(named)
    first: Any = next(named, None)
    if first is None:
        rows.check_rows_shape((0, 1), audit.where)
    x = store(_batched(_one_shape(first, named, cure)), path, audit, total, dtype)
    return x, first[1].shape


def _one_shape(
    first: tuple[Any, np.ndarray], others: Iterator[tuple[Any, np.ndarray]], cure: str
) -> Iterator[np.ndarray]:
    """Yield the arrays of pairs (name, array) as rows. Raise InputError if one is unlike the first."""
    for name, array in itertools.chain([first], others):
        if array.shape != first[1].shape:
            raise InputError(
                f"Expected examples of one size. Received: {first[0]} of {_size(first[1])} and {name} of "
                f"{_size(array)}.{cure}"
            )
        if array.dtype != first[1].dtype:
            raise InputError(
                f"Expected examples of one type. Received: {first[0]} of {first[1].dtype} and {name} of {array.dtype}. "
                "Convert them to one."
            )
        yield array.reshape(-1)


def _size(array: np.ndarray) -> str:
    """Return the shape of an array for a message."""
    return " x ".join(map(str, array.shape))


def _batched(examples: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield arrays of some rows each, rows.CHUNK_BYTES or less if more than one fits."""
    first = next(examples)
    size = max(1, rows.CHUNK_BYTES // max(1, first.nbytes))
    examples = itertools.chain([first], examples)
    while batch := list(itertools.islice(examples, size)):
        yield np.stack(batch)
