"""The columns of a table, csv or Parquet, as pyarrow has them: which are features, which holds the labels."""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import InputError
from ...extras import imported
from .bounds import check_memory
from .labels import Labels
from .named_arrays import flattened
from .number_texts import DECORATED, is_number, not_a_number
from .one_hot import Categories, encode, find_categories, is_text
from .rows import MISSING_VALUES, Audit, Rows
from .sources import Source
from .storage import cache_file, store

_NUMBERS = "bool|u?int|halffloat|float|double|decimal|null"  # an empty column is of type null: it reports what it lacks
_LABELS = "bool|u?int|halffloat|float|double|(large_)?string|dictionary<values=(large_)?string|null"

COLUMN_BYTES = 10_000  # that a column takes while it is read, its numbers aside

_LIST = re.compile("(large_|fixed_size_)?list<")


def some(names: Sequence[str]) -> str:
    """Return the first names of some for a message."""
    return ", ".join(names[:6]) + (f" and {len(names) - 6:,} more" if len(names) > 6 else "")


class Columns:
    """The columns of a table that are read.

    Args:
        schema: the schema of the table, as pyarrow has it.
        labels: the name of the column of labels, or None.
        source: the files of the table.
        features: the indices or the names of the columns to read, in this order, or None for all but the labels.
        ignore: the names of columns that are not to be read.
        one_hot: whether columns of texts become columns of 0 and 1, or their texts by their names, as known before.
    """

    def __init__(
        self,
        schema: Any,
        labels: str | None,
        source: Source,
        features: Sequence[int | str] | None = None,
        ignore: Sequence[str] | None = None,
        one_hot: bool | Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.labels, self.source = labels, source
        self._lengths: tuple[int, ...] = ()  # of the lists in the column that is read, and of those in them
        self.names_in_file, self.types = schema.names, schema.types
        self.names = [name.strip() for name in schema.names]
        self._places: dict[str, list[int]] = {}  # a name may be that of several columns
        for i, name in enumerate(self.names):
            self._places.setdefault(name, []).append(i)
        check_memory(COLUMN_BYTES * len(self.names), f"a table of {len(self.names):,} columns in {source}")
        self.label_column = None if labels is None else self.find(labels, "column of labels")
        ignored = {self.find(name, "column to ignore") for name in ignore or ()}
        others = [i for i in range(len(self.names)) if i != self.label_column and i not in ignored]
        self.features = others if features is None else self._indices(features)
        if not self.features:
            raise InputError(
                f"Expected one column of numbers or more. Received: no others than {labels!r} in {source}."
            )
        self.one_hot = bool(one_hot)
        known = one_hot if isinstance(one_hot, Mapping) else {}
        self.categories: Categories = {self.find(name, "column"): tuple(texts) for name, texts in known.items()}

    def find(self, name: str, role: str) -> int:
        """Return the index of a column. Raise InputError if not just one has this name."""
        places = self._places.get(name, [])
        if len(places) != 1:
            found = ", ".join(self.names[:6]) + ", ..." * (len(self.names) > 6)
            raise InputError(
                f"Expected one {role} named {name!r} in {self.source}. Received: {len(places) or 'none'} "
                f"among the {len(self.names)} columns {found}."
            )
        return places[0]

    def _indices(self, features: Sequence[int | str]) -> list[int]:
        """Return the indices of columns. Raise InputError that names all that are not there."""
        missing = [name for name in features if isinstance(name, str) and name not in self._places]
        if missing:
            wanted = some([str(name) for name in features])
            raise InputError(
                f"Expected the columns {wanted}. Received: {self.source} without {some(missing)}. Add what is missing, "
                "or give the columns these names."
            )
        return [self.find(name, "column") if isinstance(name, str) else name for name in features]

    def not_numbers(self) -> list[int]:
        """Return the features whose type is none of numbers."""
        return [i for i in self.features if i in self.categories or not re.match(_NUMBERS, str(self.types[i]))]

    def texts(self) -> list[int]:
        """Return the features that are to become columns of 0 and 1."""
        return [i for i in self.not_numbers() if is_text(self.types[i])] if self.one_hot else []

    def find_categories(self, batches: Iterable[tuple[pathlib.Path, int, Any]]) -> None:
        """Learn the texts of the columns that are to become columns of 0 and 1, unless they are known."""
        if self.texts() and not self.categories:
            self.categories = find_categories(batches, {i: self.names[i] for i in self.texts()})

    def feature_names(self) -> tuple[str, ...]:
        """Return the names of the columns of the rows."""
        return tuple(
            name
            for i in self.features
            for name in [f"{self.names[i]}={text}" for text in self.categories.get(i, ())] or [self.names[i]]
        )

    def check(self, first: Any, file: pathlib.Path, point: str = ".") -> None:
        """Raise InputError if a feature does not hold numbers, or has no name of its own.

        `first` are the first rows, of `file`, or None; `point` is what begins fractions in texts.
        """
        others = self.not_numbers()
        for i in others if first is not None else ():
            if i not in self.categories and is_text(first.column(i).type):
                self._check_texts(first.column(i).to_pylist(), i, file, point)
        texts = {*self.texts()}
        others = [i for i in others if i not in texts]
        if others:
            described = [f"{self.names[i]!r} ({self.types[i]}{_example(first, i)})" for i in others]
            raise InputError(
                f"Expected columns of numbers. Received: {some(described)} in {self.source}. Leave these columns out "
                "(ignore=...), have texts read as columns of 0 and 1 (one_hot=True), write them as numbers, or name "
                "one of them as the column of labels."
            )
        for i in self.features:
            if (number := len(self._places[self.names[i]])) > 1 and self.names[i]:
                raise InputError(
                    f"Expected columns of different names, by which they are found again. Received: {self.names[i]!r} "
                    f"{number} times in {self.source}. Rename all but one."
                )
            if self.names[i] == "" or self.names[i].startswith("__index_level_"):
                cure = "if it is pandas' index, save the table with index=False"
                if 0 < i == len(self.names) - 1:
                    cure = "if nothing is in it, remove the separator at the end of the lines"
                raise InputError(
                    f"Expected a name for every column. Received: {self.names[i]!r}, column {i + 1} of {self.source}: "
                    f"{cure}."
                )

    def _check_texts(self, texts: list[str | None], i: int, file: pathlib.Path, point: str) -> None:
        """Raise InputError that shows the first text in a column that is no number, if others are."""
        numbers = [text is not None and is_number(text, point) for text in texts]
        odd = next((row for row, text in enumerate(texts) if text and not numbers[row]), None)
        if odd is not None and (any(numbers) or DECORATED.fullmatch(str(texts[odd]).strip())):
            raise not_a_number(str(texts[odd]), self.names[i], odd + 1, file)

    def read(
        self, batches: Iterable[tuple[pathlib.Path, int, Any]], cache: pathlib.Path | str | None, total: int = 0
    ) -> Rows:
        """Return all rows of the table.

        Args:
            batches: (file, number of its first row, rows as a RecordBatch of pyarrow).
            cache: as for `read_rows`.
            total: the number of rows, if it is known.
        """
        labels = Labels(f"column {self.labels!r} of {self.source}")
        kinds = {"float" if i in self.categories else _value_type(self.types[i]) for i in self.features}
        kept = "uint8" if kinds == {"uint8"} else "float32"
        exact = kept if kinds <= {"uint8", "halffloat", "float"} else "float64"
        names = () if self._is_matrix() else self.feature_names()

        def arrays() -> Iterator[np.ndarray]:
            for file, row, batch in batches:
                if self.label_column is not None:
                    labels.add(self.labels_of(batch, file))
                if self._is_matrix():
                    yield self._matrix(batch, file, row)
                else:
                    yield self._numbers(batch, exact, file, row)

        audit = Audit(self.source, names)
        target = cache_file(cache, self.source.name, list(self.source.files), self.labels, self.features, names)
        x = store(arrays(), target, audit, total, kept)
        y, class_names = (None, ()) if self.labels is None else labels.classes(len(x))
        shape = (len(x), *self._lengths)
        notes = (*self.source.notes, *labels.notes(), *(flattened(shape) if self._lengths else ()), *audit.notes())
        what = f"column {self.names[self.features[0]]}" if self._is_matrix() else "columns"
        categories = {self.names[i]: texts for i, texts in self.categories.items()}
        source = f"{what} of {self.source}"
        return Rows(x, y, class_names, names, source=source, notes=notes, categories=categories)

    def _is_matrix(self) -> bool:
        return is_list(self.types[self.features[0]])

    def _numbers(self, batch: Any, dtype: str, file: pathlib.Path, first_row: int) -> np.ndarray:
        """Return the features of a batch, (rows, features)."""
        x, place = np.empty((batch.num_rows, len(self.feature_names())), dtype), 0
        for i in self.features:
            column = self._column(batch, i, file, first_row)[:, None]
            if i in self.categories:
                column = encode(column[:, 0], self.categories[i], self.names[i], file, first_row)
            x[:, place : place + column.shape[1]] = column
            place += column.shape[1]
        return x

    def _matrix(self, batch: Any, file: pathlib.Path, first_row: int) -> np.ndarray:
        """Return a column of lists of one length, or of lists of such lists, as (rows, numbers)."""
        i, compute = self.features[0], imported("pyarrow.compute")
        values, depth, per_row = batch.column(i), 0, 1
        while _LIST.match(str(values.type)):
            self.check_present(values, i, file, first_row, per_row)
            lengths = compute.list_value_length(values).to_numpy(zero_copy_only=False)
            if depth == len(self._lengths):
                self._lengths += (int(lengths[0]) if len(lengths) else 0,)
            if (different := lengths != self._lengths[depth]).any():
                place = int(different.argmax())
                raise InputError(
                    f"Expected lists of one length in column {self.names[i]!r}. Received: {self._lengths[depth]} in "
                    f"row 1 and {lengths[place]} in row {first_row + place // per_row + 1} (counted from 1) of {file}. "
                    "Pad or cut them first."
                )
            values, per_row, depth = values.flatten(), per_row * self._lengths[depth], depth + 1
        self.check_present(values, i, file, first_row, per_row)
        values = values.cast("double") if str(values.type).startswith("decimal") else values
        return values.to_numpy(zero_copy_only=False).reshape(batch.num_rows, per_row)

    def _column(self, batch: Any, i: int, file: pathlib.Path, first_row: int) -> np.ndarray:
        """Return column i of a batch. Raise InputError if a value is missing."""
        column = batch.column(i)
        self.check_present(column, i, file, first_row)
        kind = str(column.type)
        if kind.startswith("dictionary"):
            return _decoded(column)
        return (column.cast("double") if kind.startswith("decimal") else column).to_numpy(zero_copy_only=False)

    def check_present(self, column: Any, i: int, file: pathlib.Path, first_row: int, per_row: int = 1) -> None:
        """Raise InputError if a value is missing in column i of a batch, which has so many values in each row."""
        if column.null_count:
            row = first_row + column.is_null().to_numpy(zero_copy_only=False).argmax() // per_row
            raise InputError(
                f"Expected a value in every row. Received: none in column {self.names[i]!r}, row {row + 1} (counted "
                f"from 1) of {file}. {MISSING_VALUES}"
            )

    def labels_of(self, batch: Any, file: pathlib.Path) -> np.ndarray:
        """Return the labels of a batch, as `Labels` takes them. Raise InputError if they cannot be classes."""
        column = batch.column(self.names.index(str(self.labels)))
        kind = str(column.type)
        if not re.match(_LABELS, kind):
            raise InputError(
                f"Expected labels that are integers or UTF-8 text. Received: {kind} in column {self.labels!r} of "
                f"{file}. Convert them first."
            )
        if kind.startswith("dictionary"):
            return np.array(["" if label is None else label for label in _decoded(column)], object)
        if column.null_count and not str(column.type).startswith(("float", "double", "half")):
            return np.array(["" if label is None else str(label) for label in column.to_pylist()])
        return column.to_numpy(zero_copy_only=False)


def _decoded(column: Any) -> np.ndarray:
    """Return the texts of a dictionary column of pyarrow, None where there is none: each once, however long it is."""
    texts = np.array([*column.dictionary.to_pylist(), None], object)
    return texts[column.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


def is_list(kind: Any) -> bool:
    """Return whether a type of pyarrow is one of lists of numbers, or of lists of such lists."""
    return _LIST.match(str(kind)) is not None and re.match(_NUMBERS, _value_type(kind)) is not None


def _value_type(kind: Any) -> str:
    return _value_type(kind.value_type) if _LIST.match(str(kind)) else str(kind)


def _example(batch: Any, i: int) -> str:
    """Return the first value of a column for a message, or nothing if there are no rows."""
    return f": {str(batch.column(i)[0].as_py())[:20]!r}" if batch is not None and batch.num_rows else ""


def with_left_out(rows: Rows, columns: Columns) -> Rows:
    """Return the rows with a note on the columns that were not read."""
    read = {columns.label_column, *columns.features}
    others = [name for i, name in enumerate(columns.names) if i not in read]
    return dataclasses.replace(rows, notes=(*rows.notes, f"left out: {some(others)}")) if others else rows
