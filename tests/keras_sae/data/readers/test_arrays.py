"""readers.arrays: npy and npz."""

import zipfile

import numpy as np
import pytest

from keras_sae.data import readers
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises
from tests.keras_sae.data.readers.conftest import ROWS, check_digits, is_mapped

# --- npy ---


def test_npy(images, classes, tmp_path):
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "y.npy", classes)
    found = readers.read_rows(tmp_path / "x.npy", labels=tmp_path / "y.npy")
    check_digits(found, images, classes)
    assert (found.image_shape, found.feature_names, found.value_range) == ((28, 28), (), None)
    assert found.source == f"array in {tmp_path / 'x.npy'}"


def test_npy_without_labels(images, tmp_path):
    np.save(tmp_path / "x.npy", images.reshape(ROWS, 784) / 255)
    found = readers.read_rows(str(tmp_path / "x.npy"))
    np.testing.assert_array_equal(found.x, images.reshape(ROWS, 784) / 255)
    assert (found.x.dtype, found.y, found.class_names, found.image_shape) == ("float64", None, (), None)
    assert found.x.filename == tmp_path / "x.npy"  # the file itself, not a copy


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((4, 2, 3), "uint8", (2, 3)),
        ((4, 2, 3, 1), "uint8", (2, 3)),
        ((4, 2, 3, 3), "uint8", (2, 3, 3)),
        ((4, 2, 3, 2), "uint8", None),
        ((4, 2, 3), "float32", None),
        ((4, 2, 3, 3, 2), "uint8", None),
    ],
)
def test_image_shape_of_arrays(shape, dtype, expected, tmp_path):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / "x.npy", array)
    found = readers.read_rows(tmp_path / "x.npy")
    np.testing.assert_array_equal(found.x, array.reshape(4, -1))
    assert found.image_shape == expected


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "<i8", "f2", "f4", "f8", ">f4", ">i4", ">f8", "g"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(30, 6), (30, 3, 2)])
def test_every_layout_of_arrays(shape, order, dtype, tmp_path):
    array = np.asarray(np.arange(180).reshape(shape) % 120, dtype, order=order)
    np.save(tmp_path / "x.npy", array)
    found = readers.read_rows(tmp_path / "x.npy", cache=tmp_path / "cache")
    np.testing.assert_array_equal(found.x, array.reshape(30, 6))
    assert is_mapped(found.x)
    assert found.x.dtype.isnative
    assert found.x.dtype.kind in "uif"
    assert found.x.dtype.itemsize <= 8


# --- npz ---


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["x", "x_train", "pictures"])
def test_npz(save, name, images, classes, tmp_path):
    save(tmp_path / "digits.npz", **{name: images, "y": classes, "number": 7})
    found = readers.read_rows(tmp_path / "digits.npz", labels="y", cache=tmp_path / "cache")
    check_digits(found, images, classes)
    assert found.image_shape == (28, 28)
    assert found.source == f"array {name} in {tmp_path / 'digits.npz'}"
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".npy"]


def test_npz_whose_array_cannot_be_guessed(images, tmp_path):
    np.savez(tmp_path / "two.npz", a=images, b=images, y=np.arange(3))
    with raises(
        InputError,
        "Expected an array named x or x_train, or only one of two dimensions or more",
        "Received: a (40, 28, 28) uint8, b (40, 28, 28) uint8, y (3,) int64. Name the one to read: feature=NAME.",
    ):
        readers.read_rows(tmp_path / "two.npz")
    with raises(InputError, "Expected labels named 'z' in ", "two.npz. Received: a (40, 28, 28) uint8"):
        readers.read_rows(tmp_path / "two.npz", labels="z")


def test_damaged_npz(images, tmp_path):
    np.savez(tmp_path / "x.npz", x=images)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    (tmp_path / "cut.npz").write_bytes(content[:5000])
    with raises(InputError, "Expected an npz file. Received: ", "cut.npz, which is damaged: "):
        readers.read_rows(tmp_path / "cut.npz")
    content[5000] ^= 1
    (tmp_path / "flipped.npz").write_bytes(content)
    with raises(InputError, "Expected an npz file. Received: ", "flipped.npz, which is damaged: Bad CRC-32"):
        readers.read_rows(tmp_path / "flipped.npz", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    with zipfile.ZipFile(tmp_path / "texts.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with raises(InputError, "Expected a NumPy array. Received: notes.txt in "):
        readers.read_rows(tmp_path / "texts.npz")


# Arrays that cannot be read: (array, what the message says).
WRONG_ARRAYS = {
    "one dimension": (np.arange(5), ["Expected rows of numbers, (examples, features). Received: shape (5,) in "]),
    "a number": (np.array(3.0), ["Received: shape () in "]),
    "no rows": (np.zeros((0, 3)), ["Expected one row or more. Received: no rows in "]),
    "no columns": (np.zeros((3, 0)), ["Expected one feature or more. Received: shape (3, 0) in "]),
    "complex": (np.zeros((3, 2), complex), ["Expected real numbers. Received: complex numbers in "]),
    "text": (np.array([["a"], ["b"]]), ["Expected real numbers. Received: text in "]),
    "objects": (np.array([[1, None]] * 2), ["Expected real numbers. Received: Python objects in "]),
    "dates": (np.zeros((3, 2), "M8[s]"), ["Expected real numbers. Received: dates in "]),
    "records": (np.zeros((3, 2), [("a", "f4")]), ["Expected real numbers. Received: records in "]),
    "NaN": (np.array([[1, 2], [3, np.nan]]), ["Expected finite numbers", "Received: nan in column 2, row 2 (counted"]),
    "infinity": (np.array([[1, 2], [-np.inf, 3]], "f2"), ["Received: -inf in column 1, row 2 (counted from 1) of "]),
    "too large": (np.array([[1, 2], [3, 1e39]]), ["up to 3.4e+38, which float32 can hold. Received: 1e+39 in"]),
    "late NaN": (np.array([[0.0] * 784] * 30 + [[0.0] * 783 + [np.nan]]), ["Received: nan in column 784, row 31 "]),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("kind", WRONG_ARRAYS)
def test_wrong_arrays(kind, suffix, tmp_path):
    array, parts = WRONG_ARRAYS[kind]
    path = tmp_path / f"x.{suffix}"
    np.save(path, array) if suffix == "npy" else np.savez(path, x=array)
    with raises(InputError, *parts, str(path)) as caught:
        readers.read_rows(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [3, 50, 200])
def test_cut_off_array(cut, images, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, images)
    path.write_bytes(path.read_bytes()[:cut])
    with raises(InputError, "Expected ", "Received: ", "x.npy, which is "):
        readers.read_rows(path)
