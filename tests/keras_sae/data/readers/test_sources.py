"""readers.sources: which files are meant by paths, directories and patterns."""

import gzip
import os
import pathlib

import numpy as np
import pytest

from keras_sae.data import readers
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises
from tests.keras_sae.data.readers.conftest import write_text


def arrays(folder, *names):
    """npy files of two rows each, which count."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, np.array([[number, 0.0], [number, 1.0]]))
    return folder


def read(*data, **options):
    return readers.read_rows(data, **options).x[::2, 0].tolist()


def test_files_in_their_order(tmp_path, monkeypatch):
    folder = arrays(tmp_path, "b.npy", "a.npy", "deep/c.npy", "_d.npy", ".e.npy", ".f/g.npy")
    assert read(folder / "b.npy", folder / "a.npy") == [0, 1]
    assert read(folder / "a.npy", folder / "b.npy") == [1, 0]
    assert read(folder) == read(str(folder)) == [1, 0, 2]
    assert read(folder / "*.npy") == [3, 1, 0]
    assert read(folder / "**" / "*.npy") == [3, 1, 0, 2]
    assert read(folder / "[ab].npy", folder / "deep") == [1, 0, 2]
    assert read(folder / "d*") == [2]
    monkeypatch.chdir(folder)
    assert read("*.npy", "deep") == [3, 1, 0, 2]
    assert readers.read_rows(["a.npy", "deep"]).source == "array in a.npy, deep"
    assert readers.read_rows(".").notes == ("3 files: a.npy, b.npy, c.npy", "left out: 3 hidden")


def test_what_is_left_out_is_counted(tmp_path):
    folder = arrays(tmp_path, "a.npy", "year=2020/b.npy")
    for name in ("notes.txt", "more.TXT", "README"):
        (folder / name).touch()
    found = readers.read_rows([folder, folder / "a.npy"])
    assert found.notes == (
        "2 files: a.npy, b.npy",
        "left out: 1 without a suffix, 2 txt, 1 named twice",
        "left out: the columns in names of directories such as year=2020",
    )


def test_what_does_not_belong_together(tmp_path):
    folder = arrays(tmp_path, "a.npy", "b.npy")
    write_text(folder / "c.csv", "a,b\n1,2\n3,4\n")
    with raises(InputError, "Expected data of one kind. Received: ", " with 2 npy, 1 csv. Name", f"'{folder}/*.npy'."):
        readers.read_rows(folder)
    np.save(folder / "b.npy", np.zeros((2, 3)))
    with raises(
        InputError,
        "Expected arrays of one type and one shape but for the examples. Received: float64 (2, 2) in ",
        "a.npy and float64 (2, 3) in ",
    ):
        readers.read_rows(folder / "*.npy")
    np.save(folder / "b.npy", np.zeros((2, 2), "float32"))
    with raises(InputError, "Received: float64 (2, 2) in ", "a.npy and float32 (2, 2) in "):
        readers.read_rows(folder / "*.npy")
    with raises(
        InputError, "Expected a pattern that matches files. Received: ", f"x*, which matches none in {folder}."
    ):
        readers.read_rows(folder / "x*")
    with raises(InputError, "Expected files or directories of data. Received: none. Name npy"):
        readers.read_rows([])
    with raises(InputError, "Expected a file or directory of data. Received: tfds:mnist, which does not exist."):
        readers.read_rows([folder / "a.npy", "tfds:mnist"])


@pytest.mark.parametrize("name", ["x.npy-0000{}-of-00003.npy", "x-0000{}-of-00003.npy", "x-0000{}-of-00003-ab1.npy"])
def test_shards_are_read_together_or_not_at_all(name, tmp_path):
    arrays(tmp_path, *(name.format(i) for i in range(3)))
    assert read(tmp_path) == read(tmp_path / "x*") == [0, 1, 2]
    pattern = name.replace("0000{}", "*").replace("-ab1", "*")
    with raises(InputError, "Expected all 3 shards of the data. Received: 1 of them, without number 0, 2. Name all, "):
        readers.read_rows(tmp_path / name.format(1))
    with raises(InputError, f"'{tmp_path / pattern}', or rename the files if a part is meant."):
        readers.read_rows(tmp_path / name.format(1))
    assert read(tmp_path / pattern) == [0, 1, 2]
    pathlib.Path(tmp_path, name.format(2)).rename(tmp_path / "part.npy")
    with raises(InputError, "Received: 2 of them, without number 2."):
        readers.read_rows(tmp_path)
    assert read(tmp_path / "part.npy") == [2]


def test_the_order_of_names_is_said_if_numbers_have_another(tmp_path):
    folder = arrays(tmp_path, "x2.npy", "x10.npy", "x1.npy", "x20.npy")
    found = readers.read_rows(folder)
    assert found.x[::2, 0].tolist() == [2, 1, 0, 3]
    assert found.notes == (
        "4 files: x1.npy, x10.npy, x2.npy and 1 more",
        "files are read in the order of their names, in which 10 comes before 2",
    )
    assert len(readers.read_rows([folder / "x1.npy", folder / "x2.npy", folder / "x10.npy"]).notes) == 1


def test_shards_that_count_from_1(tmp_path):
    arrays(tmp_path, "x-1-of-2.npy", "x-2-of-2.npy")
    assert read(tmp_path) == [0, 1]
    with raises(InputError, "Received: 1 of them, without number 1."):
        readers.read_rows(tmp_path / "x-2-of-2.npy")


COMPRESSED = {
    "x.npy": (gzip.compress(b"numbers"), "which is packed (gzip). Unpack it first: gunzip."),
    "x.parquet": (b"BZh91AY", "which is packed (bzip2). Unpack it first: bunzip2."),
    "x.csv": (b"PK\x03\x04 and so on", "which is packed (zip). Unpack it first: unzip."),
    "x.tfrecord": (b"\x28\xb5\x2f\xfd and so on", "which is packed (zstd)."),
    "x.h5": (b"version https://git-lfs.github.com/spec/v1\n", "which only stands for a file in Git LFS. Fetch that"),
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_files_are_told_from_damaged_ones(name, tmp_path):
    content, message = COMPRESSED[name]
    (tmp_path / name).write_bytes(content)
    with raises(InputError, f"Received: {tmp_path / name}, {message}"):
        readers.read_rows(tmp_path / name)


def test_links_are_not_followed_round_or_out(tmp_path):
    """A loop, two of them, one upwards and one out: each file is read once."""
    folder = arrays(tmp_path / "data", "a.npy", "deep/b.npy", "deep/c.npy")
    arrays(tmp_path / "other", "d.npy")
    links = {"again": ".", "more": ".", "deep/up": "..", "out": "../other", "e.npy": "deep/b.npy"}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    (folder / "f.npy").hardlink_to(folder / "a.npy")
    found = readers.read_rows(folder)
    assert found.x[::2, 0].tolist() == [0, 1, 2]
    assert found.notes[-1] == "left out: 4 links to directories, 2 linked twice"
    assert read(folder / "**" / "*.npy") == [0, 1, 2]
    assert read(folder / "**") == [0, 1, 2]
    assert read(folder / "again") == [0, 1, 2]  # named, rather than found
    assert read(folder / "a.npy", folder / "f.npy") == [0]
    (folder / "g.npy").symlink_to(tmp_path / "other" / "d.npy")  # a file, as data sets are made of
    assert read(folder) == [0, 1, 2, 0]


def test_pipes_devices_and_broken_links(tmp_path):
    folder = arrays(tmp_path / "data", "a.npy")
    os.mkfifo(folder / "b.npy")
    (folder / "c.npy").symlink_to("nowhere")
    (folder / "d.npy").symlink_to("/dev/zero")
    found = readers.read_rows(folder)
    assert len(found.x) == 2
    assert found.notes == ("left out: 3 no files (pipes, devices, broken links)",)
    for name, kind in {"b.npy": "a pipe", "d.npy": "a device"}.items():
        message = f"Expected a file, which can be read again. Received: {folder / name}, {kind}. Write what comes"
        with raises(InputError, message):
            readers.read_rows(folder / name)
        with raises(InputError, message):
            readers.read_rows(folder / "a.npy", labels=folder / name)
    with raises(InputError, "Expected a file, which can be read again."):
        readers.read_rows(folder / "*.npy")
