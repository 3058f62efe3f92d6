"""Readers of TFRecord files and of tensorflow-datasets."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...errors import InputError
from ...extras import imported
from .. import datasets
from .image_files import SIZE_CURE, decode, pixels, size_of
from .labels import Labels
from .rows import Rows, cache_file, check_numbers, image_range, store_each

PREFIX = "tfds:"
SPLITS = ("train", "test", "validation")
_IMAGE_BEGINNINGS = (b"\x89PNG\r\n", b"\xff\xd8\xff")

_Example = dict[str, np.ndarray | list[bytes]]  # the features of a tf.train.Example, float32, int64 or bytes


def read_tfrecord(
    path: pathlib.Path,
    labels: str | None = None,
    feature: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    color: bool = False,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return a feature of every tf.train.Example in a TFRecord file: numbers of one length, or a PNG or JPEG image.

    `feature` is its name, needed if several could be meant. `labels` is the name of an int64 or bytes feature.
    """
    first = next(_examples(path), None)
    if first is None:
        raise InputError(f"Expected two rows or more. Received: no rows in {path}.")
    feature = feature or _only_feature(first[1], labels, path)
    size, classes = size_of(image_size), Labels(f"{labels} in {path}")

    def rows() -> Iterator[tuple[str, np.ndarray]]:
        for where, example in _examples(path):
            if labels is not None:
                classes.append(_label(example, labels, where))
            yield where, _row(example, feature, where, size, color)

    target = cache_file(cache, path, feature, size, color)
    x, shape = store_each(rows(), target, f"{feature} in {path}", cure=SIZE_CURE)
    y, class_names = (None, ()) if labels is None else classes.classes(len(x))
    if len(shape) == 1:
        return Rows(x, y, class_names, source=f"{feature} in {path}")
    return Rows(x, y, class_names, (), shape, image_range(x), f"{feature} in {path}")


def _examples(path: pathlib.Path) -> Iterator[tuple[str, _Example]]:
    """Yield (description, features) of every tf.train.Example in a file."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        for number, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator(), 1):
            features = tf.train.Example.FromString(record).features.feature
            yield f"record {number} of {path}", {name: _values(value) for name, value in features.items()}
    except (tf.errors.OpError, DecodeError) as error:
        raise InputError(
            f"Expected TFRecords of tf.train.Example. Received: {path}, which is damaged or something else: "
            f"{' '.join(str(error).split())[:100]}. Write or copy the file again."
        ) from error


def _values(feature: Any) -> np.ndarray | list[bytes]:
    """Return the values of a feature of a tf.train.Example."""
    kind = feature.WhichOneof("kind")
    if kind == "float_list":
        return np.array(feature.float_list.value, "float32")
    if kind == "int64_list":
        return np.array(feature.int64_list.value, "int64")
    return list(feature.bytes_list.value)


def _is_image(values: np.ndarray | list[bytes]) -> bool:
    return isinstance(values, list) and len(values) == 1 and values[0].startswith(_IMAGE_BEGINNINGS)


def _only_feature(example: _Example, labels: str | None, path: pathlib.Path) -> str:
    """Return the name of the only feature that can be a row, as it holds several numbers or an image."""
    possible = {name: values for name, values in example.items() if _is_image(values) or isinstance(values, np.ndarray)}
    long = [name for name, values in possible.items() if (_is_image(values) or len(values) > 1) and name != labels]
    if len(long) == 1:
        return long[0]
    raise InputError(
        f"Expected the name of the feature to read, as there is not just one that could be meant. Received: "
        f"feature=None for {path}, whose first record has: {_described(example)}."
    )


def _described(example: _Example) -> str:
    """Return the names of features with the number and type of their values, for a message."""
    kinds = {name: "bytes" if isinstance(values, list) else values.dtype for name, values in example.items()}
    return ", ".join(f"{name} ({len(example[name])} {kinds[name]})" for name in sorted(example)) or "no features"


def _named(example: _Example, name: str, where: str) -> np.ndarray | list[bytes]:
    """Return the values of a feature. Raise InputError if there is none of this name."""
    if name not in example:
        raise InputError(f"Expected a feature named {name!r}. Received: {where} with: {_described(example)}.")
    return example[name]


def _label(example: _Example, name: str, where: str) -> Any:
    """Return the label in a feature. Raise InputError if it does not hold just one."""
    values = _named(example, name, where)
    if len(values) != 1 or getattr(values, "dtype", None) == "float32":
        raise InputError(
            f"Expected one label, int64 or bytes, in each record. Received: {name!r} in {where} with: "
            f"{_described({name: values})}."
        )
    return values[0]


def _row(example: _Example, name: str, where: str, size: tuple[int, int] | None, color: bool) -> np.ndarray:
    """Return the numbers or the pixels in a feature. Raise InputError if it holds neither."""
    values = _named(example, name, where)
    if isinstance(values, np.ndarray):
        return values.astype("float32")
    if not _is_image(values):
        raise InputError(
            f"Expected numbers or one PNG or JPEG image. Received: {name!r} in {where} with other bytes. Store them as "
            "a float or int64 list."
        )
    return decode(values[0], where, size, color)


def read_tensorflow_dataset(
    name: str,
    labels: str | None = None,
    feature: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    color: bool = False,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return a split of a data set of tensorflow-datasets, NAME or NAME/SPLIT, by default its training data.

    `feature` is by default "image", or the only one of numbers. `labels` is the name of a feature, mostly "label".
    """
    name, split = _name_and_split(name.removeprefix(PREFIX))
    builder = _builder(name)
    features, where = builder.info.features, f"tensorflow-datasets' {name}/{split}"
    if split not in builder.info.splits:
        raise InputError(f"Expected a split of {name}: {', '.join(builder.info.splits)}. Received: {split!r}.")
    feature = feature or _feature_of_dataset(features, labels, where)
    for wanted in filter(None, (feature, labels)):
        if wanted not in features:
            raise InputError(f"Expected a feature of {where}: {', '.join(features)}. Received: {wanted!r}.")
    if labels is not None and features[labels].shape != ():
        raise InputError(
            f"Expected labels of shape (). Received: {labels!r} of {features[labels].shape} in {where}. Name another "
            "feature."
        )
    return _read_split(builder, split, where, labels, feature, size_of(image_size), color, cache)


def _name_and_split(name: str) -> tuple[str, str]:
    """Return the name of a data set and that of its split."""
    front, _, last = name.rpartition("/")
    return (front, last) if front and last in SPLITS else (name, "train")


def _builder(name: str) -> Any:
    """Return the builder of a data set, which is downloaded if tensorflow-datasets has not prepared it."""
    tfds = imported("tensorflow_datasets")
    try:
        return datasets.tensorflow_datasets_builder(name, download=True)
    except InputError:
        raise
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:  # the last if it lacks the version
        raise InputError(
            f"Expected the name of a data set of tensorflow-datasets. Received: {name!r}: {str(error).splitlines()[0]}"
        ) from error


def _feature_of_dataset(features: Any, labels: str | None, where: str) -> str:
    """Return the name of the feature to read if none was given. Raise InputError if several could be meant."""
    if "image" in features:
        return "image"
    flat = [name for name in features if isinstance(features[name].shape, tuple) and name != labels]
    numeric = [name for name in flat if np.dtype(features[name].np_dtype).kind in "biuf"]
    if len(numeric) != 1:
        raise InputError(
            f"Expected the name of the feature to read, as there is not just one of numbers. Received: feature=None "
            f"for {where}, which has: {', '.join(features)}."
        )
    return numeric[0]


def _read_split(
    builder: Any,
    split: str,
    where: str,
    labels: str | None,
    feature: str,
    size: tuple[int, int] | None,
    color: bool,
    cache: pathlib.Path | str | None,
) -> Rows:
    """Return a feature of every example of a split, with the options of `read_tensorflow_dataset`."""
    import tensorflow_datasets as tfds

    classes, images = Labels(f"{labels} in {where}"), _holds_images(builder.info.features[feature])

    def rows() -> Iterator[tuple[str, np.ndarray]]:
        for number, example in enumerate(tfds.as_numpy(builder.as_dataset(split=split)), 1):
            if labels is not None:
                classes.append(_name_of_label(builder.info.features[labels], example[labels]))
            array = example[feature]
            yield f"example {number} of {where}", _pixels(array, size, color) if images else _numbers(array, where)

    target = cache_file(cache, where, feature, size, color)
    total = builder.info.splits[split].num_examples
    x, shape = store_each(rows(), target, f"{feature} in {where}", total, SIZE_CURE if images else "")
    y, class_names = (None, ()) if labels is None else classes.classes(len(x))
    source = f"{where} in {builder.data_path}"
    if not images:
        return Rows(x, y, class_names, source=source)
    return Rows(x, y, class_names, (), shape, image_range(x), source)


def _holds_images(feature: Any) -> bool:
    return (
        isinstance(feature.shape, tuple)
        and len(feature.shape) == 3
        and feature.shape[-1] in (1, 3, 4)
        and feature.np_dtype == np.uint8
    )


def _pixels(array: np.ndarray, size: tuple[int, int] | None, color: bool) -> np.ndarray:
    """Return the pixels of an image (height, width, channels), as `decode` returns those of a file."""
    array = array[..., 0] if array.shape[-1] == 1 else array
    return pixels(imported("PIL.Image").fromarray(array), size, color)


def _numbers(array: np.ndarray, where: str) -> np.ndarray:
    """Return numbers as uint8, if they are, or float32. Raise InputError if they are not real numbers."""
    array = np.atleast_1d(array)
    check_numbers(array.dtype, where)
    return array if array.dtype == "uint8" else array.astype("float32")


def _name_of_label(feature: Any, value: Any) -> Any:
    """Return the name of a class if the data set has names, else its number."""
    return feature.int2str(value) if getattr(feature, "names", None) and value >= 0 else value
