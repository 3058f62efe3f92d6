"""An output while it is written: a directory of Parquet parts, a .csv or .npy file. A kill at any moment loses no row.

An output grows in the working directory .NAME.partial beside its place, which holds
    NAME             the output so far, written a part at a time
    progress.json    how many of its rows are on the disk for certain, and the settings that they were computed with
    rows/            what the reader writes, deleted when a command starts and ends
A complete output is renamed to its place, and then the working directory is deleted.
"""

import abc
import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_sae import locks
from keras_sae.data.readers.rows import Rows, imported
from keras_sae.errors import InputError
from keras_sae.files import check_space, to_disk, write_aside

from . import progress
from .columns import Arrays, column_names, label_values, labels_of

PART_BYTES = 2**25  # a part is in memory twice: while it is computed, and while it is written
CSV_BLOCK_BYTES = 2**22  # that is read at a time
PART_ROWS = 2**17  # bounds what a kill costs if a row is only a few numbers
FILES = (".csv", ".npy")  # the others are directories of Parquet files


class Output(abc.ABC):
    """An output in its working directory. place: where it will be.  path: where it grows.  rows: how many are done."""

    def __init__(self, place: pathlib.Path, labels: str | None):
        """labels: the name of the labels in the data, or None."""
        self.place, self.labels, self.rows = place, labels, 0
        self.beside = place.with_name(f"{place.stem}.labels.npy") if labels and place.suffix == ".npy" else None
        self.directory = place.parent / f".{place.name}.partial"
        self.path, self.cache = self.directory / place.name, self.directory / "rows"
        self._settings: dict[str, Any] = {}

    @contextlib.contextmanager
    def opened(self, settings: dict[str, Any], overwrite: bool) -> Iterator[None]:
        """Hold the working directory for this process, and keep it at the end only if there are rows in it.

        settings: all that the output depends on, by the names that messages use.  Raises InputError if the output
        exists and may not be overwritten, was begun with other settings, or is being written by another process.
        """
        with locks.held(self.directory, self.place):
            shutil.rmtree(self.cache, ignore_errors=True)
            self.rows, self._settings = progress.read(self.directory, self.path)
            try:
                self._refuse_what_exists(overwrite)
                self._compare(settings)
                yield
            except OSError as error:  # errors of writing name no file
                error.filename = error.filename or str(self.directory)
                raise
            finally:
                shutil.rmtree(self.cache if self.rows else self.directory, ignore_errors=True)

    def _refuse_what_exists(self, overwrite: bool) -> None:
        # The file beside it is written when all rows are done, and may then be that of a command that was killed.
        all_done = self.rows == self._settings.get("number of rows")
        for path in (self.place, self.beside):
            if path and path.exists() and not overwrite and not (all_done and path == self.beside):
                raise InputError(
                    f"Expected a new place to write to. Received: {path}, which exists. Nothing was changed. Name "
                    "another, or add --overwrite."
                )
        parts = self.place.glob("part-*.parquet")
        if self.place.is_dir() and (self.place.suffix in FILES or {*self.place.iterdir()} - {*parts}):
            raise InputError(
                f"Expected an output of the same kind to overwrite. Received: {self.place}, a directory with something "
                "else. Name another place: --out"
            )

    def _compare(self, settings: dict[str, Any]) -> None:
        settings = json.loads(json.dumps(settings))  # as they are read again: a tuple comes back as a list
        changed = [name for name in settings if self.rows and self._settings.get(name) != settings[name]]
        if changed:
            raise InputError(
                f"Expected the command and the data that {self.directory} was begun with. Received: another "
                f"{', '.join(changed)}. Give the first again to resume, or delete that directory to start anew."
            )
        self._settings |= settings

    def begin(
        self,
        example: Arrays,
        batch_size: int,
        rows: Rows,
        names: Mapping[str, Sequence[str]] | None = None,
        texts: Mapping[str, Sequence[str]] | None = None,
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare to write.

        Args:
            example: the outputs for one row.
            batch_size: the number of rows that are computed together.
            rows: the data, with their labels.
            names: name of an output -> names of its columns, where those of `column_names` do not do.
            texts: name of an output of integers -> the texts 0, 1, ... that stand for them.
            kept: name of a column of the data that is kept in a table -> its values, an array of Arrow.
        """
        for name, array in example.items():
            if array.dtype.kind not in "biuf" or array.ndim == 0 or len(array) != 1:
                raise InputError(
                    f"Expected numbers for each row. Received: {name} of {array.dtype}, shape {array.shape}. "
                    "Name another: --signature"
                )
        total, row_bytes = len(rows.x), sum(array.nbytes for array in example.values())
        self._compare({"number of rows": total})
        check_space(self.directory, self._bytes_on_disk(example) * (total - self.rows))
        # A part is of complete batches, so that a resumed command computes the same batches, and the same bits.
        self.part_rows = batch_size * max(1, min(PART_BYTES // row_bytes, PART_ROWS) // batch_size)
        self.names = column_names(example) | {name: [*columns] for name, columns in (names or {}).items()}
        self.texts, self.kept_columns = texts or {}, kept or {}
        with progress.resuming(self.directory, self.path, self.rows, total, self.part_rows):
            self._begin(example, rows)

    def kept(self, outputs: Arrays) -> Arrays:
        """Return what is kept in memory of the outputs for a batch until it is written."""
        return outputs

    def _bytes_on_disk(self, example: Arrays) -> int:
        return sum(array.nbytes for array in example.values())

    @abc.abstractmethod
    def _begin(self, example: Arrays, rows: Rows) -> None:
        """Prepare the file or directory at `path`."""

    @abc.abstractmethod
    def _write(self, batches: list[Arrays], start: int, stop: int) -> None:
        """Write the outputs for the rows from start to stop, and wait until they are on the disk."""

    def write(self, batches: list[Arrays], start: int, stop: int) -> None:
        """Write a part, the outputs for the rows from start to stop; from now on, a kill does not lose them."""
        self._write(batches, start, stop)
        self.note(stop)

    def note(self, rows: int) -> None:
        """Remember that so many rows are done, which a kill does not lose from now on."""
        progress.write(self.directory, rows, self._settings)
        self.rows = rows

    def publish(self) -> None:
        """Rename the complete output to its place, and delete what was there."""
        if self.path.is_dir() and self.place.exists():  # which a directory cannot be renamed over
            os.replace(self.place, pathlib.Path(tempfile.mkdtemp(dir=self.directory)) / self.place.name)
        os.replace(self.path, self.place)
        self.rows = 0  # there is nothing left to resume
        if os.name == "posix":  # Windows cannot open directories
            to_disk(self.place.parent)


class Table(Output):
    """An output with a column for each number of a row."""

    def _begin(self, example: Arrays, rows: Rows) -> None:
        self.arrow = imported("pyarrow")
        self.label_column: dict[str, Any] = {}
        if self.labels and rows.y is not None:
            name = self.labels if rows.feature_names else "label"
            name = f"true_{name}" if any(name in names for names in self.names.values()) else name
            self.label_column[name] = self._labels(rows)
        for name, column in self.kept_columns.items():
            if name in self.label_column or any(name in names for names in self.names.values()):
                raise InputError(f"Expected --keys of other names than those of the output. Received: {name}.")
            self.label_column[name] = column

    def _labels(self, rows: Rows) -> Any:
        """Return the labels of rows as a column of Arrow, null where there is none."""
        values, unknown = label_values(rows.class_names), rows.y < 0
        if values.dtype.kind == "i":
            return self.arrow.array(values[rows.y], mask=unknown)
        return self._as_text(self.arrow.array(rows.y.astype("int32"), mask=unknown), values)

    def _as_text(self, numbers: Any, texts: Sequence[str]) -> Any:
        """Return the texts that numbers stand for, as Arrow keeps them: each text once."""
        return self.arrow.DictionaryArray.from_arrays(numbers, self.arrow.array(texts, "string"))

    def _table(self, batches: list[Arrays], start: int, stop: int) -> Any:
        """Return the Arrow table of the outputs for the rows from start to stop, with their labels."""
        columns = {}
        for name, names in self.names.items():
            columns.update(zip(names, self._columns([batch[name] for batch in batches]), strict=True))
        columns |= {name: self._as_text(columns[name], texts) for name, texts in self.texts.items()}
        columns |= {name: column[start:stop] for name, column in self.label_column.items()}
        return self.arrow.table(columns)

    def _columns(self, arrays: list[np.ndarray]) -> Sequence[Any]:
        """Return the columns of an output, given as the arrays of its batches."""
        transposed = [array.reshape(len(array), -1).T for array in arrays]
        block = np.empty((len(transposed[0]), sum(map(len, arrays))), transposed[0].dtype)
        return np.concatenate(transposed, axis=1, out=block)

    @abc.abstractmethod
    def columns(self, **types: str) -> Iterator[list[np.ndarray]]:
        """Yield columns of the complete output, by name -> type as Arrow calls it, some rows at a time."""


class ParquetParts(Table):
    """A directory of part-00000.parquet, ..., which data engines and our readers read as one table."""

    def _begin(self, example: Arrays, rows: Rows) -> None:
        super()._begin(example, rows)
        self.parquet = imported("pyarrow.parquet")
        self.path.mkdir(exist_ok=True)
        for file in self.path.glob(".part-*"):  # in the making when a command was killed
            file.unlink()
        parts = len([*self.path.glob("part-*.parquet")])
        if parts < -(-self.rows // self.part_rows):
            raise ValueError(f"it holds {parts:,} parts, which is fewer than {self.rows:,} rows need")

    def _write(self, batches: list[Arrays], start: int, stop: int) -> None:
        text = [*self.label_column, *self.texts]
        with write_aside(self.path / f"part-{start // self.part_rows:05}.parquet") as aside:
            self.parquet.write_table(self._table(batches, start, stop), aside, use_dictionary=text or False)

    def columns(self, **types: str) -> Iterator[list[np.ndarray]]:
        for path in sorted(self.place.glob("part-*.parquet")):
            part = self.parquet.read_table(path, columns=[*types])
            yield [part[name].to_numpy() for name in types]


class CsvFile(Table):
    """A .csv file, which begins with the names of the columns and grows at its end."""

    def _begin(self, example: Arrays, rows: Rows) -> None:
        super()._begin(example, rows)
        self.csv = imported("pyarrow.csv")
        self.path.touch()
        if self.rows and self.path.stat().st_size < self._settings["bytes"]:
            raise ValueError("it is shorter than it was")

    def _write(self, batches: list[Arrays], start: int, stop: int) -> None:
        table = self._table(batches, start, stop)
        dictionary = self.arrow.types.is_dictionary  # which Arrow writes to no csv
        columns = [c.cast("string") if dictionary(c.type) else c for c in table.columns]
        with open(self.path, "r+b") as file:
            file.truncate(self._settings["bytes"] if start else 0)  # what a kill left behind the last part
            file.seek(0, os.SEEK_END)
            options = self.csv.WriteOptions(include_header=not start)
            self.csv.write_csv(self.arrow.table(columns, names=table.column_names), file, options)
            self._settings["bytes"] = file.tell()
        to_disk(self.path)

    def columns(self, **types: str) -> Iterator[list[np.ndarray]]:
        with open(self.place, "rb") as file:
            header = len(file.readline())  # which Arrow finds in the first block, or not at all
        read, parse = self.csv.ReadOptions(block_size=CSV_BLOCK_BYTES + header), self.csv.ParseOptions
        convert = self.csv.ConvertOptions(include_columns=[*types], column_types=types)
        for part in self.csv.open_csv(self.place, read, parse(newlines_in_values=True), convert):
            yield [part[name].to_numpy(zero_copy_only=False) for name in types]


class NpyFile(Output):
    """A .npy file of the only output, made at its final size and filled from the front; labels are a file beside it."""

    def _begin(self, example: Arrays, rows: Rows) -> None:
        if len(example) > 1:
            raise InputError(
                f"Expected one output for a .npy file. Received: {', '.join(example)}. Name a directory for Parquet: "
                "--out"
            )
        [(self.name, array)] = example.items()
        shape, mode = (len(rows.x), *array.shape[1:]), "r" if self.rows else "w+"
        begun = np.lib.format.open_memmap(self.path, mode, array.dtype, shape)
        if (begun.dtype, begun.shape) != (array.dtype, shape):
            raise ValueError(f"it is of {begun.dtype} {begun.shape}")
        self.offset = begun.offset
        self.row_bytes = array.nbytes
        self.label_column = labels_of(rows) if self.beside else None

    def _write(self, batches: list[Arrays], start: int, stop: int) -> None:
        with open(self.path, "r+b") as file:  # not through the map, where a full disk would end the process
            file.seek(self.offset + start * self.row_bytes)
            for batch in batches:
                file.write(np.ascontiguousarray(batch[self.name]).data)
        to_disk(self.path)

    def publish(self) -> None:
        if self.beside:
            with write_aside(self.beside) as aside:
                np.save(aside, self.label_column)
        super().publish()


def output_at(place: pathlib.Path, labels: str | None) -> Output:
    """Return the output that the name of its place asks for.  labels: as of `Output`."""
    return {".npy": NpyFile, ".csv": CsvFile}.get(place.suffix, ParquetParts)(place, labels)
