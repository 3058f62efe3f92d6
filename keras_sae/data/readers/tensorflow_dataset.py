"""A reader of data sets of tensorflow-datasets."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...errors import InputError
from ...extras import imported
from .. import datasets
from .image_files import SIZE_CURE, Decoder, check_no_images
from .labels import Labels
from .named_arrays import flattened
from .rows import Audit, Rows, check_numbers, image_range
from .storage import cache_file, store_each

PREFIX = "tfds:"
SPLITS = ("train", "test", "validation")


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
    if not _holds_images(features[feature]):
        check_no_images(image_size, color, f"{feature} in {where}, which holds none")
    return _read_split(builder, split, where, labels, feature, Decoder(image_size, color), cache)


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
            f"Expected the name of the feature to read, as there is not just one of numbers. Received: none for "
            f"{where}, which has: {', '.join(features)}. Name it: feature=NAME."
        )
    return numeric[0]


def _read_split(
    builder: Any,
    split: str,
    where: str,
    labels: str | None,
    feature: str,
    decoder: Decoder,
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
            yield f"example {number} of {where}", _pixels(array, decoder) if images else _numbers(array, where)

    target = cache_file(cache, where, feature, decoder.size, decoder.color)
    total = builder.info.splits[split].num_examples
    audit = Audit(f"{feature} in {where}")
    kept = None if images or builder.info.features[feature].np_dtype == np.uint8 else "float32"
    x, shape = store_each(rows(), target, audit, total, SIZE_CURE if images else "", kept)
    y, class_names = (None, ()) if labels is None else classes.classes(len(x))
    left = [name for name in builder.info.features if name not in (feature, labels)]
    notes = [f"left out: {', '.join(left)}"] if left else []
    notes += [*decoder.notes(), *audit.notes()]
    source = f"{where} in {builder.data_path}"
    if images:
        return Rows(x, y, class_names, image_shape=shape, value_range=image_range(x), source=source, notes=tuple(notes))
    return Rows(x, y, class_names, source=source, notes=(*notes, *flattened((len(x), *shape))))


def _holds_images(feature: Any) -> bool:
    return (
        isinstance(feature.shape, tuple)
        and len(feature.shape) == 3
        and feature.shape[-1] in (1, 3, 4)
        and feature.np_dtype == np.uint8
    )


def _pixels(array: np.ndarray, decoder: Decoder) -> np.ndarray:
    """Return the pixels of an image (height, width, channels)."""
    array = array[..., 0] if array.shape[-1] == 1 else array
    return decoder.pixels(imported("PIL.Image").fromarray(array))


def _numbers(array: np.ndarray, where: str) -> np.ndarray:
    """Return numbers of an example. Raise InputError if they are not real numbers."""
    array = np.atleast_1d(array)
    check_numbers(array.dtype, where)
    return array.view("uint8") if array.dtype.kind == "b" else array


def _name_of_label(feature: Any, value: Any) -> Any:
    """Return the name of a class if the data set has names, else its number."""
    return feature.int2str(value) if getattr(feature, "names", None) and value >= 0 else value
