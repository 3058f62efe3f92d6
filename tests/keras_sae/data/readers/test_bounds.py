"""readers.bounds: what reading may take of memory, and the figures that its messages name."""

import json
import struct
import zlib

import numpy as np
import pytest

from keras_sae.data import readers
from keras_sae.data.readers import bounds, record_lengths
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises


def test_what_is_needed_is_named_with_what_allows_it():
    bounds.check_memory(4e9, "rows")
    message = "Expected data that can be read in 4 GB of memory. Received: rows: 4.5 GB or more. If there is so much"
    with raises(InputError, message, "allow it: memory=5."):
        bounds.check_memory(4.5e9, "rows")
    with bounds.memory(0.5), raises(InputError, "in 0.5 GB of memory. Received: rows: 0.6 GB or more", "memory=1."):
        bounds.check_memory(0.6e9, "rows")
    assert bounds.allowed_bytes() == 4e9


def test_what_is_allowed_but_not_there():
    with raises(InputError, "in the memory that this process may have. Received: 9 GiB, for which"), bounds.memory(9):
        raise MemoryError("9 GiB")


@pytest.mark.parametrize("gigabytes", [0, -1, float("inf"), float("nan")])
def test_no_amount_of_memory(gigabytes, tmp_path):
    np.save(tmp_path / "x.npy", np.eye(2))
    with raises(ValueError, "`memory` expects a finite number of GB above 0. Received: "):
        readers.read_rows(tmp_path / "x.npy", memory=gigabytes)


def test_a_row_takes_64_bytes_a_number(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(2, 1000))
    assert readers.read_rows(tmp_path / "x.npy", memory=64e-6).x.shape == (2, 1000)
    with raises(InputError, "Received: rows of 1,000 numbers in ", "x.npy: 0.0 GB or more."):
        readers.read_rows(tmp_path / "x.npy", memory=63e-6)


@pytest.mark.parametrize(("shape", "count"), [((3,), "3"), ((2, 2), "shape (2, 2)"), ((10**12,), "1,000,000,000,000")])
def test_labels_are_counted_before_they_are_read(shape, count, tmp_path):
    np.save(tmp_path / "x.npy", np.eye(2))
    words = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    (tmp_path / "y.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words)
    with raises(InputError, f"Received: {count} in "):
        readers.read_rows(tmp_path / "x.npy", labels=tmp_path / "y.npy")


def test_the_lengths_of_records(tmp_path):
    import tensorflow as tf

    for packing in ("", "GZIP", "ZLIB"):
        path = tmp_path / f"x{packing}"
        with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(packing)) as writer:
            for size in (3, 0, 70_000):
                writer.write(bytes(size))
        assert list(record_lengths.lengths(path, bool(packing))) == [3, 0, 70_000]
    content = (tmp_path / "x").read_bytes()
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content[:-5])
    with pytest.raises(EOFError):
        list(record_lengths.lengths(damaged, False))
    damaged.write_bytes(content[:3] + b"?" + content[4:])  # TensorFlow finds that its checksum is another
    assert list(record_lengths.lengths(damaged, False)) == []
    damaged.write_bytes(zlib.compress(content)[:100])
    assert list(record_lengths.lengths(damaged, True)) == [3, 0, 70_000]
    damaged.write_bytes(b"no zlib")
    assert list(record_lengths.lengths(damaged, True)) == []


def test_a_sparse_matrix_is_looked_at_before_compiled_code_believes_it(tmp_path):
    arrays = {"format": b"csr", "shape": [2, 3], "data": [1.0, 2.0], "indices": [0, 2], "indptr": [0, 1, 2]}
    np.savez(tmp_path / "x.npz", **arrays)
    assert readers.read_rows(tmp_path / "x.npz").x.tolist() == [[1, 0, 0], [0, 0, 2]]
    np.savez(tmp_path / "x.npz", **arrays | {"indices": [0, 10**6]})
    with raises(InputError, "x.npz, which is damaged or something else: "):
        readers.read_rows(tmp_path / "x.npz")


def test_safetensors_labels_are_counted(tmp_path):
    words = json.dumps(
        {
            "x": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
            "y": {"dtype": "U8", "shape": [4], "data_offsets": [16, 20]},
        }
    ).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(words)) + words + bytes(20))
    with raises(InputError, "Expected one label for each of 2 rows. Received: 4 in y in "):
        readers.read_rows(tmp_path / "x.safetensors", labels="y")
