"""Files that are whole or absent, and mapped files whose pages are given back."""

import json

import numpy as np
import pytest

from keras_sae.chunks import View
from keras_sae.files import forget, write_aside, write_json


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
    View(x, np.arange(0, 1000, 2))[:500]
    assert resident(x) < 300


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def fail():
        with write_aside(path) as aside:
            aside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
