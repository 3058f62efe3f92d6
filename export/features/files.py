"""A model's outputs on the way into a Parquet or npy file, through the folder of parts."""

import collections
import concurrent.futures
import contextlib
import io
import math
import os
import time

import numpy as np

from keras_sae.data.readers.rows import imported
from keras_sae.errors import InputError
from keras_sae.files import check_space, to_disk

from .parts import naming

SUFFIXES = (".parquet", ".npy")
SECONDS = 10  # between the moments at which rows are made safe, about what a kill costs
GROUP_BYTES = 2**25  # of a row group of Parquet: engines read these whole, and in parallel
TAKEN_UP = 4096  # rows of an earlier run that are read at a time
AHEAD_BYTES = 2**25  # of outputs that wait to be written: as a row group is written, the model goes on
_ONE_OF = {"features": "feature", "outputs": "output", "probabilities": "probability"}


def columns(outputs):
    """Output -> names of its columns. outputs: name -> array (rows, ...); one number per row is one column."""
    return {
        name: [name] if array.ndim == 1 else [f"{_ONE_OF.get(name, name)}_{i}" for i in range(array[0].size)]
        for name, array in outputs.items()
    }


def label_values(class_names):
    """The labels as they were in the data: integers (int64) where all are, else text."""
    with contextlib.suppress(ValueError, OverflowError):
        numbers = np.array([int(name) for name in class_names], "int64")
        if [str(number) for number in numbers] == list(class_names):
            return numbers
    return np.array(class_names)


def count(outputs):
    """The number of rows. outputs: name -> array (rows, ...)."""
    return len(next(iter(outputs.values())))


class Output:
    """The rows of one output in a npy file, (total, ...), appended and safe to cut anywhere."""

    def __init__(self, path, total, example):
        """example: an array (1, ...) of the output."""
        self.path, self.shape, self.dtype = path, example.shape[1:], example.dtype
        self.row_bytes = example.nbytes
        header = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(self.dtype)
        np.lib.format.write_array_header_1_0(
            header, {"descr": descr, "fortran_order": False, "shape": (total, *self.shape)}
        )
        self.header = header.getvalue()

    def holds(self, rows):
        """Whether the file has these rows, of this type and number."""
        if not self.path.exists() or self.path.stat().st_size < len(self.header) + rows * self.row_bytes:
            return False
        with open(self.path, "rb") as file:
            return file.read(len(self.header)) == self.header

    def open(self, rows):
        """Go on after so many rows."""
        self.file = open(self.path, "r+b" if rows else "wb")  # noqa: SIM115, see `close`
        self.file.write(self.header)
        self.file.truncate(len(self.header) + rows * self.row_bytes)
        self.file.seek(0, os.SEEK_END)

    def append(self, array):
        """More rows, (rows, ...)."""
        self.file.write(np.ascontiguousarray(array).data)
        self.file.flush()

    def make_safe(self):
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self):
        with contextlib.suppress(OSError):  # of a full disk, which was reported
            self.file.close()

    def read(self, start, stop):
        offset = len(self.header) + start * self.row_bytes
        array = np.fromfile(
            self.path, self.dtype, (stop - start) * self.row_bytes // self.dtype.itemsize, offset=offset
        )
        return array.reshape(stop - start, *self.shape)


class Behind:
    """Calls a function of named arrays in a thread of its own, in order, while the caller goes on.

    What a call raises comes to the caller, at a later call or at `wait`. After `close` all calls are over.
    """

    def __init__(self, function):
        self._function, self._waiting = function, collections.deque()
        self._thread = concurrent.futures.ThreadPoolExecutor(1)

    def __call__(self, outputs, *arguments):
        """Have it called with these, at once unless it is AHEAD_BYTES behind. outputs: name -> array."""
        if len(self._waiting) > AHEAD_BYTES // sum(array.nbytes for array in outputs.values()):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._function, outputs, *arguments))

    def wait(self):
        """Until all calls are over."""
        while self._waiting:
            self._waiting.popleft().result()

    def close(self):
        self._thread.shutdown()


class NpyFile:
    """The rows of the only output are the file."""

    rows = math.inf  # that need not be added: they are in place

    def __init__(self, parts, outputs, labels, total):
        if len(outputs) > 1:
            raise InputError(
                f"Expected one output for a .npy file. Received: {', '.join(outputs)}. Name a .parquet file: --out"
            )
        self.parts, self.labels = parts, labels
        self.needed = 1  # times the bytes of the rows

    def path(self, name):
        return self.parts.aside

    def add(self, outputs):
        """Nothing: the rows are in place."""

    def finish(self):
        if self.labels is not None:
            _, values, numbers = self.labels
            with open(self.parts.labels_aside, "wb") as file:
                np.save(file, values[numbers])
            to_disk(self.parts.labels_aside)

    def close(self):
        """Nothing is open."""


class ParquetFile:
    """A column for each feature: every engine and `readers.read_rows` read them; a query takes those it wants."""

    def __init__(self, parts, outputs, labels, total):
        """outputs: name -> array (1, ...).  labels: (name of the column, values, numbers of the values) or None."""
        self.arrow, self.parquet = imported("pyarrow"), imported("pyarrow.parquet")
        self.parts, self.labels = parts, labels
        self.needed = 2
        self.rows = self.encoded = 0  # that were added, and of these
        self.group = min(max(1, GROUP_BYTES // sum(array.nbytes for array in outputs.values())), total)
        self.names = columns(outputs)
        self.columns = {name: np.empty((array.size, self.group), array.dtype) for name, array in outputs.items()}
        self.writer = self.parquet.ParquetWriter(
            str(parts.aside), self._table(0, 0).schema, use_dictionary=[labels[0]] if labels else False
        )
        self.encode = Behind(self._encode)  # which takes the longest of all

    def path(self, name):
        return self.parts.folder / f"{name}.npy"

    def add(self, outputs):
        """More rows, name -> (rows, ...)."""
        self.encode(outputs)
        self.rows += count(outputs)

    def _encode(self, outputs):
        """Put them into columns; a row group is written as it is full."""
        rows, start = count(outputs), 0
        while start < rows:
            waiting = self.encoded % self.group
            stop = min(rows, start + self.group - waiting)
            for name, array in outputs.items():
                part = array[start:stop].reshape(stop - start, -1)
                self.columns[name][:, waiting : waiting + stop - start] = part.T
            self.encoded, start = self.encoded + stop - start, stop
            if self.encoded % self.group == 0:
                self.writer.write_table(self._table(self.encoded - self.group, self.encoded), self.group)

    def finish(self):
        self.encode.wait()
        waiting = self.encoded % self.group
        if waiting:
            self.writer.write_table(self._table(self.encoded - waiting, self.encoded), self.group)
        self.writer.close()

    def _table(self, start, stop):
        """Rows from start to stop, which are the first in `columns`."""
        found = {}
        for name, columns_of in self.columns.items():
            found.update(zip(self.names[name], map(self.arrow.array, columns_of[:, : stop - start]), strict=True))
        if self.labels:
            name, values, numbers = self.labels
            found[name] = self._label_column(values, numbers[start:stop])
        return self.arrow.table(found)

    def _label_column(self, values, numbers):
        if values.dtype.kind == "i":
            return self.arrow.array(values[numbers])
        return self.arrow.DictionaryArray.from_arrays(self.arrow.array(numbers.astype("int32")), values.tolist())

    def close(self):
        self.encode.close()  # before the writer that it uses
        with contextlib.suppress(OSError):  # of a full disk, which was reported
            self.writer.close()


class Store:
    """Takes the outputs of batches of rows in order, and makes the file of them.

    rows: that are there, of `total`.
    """

    def __init__(self, parts, example, total, labels=None):
        """example: the outputs of one row, name -> array (1, ...).  labels: as of ParquetFile."""
        self.parts, self.total = parts, total
        for name, array in example.items():
            if array.dtype.kind not in "biuf" or array.ndim == 0 or len(array) != 1:
                raise InputError(
                    f"Expected numbers for each row. Received: {name} of {array.dtype}, shape {array.shape}. "
                    "Name another: --signature"
                )
        example = {name: array.reshape(1, -1) if array.ndim > 2 else array for name, array in example.items()}
        self.example = example
        self.file = (ParquetFile if parts.place.suffix == ".parquet" else NpyFile)(parts, example, labels, total)
        self.outputs = {name: Output(self.file.path(name), total, array) for name, array in example.items()}
        self.rows = self._safe_rows()
        bytes_left = sum(output.row_bytes for output in self.outputs.values()) * (self.file.needed * total - self.rows)
        check_space(parts.folder, bytes_left)
        for output in self.outputs.values():
            output.open(self.rows)
        self.made_safe = time.monotonic()

    def _safe_rows(self):
        progress = self.parts.progress()
        if progress["total"] not in (None, self.total):
            raise InputError(
                f"Expected {progress['total']:,} rows, as in {self.parts.folder} so far. Received: {self.total:,}. "
                "Delete that folder to start anew."
            )
        return progress["rows"] if all(output.holds(progress["rows"]) for output in self.outputs.values()) else 0

    def append(self, outputs, start):
        """The outputs of rows from `start` on. Those after a batch that could not be written are left out."""
        if start != self.rows:
            return
        with naming(self.parts.folder):
            for name, output in self.outputs.items():
                output.append(outputs[name].reshape(-1, *output.shape))
            self._take_up()
            self.file.add(outputs)
            self.rows += count(outputs)
            if time.monotonic() - self.made_safe > SECONDS:
                self.make_safe()

    def _take_up(self):
        """Add the rows of an earlier run to the file."""
        while self.file.rows < self.rows:
            stop = min(self.file.rows + TAKEN_UP, self.rows)
            self.file.add({name: output.read(self.file.rows, stop) for name, output in self.outputs.items()})

    def make_safe(self):
        """From now on a kill costs none of the rows so far."""
        for output in self.outputs.values():
            output.make_safe()
        self.parts.write_progress(self.rows, self.total)
        self.made_safe = time.monotonic()

    def finish(self):
        """Put the file of all rows in its place."""
        with naming(self.parts.folder):
            self._take_up()
            self.file.finish()
            to_disk(self.parts.aside)
        self.close()
        self.parts.write_progress(self.rows, self.total, whole=True)
        self.parts.publish()

    def save(self):
        """Make the rows so far safe, where the disk lets us: what went wrong is reported already."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: the files are closed, as all rows are safe
            self.make_safe()

    def close(self):
        self.file.close()
        for output in self.outputs.values():
            output.close()
