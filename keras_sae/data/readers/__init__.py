"""Your own data of any size as rows of numbers: npy, npz, csv, Parquet, TFRecord, images, tensorflow-datasets."""

import pathlib
import re

from ...errors import InputError
from . import arrays, image_files, records, tables
from .rows import Rows, constant_columns, counting_columns

__all__ = ["FORMATS", "Rows", "constant_columns", "counting_columns", "read_rows"]

FORMATS = (
    "a npy, npz, csv (or csv.gz), parquet or tfrecord file, a directory of images or of parquet files, or a name of "
    "tensorflow-datasets such as tfds:mnist"
)

# The end of the file's name -> the function that reads it, and the options that it takes.
_READERS = {
    r"\.npy": (arrays.read_npy, ("labels",)),
    r"\.npz": (arrays.read_npz, ("labels",)),
    r"\.(csv|tsv)(\.gz)?": (tables.read_csv, ("labels",)),
    r"\.parquet": (tables.read_parquet, ("labels",)),
    r"\.tfrecords?(-\d+-of-\d+)?": (records.read_tfrecord, ("labels", "feature", "image_size", "color")),
}
_FOLDER = (image_files.read_folder, ("labels", "image_size", "color"))
_DATASET = (records.read_tensorflow_dataset, ("labels", "feature", "image_size", "color"))


def read_rows(data, labels=None, feature=None, image_size=None, color=False, cache=None):
    """Data of any size as `Rows`: read some rows at a time, checked, written to a file and mapped from it.

    Args:
        data: a path, or "tfds:NAME" or "tfds:NAME/SPLIT" for a data set of tensorflow-datasets. By the path's suffix:
            npy    (examples, features), mapped as it is; further dimensions become features.
            npz    the array x, or x_train, or the only one of two dimensions or more.
            csv, parquet    columns of numbers, as float32 (uint8 if all are). A csv file begins with a line of names;
                   one of numbers only is refused unless they count 0, 1, 2, ... or 1, 2, 3, ...
            tfrecord    of tf.train.Example, a feature of numbers as float32, or a PNG or JPEG image.
            A directory holds parquet files, which are read as one table in the order of their names, or else images:
                   png, jpg, bmp, gif, also in directories in it, uint8, in the order of their names.
        labels: where the classes are. npy: the path of another npy file. npz: the name of an array. csv, parquet: of
            a column. tfrecord, tensorflow-datasets: of a feature. Images: "folders", the folder that each is in.
        feature: of tfrecord and tensorflow-datasets, the name of what to read, where there are several.
        image_size: n or (height, width), to resize images to. Without it all should be of one size.
        color: whether images are (height, width, 3), or grey.
        cache: folder for the file of rows, as large as these are; None: a temporary folder, deleted when the process
            ends. Where temporary folders lie in memory, name one on a disk.

    Every column of a table is a feature but the labels, a column of identifiers too: see `counting_columns`.
    float64 and integers beyond 2**24 are rounded to float32 in tables and records.

    Raises:
        InputError: data that are missing, damaged or something else; values that are missing, NaN, infinite, or no
            numbers; fewer than two rows, or labels that are not of two classes or more and one for each row.
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


def _source(data):
    """The path, which exists, or the name in tensorflow-datasets, a str with its prefix."""
    if str(data).startswith(records.PREFIX):
        return str(data)
    path = pathlib.Path(data).expanduser()
    if not path.exists():
        raise InputError(f"Expected a file or folder of data. Received: {data}, which does not exist. Name {FORMATS}.")
    return path


def _reader(source):
    """(function, names of the options it takes) for a path or a name in tensorflow-datasets."""
    if isinstance(source, str):
        return _DATASET
    if source.is_dir():
        return _READERS[r"\.parquet"] if tables.parquet_parts(source) else _FOLDER
    for suffix, reader in _READERS.items():
        if re.search(f"{suffix}$", source.name, re.IGNORECASE):
            return reader
    raise InputError(f"Expected a file of data by its suffix. Received: {source}. Name {FORMATS}.")
