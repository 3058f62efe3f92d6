"""Readers of tables, csv and Parquet, which pyarrow reads some rows at a time."""

import contextlib
import csv
import io
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ...errors import InputError
from ...extras import imported
from .labels import Labels
from .rows import CHUNK_BYTES, MISSING_VALUES, Rows, cache_file, store

BLOCK_BYTES = 2**21  # of a csv file at a time; the first block decides the types; pyarrow reads 32 blocks ahead
ROW_BYTES = 16  # that a row takes at most, for each byte of the line of names
DELIMITERS = ",;\t|"

_CONVERSION = re.compile(r"In CSV column #(\d+): Row #(\d+): CSV conversion error to \w+: invalid value '(.*)'", re.S)


def read_csv(path: pathlib.Path, labels: str | None = None, cache: pathlib.Path | str | None = None) -> Rows:
    """Return the columns of a csv file with a line of names, gzipped or not. `labels` is the name of a column.

    Values are separated by commas, semicolons, tabs or bars, whichever the first line has most of.
    """
    arrow, reader = imported("pyarrow"), imported("pyarrow.csv")
    with _reading(path):
        delimiter, length = _first_line(arrow, path)

        def opened(types: dict[str, Any] | None = None) -> Any:
            return reader.open_csv(
                str(path),
                reader.ReadOptions(
                    block_size=max(BLOCK_BYTES, ROW_BYTES * length),  # a block has to hold a complete row
                    use_threads=False,  # with threads, errors do not name the row
                ),
                reader.ParseOptions(delimiter=delimiter),
                reader.ConvertOptions(column_types=types),
            )

        with opened() as table:
            columns = _Columns(table.schema, next(iter(table), None), labels, path)
        with opened(columns.csv_types()) as table:
            return columns.read(table, cache)


def read_parquet(path: pathlib.Path, labels: str | None = None, cache: pathlib.Path | str | None = None) -> Rows:
    """Return the columns of a Parquet file, or of all Parquet files in a directory in the order of their names.

    `labels` is the name of a column.
    """
    parquet = imported("pyarrow.parquet")
    files = parquet_parts(path) if path.is_dir() else [path]
    with _reading(path):
        schemas = [parquet.read_schema(file) for file in files]
        different = [file.name for file, schema in zip(files, schemas, strict=True) if not schema.equals(schemas[0])]
        if different:
            raise InputError(
                f"Expected Parquet files of the same columns and types. Received: {files[0]} and {different[0]}, which "
                "differ. Keep only those of one table in the directory."
            )
        with parquet.ParquetFile(files[0], pre_buffer=False) as table:
            columns = _Columns(schemas[0], next(table.iter_batches(batch_size=1), None), labels, path)
        size = max(1, CHUNK_BYTES // (8 * len(columns.names)))
        total = sum(parquet.read_metadata(file).num_rows for file in files)
        return columns.read(_batches(parquet, files, size), cache, total)


def parquet_parts(directory: pathlib.Path) -> list[pathlib.Path]:
    """Return the Parquet files in a directory by name, without hidden ones, which data engines do not read either."""
    return sorted(directory.glob("[!._]*.parquet"))


def _batches(parquet: Any, files: list[pathlib.Path], size: int) -> Iterator[Any]:
    """Yield the rows of Parquet files as record batches of pyarrow."""
    for file in files:
        with parquet.ParquetFile(file, pre_buffer=False) as table:
            yield from table.iter_batches(batch_size=size)


@contextlib.contextmanager
def _reading(path: pathlib.Path, names: Sequence[str] = ()) -> Iterator[None]:
    """Raise InputError, one line with the name of the column, if pyarrow raises an error."""
    arrow = imported("pyarrow")
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(
            f"Expected text in UTF-8. Received: {path}, which has other bytes ({error.reason}). Save it as UTF-8, for "
            "example with iconv."
        ) from error
    except (arrow.ArrowException, OSError, csv.Error) as error:
        found = _CONVERSION.search(str(error))
        if found and names:
            column, row, value = int(found[1]), int(found[2]) - 1, found[3]
            raise InputError(
                f"Expected values in column {names[column]!r} like those in its first rows. Received: {value[:40]!r} "
                f"in row {row} (counted from 1) of {path}. Correct or drop that row or column."
            ) from error
        raise InputError(
            f"Expected a table that pyarrow can read. Received: {path}, which it cannot: {' '.join(str(error).split())}"
        ) from error


def _first_line(arrow: Any, path: pathlib.Path) -> tuple[str, int]:
    """Return (the delimiter of a csv file, the length of its first line). Raise InputError if that holds no names."""
    with arrow.input_stream(str(path)) as stream, io.TextIOWrapper(stream, "utf-8-sig") as text:
        line = next((line for line in text if line.strip()), None)
    if line is None:
        raise InputError(f"Expected a csv file with a line of names and rows of numbers. Received: {path}, empty.")
    delimiter = max(DELIMITERS, key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    counted = [str(i) for i in range(len(names) + 1)]
    if all(map(_is_number, names)) and names not in (counted[:-1], counted[1:]):
        raise InputError(
            f"Expected a first line with the names of the columns. Received: numbers only, {', '.join(names[:3])}, ... "
            f"in the first line of {path}. Write a line of names above it."
        )
    return delimiter, len(line)


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(float(text)) or True
    return False


class _Columns:
    """The columns of a table: those that are features, and the one that holds the labels.

    Args:
        schema: the schema of the table, as pyarrow has it.
        first: the first rows, a RecordBatch of pyarrow, or None.
        labels: the name of the column of labels, or None.
        path: the file or directory of the table.
    """

    def __init__(self, schema: Any, first: Any, labels: str | None, path: pathlib.Path) -> None:
        self.labels, self.path = labels, path
        self.names_in_file, self.types = schema.names, schema.types
        self.names = [name.strip() for name in schema.names]
        self.label_column = self._find(labels) if labels is not None else None
        self.features = [i for i in range(len(self.names)) if i != self.label_column]
        self._check_numeric(first)
        self._check_index()
        if not self.features:
            raise InputError(f"Expected one column of numbers or more. Received: no others than {labels!r} in {path}.")

    def _find(self, labels: str) -> int:
        """Return the index of the column of labels. Raise InputError if not just one has this name."""
        if self.names.count(labels) != 1:
            found = ", ".join(self.names[:6]) + ", ..." * (len(self.names) > 6)
            raise InputError(
                f"Expected one column of labels named {labels!r} in {self.path}. Received: "
                f"{self.names.count(labels) or 'none'} among the {len(self.names)} columns {found}."
            )
        return self.names.index(labels)

    def _check_numeric(self, first: Any) -> None:
        """Raise InputError if a feature does not hold numbers."""
        others = [i for i in self.features if not _is_numeric(self.types[i])]
        if not others:
            return
        described = [f"{self.names[i]!r} ({self.types[i]}{_example(first, i)})" for i in others[:6]]
        more = f" and {len(others) - 6} more" if len(others) > 6 else ""
        raise InputError(
            f"Expected columns of numbers. Received: {', '.join(described)}{more} in {self.path}. Drop these columns, "
            "write them as numbers, or name one of them as the column of labels."
        )

    def _check_index(self) -> None:
        """Raise InputError if a feature has no name or is the index of a data frame."""
        for i in self.features:
            if self.names[i] == "" or self.names[i].startswith("__index_level_"):
                raise InputError(
                    f"Expected a name for every column. Received: {self.names[i]!r}, column {i + 1} of {self.path}: if "
                    "it is pandas' index, save the table with index=False."
                )

    def csv_types(self) -> dict[str, Any]:
        """Return the types to read a csv file with: a feature may hold integers at first and fractions later."""
        double = imported("pyarrow").float64()
        return {
            name: kind if kind == "bool" or i == self.label_column else double
            for i, (name, kind) in enumerate(zip(self.names_in_file, self.types, strict=True))
        }

    def read(self, batches: Iterable[Any], cache: pathlib.Path | str | None, total: int = 0) -> Rows:
        """Return all rows of the table, which pyarrow's `batches` hold; `total` is their number if it is known."""
        labels = Labels(f"column {self.labels!r} of {self.path}")
        kinds = {str(self.types[i]) for i in self.features}
        dtype = "uint8" if kinds == {"uint8"} else "float32"
        feature_names = tuple(self.names[i] for i in self.features)

        def arrays() -> Iterator[np.ndarray]:
            row = 0
            with _reading(self.path, self.names):  # here, as `store` would take it for an error of writing
                for batch in batches:
                    if self.label_column is not None:
                        labels.add(self._labels(batch, self.label_column, row))
                    yield self._numbers(batch, dtype, row)
                    row += batch.num_rows

        x = store(arrays(), cache_file(cache, self.path, self.labels), self.path, total, feature_names)
        y, class_names = (None, ()) if self.labels is None else labels.classes(len(x))
        return Rows(x, y, class_names, feature_names, source=f"columns of {self.path}")

    def _numbers(self, batch: Any, dtype: str, first_row: int) -> np.ndarray:
        """Return the features of a batch, (rows, features)."""
        x = np.empty((batch.num_rows, len(self.features)), dtype)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, which `store` reports
            for place, i in enumerate(self.features):
                x[:, place] = self._column(batch, i, first_row)
        return x

    def _column(self, batch: Any, i: int, first_row: int) -> np.ndarray:
        """Return column i of a batch. Raise InputError if a value is missing."""
        column = batch.column(i)
        if column.null_count:
            row = first_row + column.is_null().to_numpy(zero_copy_only=False).argmax() + 1
            raise InputError(
                f"Expected a value in every row. Received: none in column {self.names[i]!r}, row {row} (counted from "
                f"1) of {self.path}. {MISSING_VALUES}"
            )
        kind = str(column.type)
        if kind.startswith("dictionary"):
            column = column.dictionary_decode()
        return (column.cast("double") if kind.startswith("decimal") else column).to_numpy(zero_copy_only=False)

    def _labels(self, batch: Any, i: int, first_row: int) -> np.ndarray:
        """Return the labels of a batch, its column i. Raise InputError if they are of a type that cannot be a class."""
        kind = str(batch.column(i).type)
        if not re.match(
            "bool|u?int|halffloat|float|double|(large_)?string|dictionary<values=(large_)?string|null", kind
        ):
            raise InputError(
                f"Expected labels that are integers or UTF-8 text. Received: {kind} in column {self.labels!r} of "
                f"{self.path}. Convert them first."
            )
        return self._column(batch, i, first_row)


def _is_numeric(kind: Any) -> bool:
    """Return whether a type of pyarrow holds numbers. An empty column does; `_column` reports its missing values."""
    return re.match("bool|u?int|halffloat|float|double|decimal|null", str(kind)) is not None


def _example(batch: Any, i: int) -> str:
    """Return the first value of a column for a message, or nothing if there are no rows."""
    return f": {str(batch.column(i)[0].as_py())[:20]!r}" if batch is not None and batch.num_rows else ""
