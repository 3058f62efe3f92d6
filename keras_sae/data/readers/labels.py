"""Class numbers for the labels in data files, of rows that have one: integers, whole floats, booleans or text."""

import math
import pathlib
import re
from typing import Any

import numpy as np

from ...errors import InputError, NoLabelsError
from .bounds import LABEL_COPIES, check_memory

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MISSING = ("?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "<NA>")  # marks for a missing value in text
UNKNOWN = -1  # the class number of a row without a label


class Labels:
    """Labels that arrive some at a time, integers, floats without a fraction, booleans or text, and their classes."""

    def __init__(self, where: pathlib.Path | str) -> None:
        self.where = where
        self.count = 0
        self._found: dict[str, int] = {}  # name -> number, in the order in which the names were found
        self._numbers: list[np.ndarray] = []
        self._pending: list[Any] = []

    def append(self, value: Any) -> None:
        """Take one more label."""
        self._pending.append(value)
        if len(self._pending) == 10_000:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self.add(np.array(self._pending))
            self._pending = []

    def add(self, values: np.ndarray) -> None:
        """Take more labels, (examples,), NaN or "" where there is none. Raise InputError if one cannot be a class."""
        if values.dtype.kind not in "biufUSTO":
            raise InputError(
                f"Expected labels that are integers or text. Received: {values.dtype.name} in {self.where}. Convert "
                "them first."
            )
        self._check_floats(values)
        different, inverse = np.unique(values, return_inverse=True)
        names = [_class_name(value) for value in different.tolist()]
        numbers = [self._found.setdefault(name, len(self._found)) if name else UNKNOWN for name in names]
        self._numbers.append(np.array(numbers, "int64")[inverse])
        self.count += len(values)

    def add_array(self, values: np.ndarray) -> None:
        """Take more labels, an array that `check_array` has let pass."""
        self.add(np.asarray(values).reshape(-1))

    def _check_floats(self, values: np.ndarray) -> None:
        """Raise InputError if a float has a fraction."""
        if values.dtype.kind != "f":
            return
        broken = (values != np.floor(values)) & ~np.isnan(values)
        broken |= np.isinf(values)
        if broken.any():
            row = int(broken.argmax())
            self._fraction(values[row], self.count + row)

    def _fraction(self, value: Any, row: int) -> None:
        raise InputError(
            f"Expected classes as labels: whole numbers or text. Received: {value} in row {row + 1} (counted from 1) "
            f"of {self.where}. Name another column, or round the numbers."
        )

    def notes(self) -> list[str]:
        """Return a note if a class is called as a missing value is."""
        marks, numeric = self._marks()
        if numeric or not marks:
            return []
        return [f"{marks[0]!r} in {self.where} is a class; remove such rows if it marks a missing label"]

    def _marks(self) -> tuple[list[str], bool]:
        """Return the names that missing values have, and whether all others are numbers: they are no classes then."""
        marks = [name for name in self._found if name in _MISSING]
        return marks, all(_NUMBER.fullmatch(name) for name in self._found if name not in marks)

    def classes(self, rows: int) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return (class numbers, (examples,) int64, UNKNOWN where there is none, and class names) of all labels so far.

        Raise InputError if there are not as many labels as rows, or none at all.
        """
        self._flush()
        _check_count(self.count, rows, self.where)
        all_numbers = np.concatenate(self._numbers)
        marks, numeric = self._marks()
        given = [name for name in self._found if not (numeric and name in marks)]
        if not given:
            raise NoLabelsError(f"Expected a label for some rows. Received: none in {self.where}.")
        fractions = [name for name in given if numeric and not float(name).is_integer()]
        if fractions:  # of text: floats were checked as they came
            self._fraction(fractions[0], int((all_numbers == self._found[fractions[0]]).argmax()))
        names = sorted(given, key=lambda name: (float(name), name) if numeric else name)
        place = {name: number for number, name in enumerate(names)}
        # UNKNOWN is an index as well: of the last of these numbers.
        return np.array([place.get(name, UNKNOWN) for name in self._found] + [UNKNOWN])[all_numbers], tuple(names)


def _class_name(value: Any) -> str:
    """Return the name of a label's class: "3" for 3 and 3.0, "" for NaN; text without the spaces around it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace").strip()
    if isinstance(value, float):
        return "" if math.isnan(value) else str(int(value))
    return str(value).strip()


def class_numbers(values: np.ndarray, rows: int, where: pathlib.Path | str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (class numbers, class names) of all labels at once, an array as `check_array` has it."""
    check_array(values.shape, values.dtype, rows, where)
    labels = Labels(where)
    labels.add_array(values)
    return labels.classes(rows)


def check_array(shape: tuple[int, ...], dtype: np.dtype, rows: int, where: pathlib.Path | str) -> None:
    """Raise InputError unless an array holds a label for each of so many rows, (examples,), (examples, 1) or (1, ...).

    Its shape tells, before any of it is read.
    """
    if len(shape) != 1 and not (len(shape) == 2 and 1 in shape):
        raise InputError(f"Expected labels of shape (examples,). Received: shape {shape} in {where}.")
    _check_count(math.prod(shape), rows, where)
    check_memory(LABEL_COPIES * rows * dtype.itemsize, f"labels of {dtype.itemsize:,} bytes each in {where}")


def _check_count(count: int, rows: int, where: pathlib.Path | str) -> None:
    if count != rows:
        raise InputError(f"Expected one label for each of {rows:,} rows. Received: {count:,} in {where}.")
