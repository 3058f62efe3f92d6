"""A model's outputs on the way into a Parquet or npy file, in a folder beside it that survives a kill at any moment.

The folder .NAME.parts holds
    record.json      what is being computed, of what, with which model: another command is refused
    OUTPUT.npy       the rows of each output so far, appended
    progress.json    how many of these are on the disk for certain (any others are cut off and computed again);
                     and whether the file is whole
    NAME             the file in the making. A Parquet file is written from the rows above, after a kill anew.
A file that is whole takes its place by a rename, and then the folder goes. A kill between the two leaves a folder that
is whole without the file: nothing is left to do.
"""

import contextlib
import io
import json
import os
import shutil
import time

import numpy as np

from keras_sae.errors import InputError
from keras_sae.files import check_space, to_disk, write_json
from keras_sae.readers.rows import imported

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

SUFFIXES = (".parquet", ".npy")
SECONDS = 10  # between the moments at which rows are made safe, about what a kill costs
GROUP_BYTES = 2**25  # of a row group of Parquet: engines read these whole, and in parallel
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


class Parts:
    """The folder of an extraction that is under way.

    place: the path of the file to make.  record: name of a setting -> value, all that the result depends on.
    """

    def __init__(self, place, record, labels=None):
        """labels: the path of the file of labels to put beside it, or None."""
        self.place, self.record, self.labels = place, record, labels
        self.folder = place.parent / f".{place.name}.parts"
        self.aside = self.folder / place.name
        self.labels_aside = self.folder / "labels"

    def __enter__(self):
        """Make the folder, or take up the one of an earlier run of the same command. Raises InputError for another."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Expected a place that can be written to. Received: {self.place} ({error.strerror})."
            ) from error
        self._lock()
        shutil.rmtree(self.cache, ignore_errors=True)
        path = self.folder / "record.json"
        if self.progress()["rows"]:
            self._compare(json.loads(path.read_text()))
            self.write_progress(**self.progress() | {"whole": self.whole()})  # not, where somebody took the file away
        write_json(path, self.record)
        return self

    def __exit__(self, *_):
        """Leave the folder where rows in it are safe, and nothing where none are."""
        os.close(self._locked)
        shutil.rmtree(self.cache if self.progress()["rows"] else self.folder, ignore_errors=True)

    def _lock(self):
        """One process at a time; the lock goes with the process, however it ends. (Windows has none.)"""
        self._locked = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR)
        if fcntl is None:
            return
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._locked)
            raise InputError(
                f"Expected one command at a time to write {self.place}. Received: another that is writing it. Wait for "
                "it, or stop it."
            ) from error

    def _compare(self, earlier):
        changed = [name for name in self.record if earlier.get(name) != self.record[name]]
        if changed:
            raise InputError(
                f"Expected the command and the files that {self.folder} was begun with. Received: another "
                f"{', '.join(changed)}. Give the first again to go on, or delete that folder to start anew."
            )

    @property
    def cache(self):
        """A folder for the reader's files, on the same disk."""
        return self.folder / "rows"

    def progress(self):
        """{"rows": that are safe, "total": of how many, "whole": whether the file is ready}."""
        path = self.folder / "progress.json"
        return json.loads(path.read_text()) if path.exists() else {"rows": 0, "total": None, "whole": False}

    def write_progress(self, rows, total, whole=False):
        write_json(self.folder / "progress.json", {"rows": rows, "total": total, "whole": whole})

    def refuse_what_exists(self, overwrite):
        """Raise InputError where a file of this name is there, unless it is ours or may go."""
        whole = self.progress()["whole"]
        ours = whole and not self.aside.exists()
        for path in (self.place,) if whole or not self.labels else (self.place, self.labels):
            if path.exists() and not overwrite and not ours:
                raise InputError(
                    f"Expected a new file to write to. Received: {path}, which exists. Nothing was changed. Name "
                    "another, or add --overwrite."
                )

    def whole(self):
        """Whether an earlier run was killed when the file had only to be put in its place, or the folder removed."""
        return self.progress()["whole"] and (self.aside.exists() or self.place.exists())

    def publish(self):
        """Put a file that is whole in its place, and its labels beside it; nothing, where that was done before."""
        if self.labels_aside.exists():
            os.replace(self.labels_aside, self.labels)
        if self.aside.exists():
            os.replace(self.aside, self.place)
        if os.name == "posix":  # Windows cannot open folders
            to_disk(self.place.parent)
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def naming(folder):
    """Give the errors of writing, which name no file, the name of the folder."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise


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


class NpyFile:
    """The rows of the only output are the file."""

    def __init__(self, parts, outputs, labels):
        if len(outputs) > 1:
            raise InputError(
                f"Expected one output for a .npy file. Received: {', '.join(outputs)}. Name a .parquet file: --out"
            )
        self.parts, self.labels = parts, labels
        self.needed = 1  # times the bytes of the rows

    def path(self, name):
        return self.parts.aside

    def add(self, outputs, rows):
        """Nothing: the rows are in place."""

    def finish(self, outputs, rows):
        if self.labels is not None:
            _, values, numbers = self.labels
            with open(self.parts.labels_aside, "wb") as file:
                np.save(file, values[numbers])
            to_disk(self.parts.labels_aside)

    def close(self):
        """Nothing is open."""


class ParquetFile:
    """A column for each feature: every engine and `readers.read_rows` read them; a query takes those it wants."""

    def __init__(self, parts, outputs, labels):
        """outputs: name -> array (1, ...).  labels: (name of the column, values, numbers of the values) or None."""
        self.arrow, self.parquet = imported("pyarrow"), imported("pyarrow.parquet")
        self.parts = parts
        self.names = columns(outputs)
        self.labels = labels
        self.needed = 2
        self.rows = 0  # in the file
        self.group = max(1, GROUP_BYTES // sum(array.nbytes for array in outputs.values()))
        example = self._table({name: array[:1] for name, array in outputs.items()}, 0)
        self.writer = self.parquet.ParquetWriter(
            str(parts.aside), example.schema, use_dictionary=[labels[0]] if labels else False
        )

    def path(self, name):
        return self.parts.folder / f"{name}.npy"

    def add(self, outputs, rows):
        """Write the row groups that are full when there are so many rows."""
        while rows - self.rows >= self.group:
            self._write(outputs, self.rows + self.group)

    def finish(self, outputs, rows):
        if rows > self.rows:
            self._write(outputs, rows)
        self.writer.close()

    def _write(self, outputs, stop):
        arrays = {name: output.read(self.rows, stop) for name, output in outputs.items()}
        self.writer.write_table(self._table(arrays, self.rows), row_group_size=self.group)
        self.rows = stop

    def _table(self, arrays, start):
        found = {}
        for name, array in arrays.items():
            by_column = np.ascontiguousarray(array.reshape(len(array), -1).T)
            found.update(zip(self.names[name], map(self.arrow.array, by_column), strict=True))
            rows = len(array)
        if self.labels:
            name, values, numbers = self.labels
            found[name] = self._label_column(values, numbers[start : start + rows])
        return self.arrow.table(found)

    def _label_column(self, values, numbers):
        if values.dtype.kind == "i":
            return self.arrow.array(values[numbers])
        return self.arrow.DictionaryArray.from_arrays(self.arrow.array(numbers.astype("int32")), values.tolist())

    def close(self):
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
        self.file = (ParquetFile if parts.place.suffix == ".parquet" else NpyFile)(parts, example, labels)
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

    def append(self, start, outputs):
        """The outputs of rows from `start` on. Those after a batch that could not be written are left out."""
        if start != self.rows:
            return
        with naming(self.parts.folder):
            for name, output in self.outputs.items():
                output.append(outputs[name].reshape(-1, *output.shape))
            self.rows += len(outputs[name])
            self.file.add(self.outputs, self.rows)
            if time.monotonic() - self.made_safe > SECONDS:
                self.make_safe()

    def make_safe(self):
        """From now on a kill costs none of the rows so far."""
        for output in self.outputs.values():
            output.make_safe()
        self.parts.write_progress(self.rows, self.total)
        self.made_safe = time.monotonic()

    def finish(self):
        """Put the file of all rows in its place."""
        with naming(self.parts.folder):
            self.file.finish(self.outputs, self.rows)
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
