"""Readers of your own data of any size: arrays, tables, records and images in files, and tensorflow-datasets."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import InputError
from . import (
    arrays,
    bounds,
    csv_files,
    hdf5,
    image_files,
    mat,
    parquet,
    records,
    safetensors_files,
    sources,
    tensorflow_dataset,
)
from .bounds import GIGABYTES
from .labels import UNKNOWN
from .rows import Rows, constant_columns, counting_columns
from .storage import chosen_columns

__all__ = [
    "FORMATS",
    "GIGABYTES",
    "Rows",
    "chosen_columns",
    "constant_columns",
    "counting_columns",
    "files_of",
    "options_of",
    "read_rows",
]

FORMATS = (
    "npy, npz, csv (or csv.gz), parquet, tfrecord, h5, mat or safetensors files, images, a directory or a pattern of "
    "such files, or a name of tensorflow-datasets such as tfds:mnist"
)

_IMAGES = ("image_size", "color")
_COLUMNS = ("names", "ignore", "one_hot")


class _Reader(NamedTuple):
    """What reads one kind of files."""

    end: str  # of their names, a regular expression
    read: Callable[..., Rows]
    options: tuple[str, ...]
    packed: tuple[str, ...] = ()  # the ways in which the files may be compressed


_READERS = {
    "npy": _Reader(r"\.npy", arrays.read_npy, ("labels",)),
    "npz": _Reader(r"\.npz", arrays.read_npz, ("labels", "feature"), ("zip",)),
    "csv": _Reader(r"\.(csv|tsv)(\.gz)?", csv_files.read_csv, ("labels", "no_header", *_COLUMNS), ("gzip",)),
    "parquet": _Reader(r"\.(parquet|pq)", parquet.read_parquet, ("labels", "feature", *_COLUMNS, *_IMAGES)),
    "tfrecord": _Reader(
        r"\.tfrecords?(-\d+-of-\d+)?(\.gz)?", records.read_tfrecord, ("labels", "feature", "names", *_IMAGES), ("gzip",)
    ),
    "hdf5": _Reader(r"\.(h5|hdf5?)", hdf5.read_hdf5, ("labels", "feature")),
    "mat": _Reader(r"\.mat", mat.read_mat, ("labels", "feature")),
    "safetensors": _Reader(r"\.safetensors", safetensors_files.read_safetensors, ("labels", "feature")),
    sources.IMAGES: _Reader(image_files.SUFFIXES, image_files.read_images, ("labels", *_IMAGES)),
}
_DATASET_OPTIONS = ("labels", "feature", *_IMAGES)
_KINDS = {reader.end: kind for kind, reader in _READERS.items()}


def read_rows(
    data: pathlib.Path | str | Sequence[pathlib.Path | str],
    labels: pathlib.Path | str | None = None,
    feature: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    color: bool = False,
    cache: pathlib.Path | str | None = None,
    no_header: bool = False,
    names: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    one_hot: bool | Mapping[str, Sequence[str]] = False,
    part: bool = False,
    memory: float = GIGABYTES,
) -> Rows:
    """Return data of any size as `Rows`, which are read some at a time, checked, written to a file and mapped from it.

    Args:
        data: the path of a file or directory, a pattern of paths with *, ? or **, or several of them; or "tfds:NAME" or
            "tfds:NAME/SPLIT" for a data set of tensorflow-datasets. All files are of one kind and are read as one, in
            the order in which they are named, those of a directory (also in the directories in it) and of a pattern in
            the order of their names. Shards x-00000-of-00002, ... have to be complete. The suffix decides what is read:
            npy    The array (examples, features), mapped as it is; further dimensions become features.
            safetensors    The tensor that `feature` names, or the only one, as of npz, mapped as npy; bfloat16 becomes
                   float32.
            npz, h5, mat    The array that `feature` names, or x, or x_train, or the only one of two dimensions or more.
                   A sparse matrix that scipy (save_npz) or MATLAB wrote becomes rows of all its numbers.
            csv    The columns of numbers, as float32. A csv file begins with a line of names (see `no_header`) and may
                   be gzipped, have a line "sep=;" first, or decimal commas.
            parquet    The columns of numbers, as float32, or as uint8 if all are; or the lists of one length or the
                   image files in a column, if it is the only one of that kind or `feature` names it.
            tfrecord    A feature of each tf.train.Example: numbers, as float32, or an image; or, if all features are
                   single numbers, each as a column. The files may be gzipped.
            Images (png, jpg, webp, tif and what else Pillow reads) as uint8, or with their own values if they have
                   more than 8 bits, of which the first page is read.
        labels: what holds the classes. npy, sparse matrices: the path of an npy file. npz, h5, mat, safetensors: the
            name of an array. csv, parquet: the name of a column; in csv the classes are the text in it. tfrecord,
            tensorflow-datasets: the name of a feature. Images: "folders", as the class of an image is the first
            directory below the one of the data.
        feature: the name of the array, column or feature to read, if several could be meant.
        image_size: the size to resize images to, n or (height, width). If it is None, all must be of one size.
        color: whether images become (height, width, 3), rather than grey.
        cache: a directory for the file of rows, which takes as much room as they do. None is a temporary directory,
            deleted when the process ends. If temporary directories are kept in memory, name one on a disk.
        no_header: whether csv files begin with data, not with names: the columns are called 1, 2, ... then.
        names: the names of the columns to read, in this order, of csv, parquet and tfrecord (single numbers). Others
            are left out, whatever they hold. By default all are read.
        ignore: the names of columns of csv and parquet that are left out, whatever they hold.
        one_hot: whether columns of texts, of csv and parquet, become columns of 0 and 1, one for each text, named
            column=text; or the texts by the names of the columns, as `Rows.categories` of other data has them.
        part: whether the data may be some of the shards of a whole, as one process of several reads them.
        memory: GB of memory that reading may take at once. A row, a line of names, a piece of a packed file or an image
            that would take more is refused before it is read, whatever a file declares.

    Every column of a table but the labels is a feature, a column of identifiers too: see `counting_columns`.
    float64 and integers beyond 2**24 are rounded to float32 in tables and records. `Rows.notes` says what was left out,
    changed or lost. Where a label is missing (empty, null or NaN) `Rows.y` is -1.

    Raises:
        InputError: if data are missing, damaged or something else; if values are missing, NaN, infinite or not numbers;
            if there are no rows, more or fewer labels, or none at all; or if a column that is wanted is not there.
    """
    options: dict[str, Any] = {"labels": labels, "feature": feature, "image_size": image_size}
    options |= {"color": color or None, "no_header": no_header or None}
    options |= {"names": names, "ignore": ignore, "one_hot": one_hot or None}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        with bounds.memory(memory):
            named = _named(data)
            if _is_dataset(named):
                _check_options(given, _DATASET_OPTIONS, named[0])
                return _noted(tensorflow_dataset.read_tensorflow_dataset(str(named[0]), **given, cache=cache))
            source = sources.find(named, _KINDS, FORMATS, part)
            reader = _READERS[source.kind]
            _check_options(given, reader.options, source)
            for file in source.files if source.kind != sources.IMAGES else ():
                sources.check_unpacked(file, reader.packed)
            rows = _noted(reader.read(source, **given, cache=cache))
            files = [(os.path.relpath(file, base), file.stat().st_size) for file, base in source.files.items()]
            notes = tuple(map(sources.as_text, rows.notes))
            return dataclasses.replace(rows, files=tuple(files), source=sources.as_text(rows.source), notes=notes)
    except OSError as error:
        raise InputError(
            f"Expected data that can be read. Received: {data}, which cannot be ({error.strerror or error})."
        ) from error


def _noted(rows: Rows) -> Rows:
    """Return rows with a note on how many have no label."""
    unknown = 0 if rows.y is None else int((rows.y == UNKNOWN).sum())
    note = f"{unknown:,} of {len(rows.x):,} rows have no label"
    return dataclasses.replace(rows, notes=(*rows.notes, note)) if unknown else rows


def files_of(data: pathlib.Path | str | Sequence[pathlib.Path | str], part: bool = False) -> sources.Source:
    """Return the files that `read_rows` reads, with their kind. Raise InputError if there are none, or of two kinds.

    part: as of `read_rows`.
    """
    return sources.find(_named(data), _KINDS, FORMATS, part)


def options_of(data: pathlib.Path | str | Sequence[pathlib.Path | str]) -> tuple[str, ...]:
    """Return the names of the options of `read_rows` that such data take. Raise InputError if they cannot be read."""
    named = _named(data)
    return _DATASET_OPTIONS if _is_dataset(named) else _READERS[sources.find(named, _KINDS, FORMATS).kind].options


def _named(data: pathlib.Path | str | Sequence[pathlib.Path | str]) -> list[pathlib.Path | str]:
    """Return a list of what was named, one or several."""
    return [data] if isinstance(data, str | os.PathLike) else list(data)


def _is_dataset(named: Sequence[pathlib.Path | str]) -> bool:
    """Return whether a data set of tensorflow-datasets was named."""
    return len(named) == 1 and str(named[0]).startswith(tensorflow_dataset.PREFIX)


def _check_options(given: dict[str, Any], taken: Sequence[str], data: object) -> None:
    """Raise InputError if there are options that such data do not take."""
    listed = ", ".join(f"{option}=..." for option in taken if option not in _COLUMNS)  # which few commands take
    for name in given.keys() - set(taken):
        raise InputError(
            f"Expected no other options than {listed} for {data}. Received: {name}={given[name]!r}. Leave it out."
        )
