"""A reader of TFRecord files."""

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...errors import InputError
from .bounds import check_memory
from .image_files import SIZE_CURE, Decoder, check_no_images
from .labels import Labels
from .record_lengths import lengths
from .rows import Audit, Rows, image_range
from .sources import Source
from .storage import cache_file, store_each

_IMAGE_BEGINNINGS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")

COPIES = 4  # of a record while it is read: TensorFlow's, Python's, and what is in it

_Example = dict[str, np.ndarray | list[bytes]]  # the features of a tf.train.Example, float32, int64 or bytes


def read_tfrecord(
    source: Source,
    labels: str | None = None,
    feature: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    color: bool = False,
    names: Sequence[str] | None = None,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return a feature of every tf.train.Example in TFRecord files: numbers of one length, or an image.

    `feature` is its name, needed if several could be meant; if all are single numbers, each becomes a column, or those
    of these `names`, in this order. `labels` is the name of an int64 or bytes feature.
    """
    first = next(_examples(source), None)
    if first is None:
        raise InputError(f"Expected one row or more. Received: no rows in {source}.")
    names = [feature] if feature else list(names or _features_to_read(first[1], labels, source))
    decoder, classes = Decoder(image_size, color), Labels(f"{labels} in {source}")
    images = len(names) == 1 and _is_image(first[1].get(names[0], []))
    if not images and all(_is_numbers(first[1].get(name, [])) for name in names):
        check_no_images(image_size, color, f"numbers in {source}")

    def rows() -> Iterator[tuple[str, np.ndarray]]:
        for where, example in _examples(source):
            if labels is not None:
                classes.append(_label(example, labels, where))
            if len(names) == 1:
                yield where, _row(example, names[0], where, decoder)
            else:
                yield where, np.array([_single(example, name, where) for name in names], "float64")

    shown = f"{names[0] if len(names) == 1 else 'features'} in {source}"
    target = cache_file(cache, source.name, list(source.files), names, decoder.size, color)
    audit = Audit(shown, names if len(names) > 1 else ())
    cure = SIZE_CURE if images else " Pad or cut the numbers of all records to one length."
    x, shape = store_each(rows(), target, audit, cure=cure, dtype=None if images else "float32")
    y, class_names = (None, ()) if labels is None else classes.classes(len(x))
    left = [name for name in sorted(first[1]) if name not in (*names, labels)]
    notes = (
        *source.notes,
        *([f"left out: {_described({name: first[1][name] for name in left})}"] if left else []),
        *([f"the {len(names):,} features, each one number, are the columns"] if len(names) > 1 else []),
        *decoder.notes(),
        *audit.notes(),
    )
    if images:
        return Rows(x, y, class_names, image_shape=shape, value_range=image_range(x), source=shown, notes=notes)
    return Rows(x, y, class_names, tuple(names) if len(names) > 1 else (), source=shown, notes=notes)


def _examples(source: Source) -> Iterator[tuple[str, _Example]]:
    """Yield (description, features) of every tf.train.Example in the files of a source."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    for path in source.files:
        number, packing = 0, _packing(path)
        try:
            for number, length in enumerate(lengths(path, bool(packing)), 1):
                check_memory(COPIES * length, f"records of {length:,} bytes, as number {number} of {path}")
            dataset = tf.data.TFRecordDataset(os.fsencode(path), packing)
            for number, record in enumerate(dataset.as_numpy_iterator(), 1):
                features = tf.train.Example.FromString(record).features.feature
                yield f"record {number} of {path}", {name: _values(value) for name, value in features.items()}
        except (tf.errors.OpError, DecodeError, EOFError) as error:
            where = f"{path}, which is damaged after record {number}"
            if isinstance(error, DecodeError):
                where = f"record {number} of {path}, which is something else"
            elif number == 0:
                where = f"{path}, which is damaged or something else"
            raise InputError(
                f"Expected TFRecords of tf.train.Example. Received: {where}. Write or copy the file again."
            ) from error


def _packing(path: pathlib.Path) -> str:
    """Return how a TFRecord file is compressed, as TensorFlow calls it, by its first bytes."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(b"\x1f\x8b\x08"):
        return "GZIP"
    fits = len(start) == 8 and int.from_bytes(start, "little") < path.stat().st_size  # the length of the first record
    return "ZLIB" if start[:2] in (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda") and not fits else ""


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


def _features_to_read(example: _Example, labels: str | None, source: Source) -> list[str]:
    """Return the name of the only feature of several numbers or an image, or the names of all single numbers."""
    others = {name: values for name, values in sorted(example.items()) if name != labels}
    long = [name for name, values in others.items() if _is_image(values) or (_is_numbers(values) and len(values) > 1)]
    single = [name for name, values in others.items() if _is_numbers(values) and len(values) == 1]
    if len(long) == 1 or (single and not long):
        return long or single
    raise InputError(
        f"Expected the name of the feature to read, as there is not just one that could be meant. Received: none for "
        f"{source}, whose first record has: {_described(example)}. Name it: feature=NAME."
    )


def _is_numbers(values: np.ndarray | list[bytes]) -> bool:
    return isinstance(values, np.ndarray)


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


def _single(example: _Example, name: str, where: str) -> Any:
    """Return the number in a feature. Raise InputError if it does not hold just one."""
    values = _named(example, name, where)
    if not _is_numbers(values) or len(values) != 1:
        raise InputError(
            f"Expected one number in each feature, as in the first record. Received: {where} with: "
            f"{_described({name: values})}. Name the feature to read: feature=NAME."
        )
    return values[0]


def _row(example: _Example, name: str, where: str, decoder: Decoder) -> np.ndarray:
    """Return the numbers or the pixels in a feature. Raise InputError if it holds neither."""
    values = _named(example, name, where)
    if isinstance(values, np.ndarray):
        return values
    if not _is_image(values):
        raise InputError(
            f"Expected numbers or one image, such as PNG or JPEG. Received: {name!r} in {where} with other bytes. "
            "Store them as a float or int64 list."
        )
    return decoder.decode(values[0], where)
