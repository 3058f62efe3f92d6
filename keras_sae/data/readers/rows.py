"""Rows of numbers, and what they are checked for while they pass."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ...errors import InputError
from ...extras import imported as imported
from ...files import forget
from .. import fingerprints
from .bounds import VALUE_BYTES, check_memory

CHUNK_BYTES = 2**24  # of rows are read or written at a time: enough for a fast disk, little beside a model
LARGEST = np.finfo("float32").max  # models compute in float32, in which a larger number is infinity
NOISE = 1e-13  # relative differences that computing in float64 leaves behind
MISSING_VALUES = "Remove or fill in such rows."


@dataclasses.dataclass(frozen=True, repr=False)
class Rows:
    """Data as rows of numbers, with class numbers if there are labels.

    Attributes:
        x: the numbers, (examples, features), a read-only np.memmap.
        y: the class numbers, (examples,) int64, -1 where a row has no label, or None.
        class_names: the names of the classes 0, 1, 2, ..., sorted (by number if all are integers).
        feature_names: the names of the columns if the rows are those of a table.
        categories: name of a column of texts -> its texts, each a column of 0 and 1 named column=text.
        image_shape: (height, width) or (height, width, 3) if the rows are images, else None.
        value_range: (lowest, highest) value that the format can hold, if that is known: (0, 255) of images of 8 bits.
            None for tables, arrays and deeper images, whose range only the data tell.
        source: one line that tells people where the data came from.
        notes: what was left out, changed or lost, and what may not be meant, a line each.
        files: (name, bytes) of the files that were read, in their order.
    """

    x: np.ndarray
    y: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    image_shape: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    source: str = ""
    notes: tuple[str, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    files: tuple[tuple[str, int], ...] = ()

    def __repr__(self) -> str:
        classes = f", {len(self.class_names):,} classes" if self.class_names else ""
        notes = f", {len(self.notes):,} notes" if self.notes else ""
        return f"Rows({len(self.x):,} of {self.x.shape[1]:,} features, {self.x.dtype}{classes}{notes}; {self.source})"

    def fingerprint(self) -> dict[str, str]:
        """Return what these data are known by when they are read again, see `fingerprints`, in a pass over the rows."""
        digest = None
        for _, block in row_blocks(self.x):
            digest = fingerprints.of_array(block, digest)
        names, sizes = [name for name, _ in self.files], [size for _, size in self.files]
        found = fingerprints.of(names_of_files=names, sizes_of_files=sizes, columns=[*self.feature_names])
        labels = {} if self.y is None else fingerprints.of(labels=self.y, classes=[*self.class_names])
        return {**found, "rows": digest.hexdigest() if digest else "", **labels}


def image_range(x: np.ndarray) -> tuple[float, float] | None:
    """Return the range of decoded pixels if it is known: deeper images than 8 bits seldom use all that they have."""
    return (0, 255) if x.dtype == np.uint8 else None


def row_blocks(x: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number of the first row, some rows) of an array (examples, ...), from its first row to its last."""
    size = max(1, CHUNK_BYTES // max(1, x[:1].nbytes))
    for start in range(0, len(x), size):
        yield start, x[start : start + size]
        forget(x)


def constant_columns(x: np.ndarray) -> np.ndarray:
    """Return the indices, int64, of the columns that hold one value in all rows, as float32: they teach nothing."""
    varies, first = np.zeros(x.shape[1], bool), _as_float32(x[0])
    for _, chunk in row_blocks(x):
        varies |= (_as_float32(chunk) != first).any(axis=0)
    return np.flatnonzero(~varies)


def counting_columns(x: np.ndarray) -> np.ndarray:
    """Return the indices, int64, of the columns that rise by 1 from row to row, as the numbers of the rows do."""
    counts = np.ones(x.shape[1], bool)
    for start, chunk in row_blocks(x):
        numbers = start + np.arange(len(chunk))[:, None]
        counts &= (chunk - x[0].astype("float64") == numbers).all(axis=0)
    return np.flatnonzero(counts)


def _as_float32(x: np.ndarray) -> np.ndarray:
    """Return numbers as models compute with them. uint8, which float32 holds, stays as it is, for speed."""
    return x if x.dtype == np.uint8 else x.astype("float32", copy=False)


def check_numbers(dtype: np.dtype, where: object) -> None:
    """Raise InputError unless values of this dtype are real numbers."""
    if dtype.kind in "biuf":
        return
    kinds = {"O": "Python objects", "c": "complex numbers", "U": "text", "S": "text", "M": "dates", "m": "durations"}
    found = kinds.get(dtype.kind, "records" if dtype.names else dtype.name)
    if dtype.kind == "V" and not dtype.names:
        kind = {1: ", as float8 is saved", 2: ", as bfloat16 is saved"}.get(dtype.itemsize, "")
        found = f"values of {dtype.itemsize} bytes that NumPy has no name for ({dtype.str}{kind})"
    raise InputError(f"Expected real numbers. Received: {found} in {where}. Save them as numbers: x.astype('float32').")


def check_rows_shape(shape: tuple[int, ...], where: object) -> None:
    """Raise InputError unless this is the shape of one row or more with one feature or more, and not too many."""
    if len(shape) < 2:
        raise InputError(
            f"Expected rows of numbers, (examples, features). Received: shape {shape} in {where}. Reshape it: "
            "x.reshape(examples, features)."
        )
    if 0 in shape[1:]:
        raise InputError(f"Expected one feature or more. Received: shape {shape} in {where}.")
    if shape[0] == 0:
        raise InputError(f"Expected one row or more. Received: no rows in {where}.")
    features = math.prod(shape[1:])
    check_memory(VALUE_BYTES * features, f"rows of {features:,} numbers in {where}")


class Audit:
    """What rows are checked for while they pass: that float32 holds them, and what varies in them.

    Args:
        where: what the rows are, for messages.
        feature_names: the names of their columns, if those have names.
    """

    def __init__(self, where: object, feature_names: Sequence[str] = ()) -> None:
        self.where, self.feature_names = where, feature_names
        self.count = 0
        self._last: np.ndarray | None = None
        self._changes = self._changes_in_float32 = np.zeros(1, "int64")

    def add(self, x: np.ndarray) -> None:
        """Take the next rows, (rows, features). Raise InputError if one is NaN, infinite or too large for float32."""
        for _, chunk in row_blocks(x):
            if chunk.dtype.kind == "f":
                self._check_finite(chunk)
            if chunk.dtype.itemsize >= 4 and chunk.dtype != np.float32:
                self._compare(chunk)
            self.count += len(chunk)

    def _check_finite(self, chunk: np.ndarray) -> None:
        wrong = ~(np.abs(chunk) <= LARGEST)  # NaN compares as False
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise InputError(
                f"Expected finite numbers up to {LARGEST:.1e}, which float32 can hold. Received: {chunk[row, column]} "
                f"in {self._name(column)}, row {self.count + row + 1} (counted from 1) of {self.where}. "
                f"{MISSING_VALUES}"
            )

    def _compare(self, chunk: np.ndarray) -> None:
        """Count the values that differ from those in the row before, and how many of them do so in float32.

        Smaller differences than NOISE are what computing in float64 leaves behind.
        """
        rows = chunk if self._last is None else np.concatenate([self._last, chunk])
        rows, rounded = rows.astype("float64", copy=False), rows.astype("float32")
        changed = np.abs(np.diff(rows, axis=0)) > NOISE * np.abs(rows[1:])
        self._changes = self._changes + changed.sum(axis=0)
        self._changes_in_float32 = self._changes_in_float32 + (changed & (rounded[1:] != rounded[:-1])).sum(axis=0)
        self._last = chunk[-1:].copy()

    def _name(self, column: int) -> str:
        return f"column {self.feature_names[column]!r}" if self.feature_names else f"column {column + 1}"

    def notes(self) -> list[str]:
        """Return a note if columns lose some of what varies in them when they become float32."""
        lost = np.flatnonzero(self._changes_in_float32 < 0.99 * self._changes)
        if not len(lost):
            return []
        first = lost[0]
        counts = (self._changes[first], self._changes_in_float32[first])
        some = ", ".join(map(self._name, lost[:6])) + (f" and {len(lost) - 6:,} more" if len(lost) > 6 else "")
        return [
            f"float32, in which models compute, loses what varies in {some}: {self._name(first)} changes {counts[0]:,} "
            f"times from row to row, in float32 {counts[1]:,} times; subtract its least value first"
        ]
