"""Readers of your own data of any size: npy, npz, csv, Parquet, TFRecord, images and tensorflow-datasets."""

import pathlib
import re
from collections.abc import Callable

from ...errors import InputError
from . import arrays, image_files, records, tables
from .rows import Rows, constant_columns, counting_columns

__all__ = ["FORMATS", "Rows", "constant_columns", "counting_columns", "options_of", "read_rows"]

FORMATS = (
    "an npy, npz, csv (or csv.gz), parquet or tfrecord file, a directory of images or of parquet files, or a name of "
    "tensorflow-datasets such as tfds:mnist"
)

# A reader is the function that reads some data, and the options that it takes.
_Reader = tuple[Callable[..., Rows], tuple[str, ...]]
_READERS: dict[str, _Reader] = {  # by the end of the file's name
    r"\.npy": (arrays.read_npy, ("labels",)),
    r"\.npz": (arrays.read_npz, ("labels",)),
    r"\.(csv|tsv)(\.gz)?": (tables.read_csv, ("labels",)),
    r"\.parquet": (tables.read_parquet, ("labels",)),
    r"\.tfrecords?(-\d+-of-\d+)?": (records.read_tfrecord, ("labels", "feature", "image_size", "color")),
}
_FOLDER: _Reader = (image_files.read_folder, ("labels", "image_size", "color"))
_DATASET: _Reader = (records.read_tensorflow_dataset, ("labels", "feature", "image_size", "color"))


def read_rows(
    data: pathlib.Path | str,
    labels: pathlib.Path | str | None = None,
    feature: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    color: bool = False,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return data of any size as `Rows`, which are read some at a time, checked, written to a file and mapped from it.

    Args:
        data: a path, or "tfds:NAME" or "tfds:NAME/SPLIT" for a data set of tensorflow-datasets. The suffix of the path
            decides what is read:
            npy    The array (examples, features), mapped as it is; further dimensions become features.
            npz    The array x, or x_train, or the only one of two dimensions or more.
            csv, parquet    The columns of numbers, as float32, or as uint8 if all are. A csv file begins with a line of
                   names; a line of numbers only is refused unless they count 0, 1, 2, ... or 1, 2, 3, ...
            tfrecord    A feature of each tf.train.Example: numbers, as float32, or a PNG or JPEG image.
            A directory holds Parquet files, which are read as one table in the order of their names, or else images
                   (png, jpg, bmp, gif), which are read as uint8 in the order of their names, also from the directories
                   in it.
        labels: what holds the classes. npy: the path of another npy file. npz: the name of an array. csv, parquet: the
            name of a column. tfrecord, tensorflow-datasets: the name of a feature. Images: "folders", as the class of
            an image is the name of the directory that it is in.
        feature: the name of the feature to read from tfrecord or tensorflow-datasets, if several could be meant.
        image_size: the size to resize images to, n or (height, width). If it is None, all must be of one size.
        color: whether images become (height, width, 3), rather than grey.
        cache: a directory for the file of rows, which takes as much room as they do. None is a temporary directory,
            deleted when the process ends. If temporary directories are kept in memory, name one on a disk.

    Every column of a table but the labels is a feature, a column of identifiers too: see `counting_columns`.
    float64 and integers beyond 2**24 are rounded to float32 in tables and records.

    Raises:
        InputError: if data are missing, damaged or something else; if values are missing, NaN, infinite or not numbers;
            if there are fewer than two rows; or if there is not one label for each row, of two classes or more.
    """
    options = {"labels": labels, "feature": feature, "image_size": image_size, "color": color or None}
    given = {name: value for name, value in options.items() if value is not None}
    source = _source(data)
    read, taken = _reader(source)
    for name in given.keys() - set(taken):
        raise InputError(
            f"Expected {' and '.join(taken)} as the only option{'s' * (len(taken) > 1)} for {data}. Received: "
            f"{name}={given[name]!r}. Leave it out."
        )
    try:
        return read(source, **given, cache=cache)
    except OSError as error:
        raise InputError(
            f"Expected data that can be read. Received: {data}, which cannot be ({error.strerror or error})."
        ) from error


def options_of(data: pathlib.Path | str) -> tuple[str, ...]:
    """Return the names of the options of `read_rows` that such data take. Raise InputError if they cannot be read."""
    return _reader(_source(data))[1]


def _source(data: pathlib.Path | str) -> pathlib.Path | str:
    """Return a path that exists, or a name in tensorflow-datasets as a str with its prefix."""
    if str(data).startswith(records.PREFIX):
        return str(data)
    path = pathlib.Path(data).expanduser()
    if not path.exists():
        raise InputError(
            f"Expected a file or directory of data. Received: {data}, which does not exist. Name {FORMATS}."
        )
    return path


def _reader(source: pathlib.Path | str) -> _Reader:
    """Return the reader for a path or for a name in tensorflow-datasets. Raise InputError if there is none."""
    if isinstance(source, str):
        return _DATASET
    if source.is_dir():
        return _READERS[r"\.parquet"] if tables.parquet_parts(source) else _FOLDER
    for suffix, reader in _READERS.items():
        if re.search(f"{suffix}$", source.name, re.IGNORECASE):
            return reader
    raise InputError(f"Expected a file of data by its suffix. Received: {source}. Name {FORMATS}.")
