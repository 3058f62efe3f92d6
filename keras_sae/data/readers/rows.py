"""Rows of numbers that need not fit into memory: they are written to a file piece by piece, mapped and checked."""

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
from ...extras import imported as imported
from ...files import check_space, forget, write_aside

CHUNK_BYTES = 2**24  # of rows are read or written at a time: enough for a fast disk, little beside a model
LARGEST = np.finfo("float32").max  # models compute in float32, in which a larger number is infinity
MISSING_VALUES = "Remove or fill in such rows."


@dataclasses.dataclass(frozen=True)
class Rows:
    """Data as rows of numbers, with class numbers if there are labels.

    Attributes:
        x: the numbers, (examples, features), a read-only np.memmap.
        y: the class numbers, (examples,) int64, or None.
        class_names: the names of the classes 0, 1, 2, ..., sorted (by number if all are integers).
        feature_names: the names of the columns if the rows are those of a table.
        image_shape: (height, width) or (height, width, 3) if the rows are images, else None.
        value_range: (lowest, highest) value that the format can hold, if that is known: (0, 255) of images of 8 bits.
            None for tables, arrays and deeper images, whose range only the data tell.
        source: one line that tells people where the data came from.
    """

    x: np.ndarray
    y: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    image_shape: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    source: str = ""


def image_range(x: np.ndarray) -> tuple[float, float] | None:
    """Return the range of decoded pixels if it is known: deeper images than 8 bits seldom use all that they have."""
    return (0, 255) if x.dtype == np.uint8 else None


# --- passes over rows ---


def row_blocks(x: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number of the first row, some rows) of an array (examples, ...), from its first row to its last."""
    size = max(1, CHUNK_BYTES // max(1, x[:1].nbytes))
    for start in range(0, len(x), size):
        yield start, x[start : start + size]
        forget(x)


def constant_columns(x: np.ndarray) -> np.ndarray:
    """Return the indices, int64, of the columns that hold one value in all rows: they teach a model nothing."""
    varies = np.zeros(x.shape[1], bool)
    for _, chunk in row_blocks(x):
        varies |= (chunk != x[0]).any(axis=0)
    return np.flatnonzero(~varies)


def counting_columns(x: np.ndarray) -> np.ndarray:
    """Return the indices, int64, of the columns that rise by 1 from row to row, as the numbers of the rows do."""
    counts = np.ones(x.shape[1], bool)
    for start, chunk in row_blocks(x):
        numbers = start + np.arange(len(chunk))[:, None]
        counts &= (chunk - x[0].astype("float64") == numbers).all(axis=0)
    return np.flatnonzero(counts)


# --- checks ---


def check_numbers(dtype: np.dtype, where: pathlib.Path | str) -> None:
    """Raise InputError unless values of this dtype are real numbers."""
    if dtype.kind not in "biuf":
        kinds = {"O": "Python objects", "c": "complex numbers", "U": "text", "S": "text", "M": "dates", "V": "records"}
        raise InputError(
            f"Expected real numbers. Received: {kinds.get(dtype.kind, dtype.name)} in {where}. Save them as numbers: "
            "x.astype('float32')."
        )


def check_rows_shape(shape: tuple[int, ...], where: pathlib.Path | str) -> None:
    """Raise InputError unless this is the shape of two rows or more with one feature or more."""
    if len(shape) < 2:
        raise InputError(
            f"Expected rows of numbers, (examples, features). Received: shape {shape} in {where}. Reshape it: "
            "x.reshape(examples, features)."
        )
    if 0 in shape[1:]:
        raise InputError(f"Expected one feature or more. Received: shape {shape} in {where}.")
    if shape[0] < 2:
        rows = "1 row" if shape[0] else "no rows"
        raise InputError(f"Expected two rows or more. Received: {rows} in {where}.")


def check_finite(
    x: np.ndarray, where: pathlib.Path | str, first_row: int = 0, feature_names: Sequence[str] = ()
) -> None:
    """Raise InputError if rows (examples, features) hold NaN, infinity or more than float32 can hold."""
    if x.dtype.kind != "f":
        return
    for start, chunk in row_blocks(x):
        wrong = ~(np.abs(chunk) <= LARGEST)  # NaN compares as False
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            name = repr(feature_names[column]) if feature_names else column + 1
            raise InputError(
                f"Expected finite numbers up to {LARGEST:.1e}, which float32 can hold. Received: {chunk[row, column]} "
                f"in column {name}, row {first_row + start + row + 1} (counted from 1) of {where}. {MISSING_VALUES}"
            )


# --- files of rows ---


@functools.cache
def _temporary_folder() -> str:
    """Return the path of a directory that is deleted when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="keras_sae-")
    atexit.register(folder.cleanup)
    return folder.name


def cache_file(cache: pathlib.Path | str | None, source: pathlib.Path | str, *options: Any) -> pathlib.Path:
    """Return the path for what is read from a source with these options.

    It is in the directory `cache`, or in a temporary one if that is None.
    """
    folder = pathlib.Path(_temporary_folder() if cache is None else cache)
    stem = re.sub(r"\W+", "-", pathlib.Path(source).name)[:40]
    return folder / f"{stem}-{zlib.crc32(repr((str(source), *options)).encode()):08x}.raw"


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
    batches: Iterable[np.ndarray],
    path: pathlib.Path,
    where: pathlib.Path | str,
    total: int = 0,
    feature_names: Sequence[str] = (),
) -> np.ndarray:
    """Write batches of rows, arrays (rows, features) of one type and width, to a file, and return it mapped.

    If the number of rows is known, `total` makes sure that there is room for them before the first is written.
    """
    count, batch = 0, np.zeros((0, 1), "uint8")
    with writing(path) as aside:
        with open(aside, "wb") as file:
            for batch in batches:
                if count == 0:
                    check_space(path.parent, max(total, len(batch)) * batch[:1].nbytes)
                check_finite(batch, where, count, feature_names)
                file.write(np.ascontiguousarray(batch).data)
                count += len(batch)
        check_rows_shape((count, batch.shape[1]), where)
    return np.memmap(path, batch.dtype, "r", shape=(count, batch.shape[1]))


def store_each(
    named: Iterable[tuple[Any, np.ndarray]],
    path: pathlib.Path,
    where: pathlib.Path | str,
    total: int = 0,
    cure: str = "",
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Write single examples, pairs (name, array) of one shape, to a file, and return (the file mapped, that shape)."""
    named = iter(named)
    first: Any = next(named, None)
    if first is None:
        check_rows_shape((0, 1), where)
    x = store(_batched(_one_shape(first, named, cure)), path, where, total)
    return x, first[1].shape


def _one_shape(
    first: tuple[Any, np.ndarray], others: Iterator[tuple[Any, np.ndarray]], cure: str
) -> Iterator[np.ndarray]:
    """Yield the arrays of pairs (name, array) as rows. Raise InputError if one is not of the shape of the first."""
    for name, array in itertools.chain([first], others):
        if array.shape != first[1].shape:
            raise InputError(
                f"Expected examples of one size. Received: {first[0]} of {_size(first[1])} and {name} of "
                f"{_size(array)}.{cure}"
            )
        yield array.reshape(-1)


def _size(array: np.ndarray) -> str:
    """Return the shape of an array for a message."""
    return " x ".join(map(str, array.shape))


def _batched(rows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield arrays of some rows each, CHUNK_BYTES or less if more than one fits."""
    first = next(rows)
    size = max(1, CHUNK_BYTES // max(1, first.nbytes))
    rows = itertools.chain([first], rows)
    while batch := list(itertools.islice(rows, size)):
        yield np.stack(batch)
