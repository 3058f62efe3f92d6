"""readers of safetensors files: tensors of every type, mapped or copied, and files that cannot be read."""

import json
import sys

import numpy as np
import pytest

from keras_sae.data import readers
from keras_sae.errors import InputError, MissingPackageError
from tests.keras_sae.conftest import raises
from tests.keras_sae.data.readers.conftest import check_digits, is_mapped

pytest.importorskip("safetensors")

KINDS = {"f8": "F64", "f4": "F32", "f2": "F16", "u1": "U8", "i4": "I32", "i8": "I64", "b1": "BOOL"}
HALVES = np.array([[0.5, -1.25, 3.0], [0.0, 2**-10, 96.0]], "float32")  # which float16 and bfloat16 hold


def write(path, metadata=None, **tensors):
    """Write a file as its format says: 8 bytes, a header of JSON, numbers.  tensors: arrays, or (kind, array)."""
    header, content = {"__metadata__": metadata} if metadata else {}, b""
    for name, tensor in tensors.items():
        kind, array = tensor if isinstance(tensor, tuple) else (KINDS[tensor.dtype.str[1:]], tensor)
        offsets = [len(content), len(content) + array.nbytes]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": offsets}
        content += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


def as_bfloat16(x):
    """(kind, the upper halves of float32)"""
    return "BF16", (x.view("uint32") >> 16).astype("uint16")


def test_tensors_by_name(images, classes, tmp_path):
    path = write(tmp_path / "x.safetensors", {"made by": "hand"}, train=images, test=np.eye(3), kind=classes)
    found = readers.read_rows(path, labels="kind", feature="train")
    check_digits(found, images, classes)
    assert (found.image_shape, found.source) == ((28, 28), f"tensor train in {path}")
    assert found.notes == ("left out: test (3, 3) F64",)
    with raises(InputError, "Expected an array named x or x_train", "test (3, 3) F64", "Name the one to read:"):
        readers.read_rows(path)
    with raises(InputError, "Expected an array named 'none' in ", "Received: ", "kind (40,) I64"):
        readers.read_rows(path, feature="none")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32", "bool"])
def test_one_tensor_is_mapped_in_its_own_type(dtype, tmp_path):
    x = HALVES.astype(dtype)
    path = write(tmp_path / "x.safetensors", activations=x)
    found = readers.read_rows(path)
    np.testing.assert_array_equal(found.x, x)
    assert is_mapped(found.x)
    assert (found.x.filename, found.x.dtype) == (path, "uint8" if dtype == "bool" else dtype)


def test_bfloat16_becomes_float32(tmp_path):
    path = write(tmp_path / "x.safetensors", activations=as_bfloat16(HALVES))
    found = readers.read_rows(path)
    np.testing.assert_array_equal(found.x, HALVES)
    assert (is_mapped(found.x), found.x.dtype) == (True, "float32")


def test_several_files(tmp_path):
    for part in range(2):
        write(tmp_path / f"{part}.safetensors", x=HALVES + part)
    found = readers.read_rows(tmp_path)
    np.testing.assert_array_equal(found.x, np.concatenate([HALVES, HALVES + 1]))
    write(tmp_path / "2.safetensors", x=as_bfloat16(HALVES))
    with raises(InputError, "Expected arrays of one type", "Received: F32 (2, 3) in x in ", "and BF16 (2, 3) in x in "):
        readers.read_rows(tmp_path)


def test_tokens_become_rows_of_all_their_numbers_with_a_note(tmp_path):
    path = write(tmp_path / "x.safetensors", x=np.arange(24, dtype="float32").reshape(2, 3, 4))
    found = readers.read_rows(path)
    assert found.x.shape == (2, 12)
    assert "if each 4 numbers are an example, save x.reshape(-1, 4)" in found.notes[0]


# Tensors that cannot be read: (tensor, what the message says).
WRONG = {
    "one dimension": (
        np.arange(4.0),
        ["Expected rows of numbers, (examples, features). Received: shape (4,) in x"],
    ),
    "no rows": (np.zeros((0, 3)), ["Expected one row or more. Received: no rows in x in "]),
    "float8": (
        ("F8_E4M3", np.zeros((2, 3), "uint8")),
        ["types: F64, F32, F16, BF16", "Received: F8_E4M3 in x in "],
    ),
    "complex": (("C64", np.zeros((2, 3), "uint64")), ["Received: C64 in x in ", "Save them as float32 or float16."]),
    "NaN": (np.array([[1, np.nan]]), ["Received: nan in column 2, row 1 (counted from 1) of x in "]),
    "too large": (np.array([[1e39]]), ["Received: 1e+39 in column 1, row 1"]),
}


@pytest.mark.parametrize("kind", WRONG)
def test_tensors_that_are_no_rows_of_numbers(kind, tmp_path):
    tensor, parts = WRONG[kind]
    with raises(InputError, *parts):
        readers.read_rows(write(tmp_path / "x.safetensors", x=tensor), feature="x")


def with_header_of(size, content):
    """The content of a file that says that its header has so many bytes."""
    return size.to_bytes(8, "little") + content[8:]


HUGE = b"[4611686018427387904, 4]"
DAMAGES = {
    "empty": lambda content: b"",
    "cut off in the header": lambda content: content[:40],
    "cut off in the numbers": lambda content: content[:-3],
    "longer than it says": lambda content: content + b"0",
    "a header beyond the file": lambda content: with_header_of(2**40, content),
    "a header of more bytes than can be": lambda content: with_header_of(2**64 - 1, content),
    "no JSON": lambda content: content[:8] + b"?" + content[9:],
    "numbers beyond the file": lambda content: content.replace(b"[0, 24]", b"[0, 99]"),
    "fewer numbers than its shape": lambda content: content.replace(b"[2, 3]", b"[9, 3]"),
    "a shape that overflows": lambda content: with_header_of(
        content[0] + len(HUGE) - 6, content.replace(b"[2, 3]", HUGE)
    ),
    "something else": lambda content: b"PNG" * 30,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files(name, tmp_path):
    path = write(tmp_path / "x.safetensors", x=HALVES)
    content = DAMAGES[name](path.read_bytes())
    assert content != path.read_bytes()
    path.write_bytes(content)
    with raises(InputError, f"Expected a safetensors file. Received: {path}, which is damaged, cut off or", "copy"):
        readers.read_rows(path)


def test_without_the_package(tmp_path, monkeypatch):
    path = write(tmp_path / "x.safetensors", x=HALVES)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with raises(MissingPackageError, "Expected safetensors to read such data with.", "pip install 'keras-sae[data]'"):
        readers.read_rows(path)
