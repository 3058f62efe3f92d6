import json
import os
import stat

import numpy as np
import pytest

from keras_sae import files
from keras_sae.data.containers import RowSubset
from keras_sae.files import forget


def content(directory):
    """{name: bytes} of every file in the folder."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_write_aside_replaces_the_file_at_the_end(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")
    with files.write_aside(path) as aside:
        assert (aside.parent, aside.suffix) == (tmp_path, ".json")
        aside.write_text("new")
        assert path.read_text() == "old"
    assert content(tmp_path) == {"file.json": b"new"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_write_aside_leaves_the_old_file_when_the_body_raises(error, tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")

    def write():
        with files.write_aside(path) as aside:
            aside.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert content(tmp_path) == {"file.json": b"old"}


def test_write_aside_makes_a_new_file(tmp_path):
    with files.write_aside(str(tmp_path / "file.npz")) as aside:
        aside.write_bytes(b"new")
        assert list(content(tmp_path)) == [aside.name]
    assert content(tmp_path) == {"file.npz": b"new"}


def test_the_content_is_on_the_disk_before_it_takes_the_place_of_the_old(tmp_path, monkeypatch):
    """In this order: the file's content, the rename, the folder. Otherwise a power cut could leave an empty file."""
    path, done = tmp_path / "file.json", []
    fsync, replace, opened = os.fsync, os.replace, os.open

    def recorded_open(name, *args, **kwargs):
        handle = opened(name, *args, **kwargs)
        names[handle] = os.fspath(name)
        return handle

    def recorded_fsync(handle):
        done.append(("fsync", names[handle], os.path.getsize(names[handle])))
        fsync(handle)

    def recorded_replace(source, target):
        done.append(("replace", os.fspath(source), os.fspath(target)))
        replace(source, target)

    names = {}
    monkeypatch.setattr(os, "open", recorded_open)
    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    with files.write_aside(path) as aside:
        aside.write_text("new")
    expected = [("fsync", str(aside), 3), ("replace", str(aside), str(path))]
    assert done[:2] == expected
    assert [what[:2] for what in done[2:]] == ([("fsync", str(tmp_path))] if os.name == "posix" else [])


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_disk_that_fails_at_the_end_leaves_the_old_file(function, tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    path.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        files.write_json(path, {"new": 1})
    assert content(tmp_path) == {"file.json": b"old"}


def test_no_file_stays_open(tmp_path):
    handles = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    files.write_json(tmp_path / "file.json", {})
    assert len(os.listdir("/proc/self/fd") if handles else []) == len(handles)


def test_json_is_readable_by_people_and_exact(tmp_path):
    content = {"number": 0.1 + 0.2, "list": [1, 2]}
    files.write_json(tmp_path / "file.json", content)
    text = (tmp_path / "file.json").read_text()
    assert json.loads(text) == content
    assert text.startswith('{\n  "number"')
    assert text.endswith("}\n")


def resident(x):
    """Kilobytes of the file of a mapped array that are in this process's memory (Linux)."""
    with open("/proc/self/smaps") as file:
        lines = iter(file)
        for line in lines:
            if line.rstrip().endswith(str(x.filename)):
                return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
    raise AssertionError(f"{x.filename} is not mapped")


@pytest.fixture
def mapped(tmp_path):
    """mapped(mode) -> a million bytes of a file, read once."""
    np.save(tmp_path / "x.npy", np.ones((1000, 1000), "uint8"))

    def mapped(mode):
        x = np.load(tmp_path / "x.npy", mmap_mode=mode)
        assert x.sum() == 10**6
        return x

    return mapped


@pytest.mark.parametrize("part", ["all", "slice", "column", "reshaped", "asarray"])
def test_pages_of_a_mapped_file_are_given_back(part, mapped):
    x = mapped("r")
    before = resident(x)
    views = {"all": x, "slice": x[5:9], "column": x[:, 3], "reshaped": x.reshape(-1, 10), "asarray": np.asarray(x)}
    forget(views[part])
    assert resident(x) < 300 < before
    assert x.sum() == 10**6


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_what_was_changed_in_a_mapped_file_stays(mode, mapped):
    x = mapped(mode)
    x += 1
    forget(x[:10])
    forget(x)
    assert x.sum() == 2 * 10**6


@pytest.mark.parametrize("x", [np.ones(3), np.ones((4, 4))[1:], [1, 2], None, np.frombuffer(b"1234", "uint8")])
def test_what_is_not_mapped_is_left_alone(x):
    before = None if x is None else np.array(x)
    forget(x)
    np.testing.assert_array_equal(x, before)


def test_a_view_of_a_mapped_file_gives_its_pages_back_itself(mapped):
    x = mapped("r")
    RowSubset(x, np.arange(0, 1000, 2))[:500]
    assert resident(x) < 300
