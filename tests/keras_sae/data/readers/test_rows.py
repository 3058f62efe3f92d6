"""readers.rows and read_rows: what all formats share, and the file of rows between two passes."""

import errno
import os
import shutil
import sys
import types

import numpy as np
import pytest

from keras_sae.data import readers
from keras_sae.data.readers import rows, storage
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises
from tests.keras_sae.data.readers.conftest import write_text

# --- what all formats share ---


def test_missing_path(tmp_path):
    with raises(
        InputError,
        f"Expected a file or directory of data. Received: {tmp_path / 'none'}, which does not exist. Name npy, npz, "
        "csv (or csv.gz), parquet, tfrecord, h5, mat or safetensors files, images, a directory or a pattern of such "
        "files, or a name of tensorflow-datasets such as tfds:mnist.",
    ):
        readers.read_rows(tmp_path / "none")


def test_unknown_suffix(tmp_path):
    path = write_text(tmp_path / "table.xlsx", "x")
    with raises(InputError, f"Expected a file of data by its suffix. Received: {path}. Name npy, npz, csv"):
        readers.read_rows(path)


def test_data_that_must_not_be_read(image_folder, tmp_path, monkeypatch):
    path = write_text(tmp_path / "x.npy", "")

    def deny(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    with raises(InputError, f"Expected data that can be read. Received: {path}, which cannot be (Permission denied)."):
        readers.read_rows(path)
    monkeypatch.setattr(os, "scandir", deny)
    with raises(InputError, f"Expected data that can be read. Received: {image_folder}, which cannot be (Permission"):
        readers.read_rows(image_folder)


def test_options_of_another_format(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3))
    with raises(InputError, "Expected no other options than labels=... for ", "Received: feature='a'. Leave it out."):
        readers.read_rows(tmp_path / "x.npy", feature="a")
    with raises(InputError, "Expected no other options than labels=... for ", "Received: color=True. Leave it out."):
        readers.read_rows(tmp_path / "x.npy", color=True)


def test_a_folder_that_is_called_like_a_file(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with raises(InputError, "Expected data in ", "Received a directory with: nothing."):
        readers.read_rows(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("module", "name", "content", "package"),
    [
        ("pyarrow.csv", "x.csv", b"a\n1\n2\n", "pyarrow"),
        ("pyarrow.parquet", "x.parquet", b"", "pyarrow"),
        ("PIL.Image", "x.png", b"", "pillow"),
    ],
)
def test_missing_package(module, name, content, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(content)
    with raises(
        InputError, f"Expected {package} to read", "Received: Python without it. pip install 'keras-sae[data]'"
    ):
        readers.read_rows(tmp_path if name.endswith("png") else tmp_path / name)


def test_missing_tensorflow_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with raises(InputError, "Expected tensorflow-datasets", "pip install 'keras-sae[train]'"):
        readers.read_rows("tfds:mnist")


# --- the file of rows ---


def test_rows_stay_after_they_are_read_again(tmp_path):
    """Another read of the same data replaces the file, and what is mapped already stays as it was."""
    path = write_text(tmp_path / "x.csv", "a,b\n1,2\n3,4\n")
    first = readers.read_rows(path, cache=tmp_path / "cache")
    write_text(path, "a,b\n5,6\n7,8\n9,10\n")
    second = readers.read_rows(path, cache=tmp_path / "cache")
    np.testing.assert_array_equal(first.x, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(second.x, [[5, 6], [7, 8], [9, 10]])
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_different_options_have_different_files(image_folder, tmp_path):
    for options in ({}, {"color": True}, {"image_size": 14}):
        readers.read_rows(image_folder, **options, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_no_examples(tmp_path):
    with raises(InputError, "Expected one row or more. Received: no rows in here."):
        storage.store_each([], tmp_path / "x.raw", rows.Audit("here"))


def test_too_little_space(image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
    with raises(InputError, "Expected 0.0 GB of room on the disk of ", "Received: 0.0 GB free. Free some space"):
        readers.read_rows(image_folder, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_full_disk(tmp_path, monkeypatch):
    path = write_text(tmp_path / "x.csv", "a,b\n1,2\n3,4\n")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rows.Audit, "add", full)
    with raises(
        InputError, "Expected room for the data in ", "Received: a full disk. Free some space, or name a directory"
    ):
        readers.read_rows(path, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_cache_that_cannot_be_written_to(tmp_path):
    path = write_text(tmp_path / "x.csv", "a,b\n1,2\n3,4\n")
    with raises(InputError, "Expected a directory that can be written to, for the data. Received: ", "(File exists)"):
        readers.read_rows(path, cache=path)


def test_interrupted_while_writing(tmp_path, monkeypatch):
    path = write_text(tmp_path / "x.csv", "a,b\n1,2\n3,4\n")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(rows.Audit, "add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        readers.read_rows(path, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_constant_and_counting_columns():
    x = np.random.default_rng(0).uniform(size=(50, 784)).astype("float32")
    x[:, 3], x[:, 700], x[:-1, 10] = 0.5, -1, 2
    x[:, 5], x[:, 6] = np.arange(50), np.arange(7, 57)
    assert readers.constant_columns(x).tolist() == [3, 700]
    assert readers.counting_columns(x).tolist() == [5, 6]
    assert readers.counting_columns(np.arange(20, dtype="uint8").reshape(10, 2)[::-1] // 2).tolist() == []


def test_rows_describe_themselves():
    found = rows.Rows(np.zeros((1200, 3), "uint8"), np.zeros(1200, int), ("a", "b"), source="own.csv", notes=("one",))
    assert repr(found) == "Rows(1,200 of 3 features, uint8, 2 classes, 1 notes; own.csv)"
    assert repr(rows.Rows(np.zeros((2, 3)), source="own.npy")) == "Rows(2 of 3 features, float64; own.npy)"
