import errno
import re

import ml_dtypes
import numpy as np
import pytest

from keras_sae.errors import InputError
from keras_sae.training import checkpoints
from tests.damage import check_damage
from tests.keras_sae.conftest import raises

ARRAYS = {
    "theta": [np.array([0.1 + 0.2, 1e-308, -0.0, np.pi])],
    "steps": [np.full(3, i, "float32") for i in range(12)],  # more than ten: "steps/10" comes before "steps/2" in ABC
    "value": [np.array(1 / 3)],
    "variables": [np.eye(2, dtype="float16"), np.array([5, 7], "uint32"), np.array([True]), np.zeros((0, 4), "int64")],
    "with/slash": [np.arange(3)],
}
RECORD = {"epoch": 3, "history": {"loss": [0.1 + 0.2, 1e-17]}, "stopped": None, "why": "größer"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "layer_1.npz"


def names(path):
    return [file.name for file in path.parent.iterdir()]


def test_what_was_written_comes_back_exactly(path):
    checkpoints.write(path, ARRAYS, **RECORD)
    arrays, record = checkpoints.read(path)
    assert record == RECORD
    assert list(arrays) == list(ARRAYS)
    for name, group in ARRAYS.items():
        assert len(arrays[name]) == len(group)
        for found, expected in zip(arrays[name], group, strict=True):
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert found.tobytes() == expected.tobytes()
    assert names(path) == ["layer_1.npz"]


def test_bfloat16_comes_back_exactly(path):
    array = np.array([1.5, -0.0, 3e38], ml_dtypes.bfloat16)
    checkpoints.write(path, {"variables": [np.zeros(2), array]}, epoch=1)
    arrays, record = checkpoints.read(path)
    assert record == {"epoch": 1}
    assert [found.dtype for found in arrays["variables"]] == [np.float64, ml_dtypes.bfloat16]
    assert arrays["variables"][1].tobytes() == array.tobytes()


def test_an_empty_list_has_no_name(path):
    checkpoints.write(path, {"theta": [np.zeros(2)], "steps": []})
    arrays, record = checkpoints.read(path)
    assert list(arrays) == ["theta"]
    assert record == {}


def test_a_record_alone(path):
    checkpoints.write(path, {}, epoch=0)
    assert checkpoints.read(str(path)) == ({}, {"epoch": 0})


def test_the_last_one_written_is_read(path):
    for epoch in range(3):
        checkpoints.write(path, {"variables": [np.full(epoch, 1.0)]}, epoch=epoch)
    arrays, record = checkpoints.read(path)
    assert (arrays["variables"][0].tolist(), record) == ([1.0, 1.0], {"epoch": 2})


def test_those_of_other_data_are_refused(path):
    with checkpoints.of({"rows": "a", "labels": "b"}):
        checkpoints.write(path, {}, epoch=1)
        assert checkpoints.read(path) == ({}, {"epoch": 1})
    message = f"Expected the data that {re.escape(str(path))} had. Received: other labels. Give it the same"
    with checkpoints.of({"rows": "a", "labels": "c"}), pytest.raises(InputError, match=message):
        checkpoints.read(path)


def test_no_file(path):
    assert checkpoints.read(path) is None
    assert checkpoints.read(path.parent / "no folder" / "layer_1.npz") is None


def flip(content):
    """One byte in the middle of the first array, which only the archive's checksum tells."""
    at = content.index(ARRAYS["theta"][0].tobytes())
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGE = {
    "cut off": lambda content: content[:-200],
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "garbage": lambda content: b"no archive" * 100,
    "one bit": flip,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_broken_file(damage, path):
    checkpoints.write(path, ARRAYS, **RECORD)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    expected = ["Expected a checkpoint to resume from", f"Received: {path}, which cannot be read", "Remove it to train"]
    with raises(InputError, *expected):
        checkpoints.read(path)


def flat(directory):
    """All that a checkpoint holds, as arrays in order."""
    arrays, record = checkpoints.read(directory / "layer_1.npz")
    names = [f"{name} {len(group)}" for name, group in arrays.items()]
    return [np.array(names), np.array(str(record)), *(array for group in arrays.values() for array in group)]


def test_any_fault_is_found_or_does_no_harm(path):
    checkpoints.write(path, ARRAYS, **RECORD)
    assert check_damage(path.parent, path.name, flat, 300) > 200


@pytest.mark.slow
def test_any_fault_of_thousands_is_found_or_does_no_harm(path):
    checkpoints.write(path, ARRAYS, **RECORD)
    check_damage(path.parent, path.name, flat, 20_000, seed=2)


def test_names_of_arrays_that_changed_places(path):
    """Which the archive's own checksums do not tell: its directory has none."""
    checkpoints.write(path, {"a": [np.zeros(2)], "b": [np.ones(2)]}, epoch=1)
    content = path.read_bytes()
    for old, new in ((b"a/0.npy", b"c/0.npy"), (b"b/0.npy", b"a/0.npy"), (b"c/0.npy", b"b/0.npy")):
        content = content.replace(old, new)
    path.write_bytes(content)
    with np.load(path) as archive:
        assert archive["a/0"].tolist() == [1, 1]  # NumPy reads it without a word
    with raises(InputError, f"Received: {path}, which cannot be read: it has no checksum, or another."):
        checkpoints.read(path)


def test_an_archive_of_something_else(path):
    np.savez(path, x=np.zeros(3))
    with raises(
        InputError, "Expected a checkpoint to resume from", f"Received: {path}", "it has no checksum, or another"
    ):
        checkpoints.read(path)


def test_one_array_that_is_no_archive(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with raises(InputError, "Expected a checkpoint to resume from", f"Received: {path}"):
        checkpoints.read(path)


def test_arbitrary_objects_are_not_unpickled(path):
    np.savez(path, record=np.array([{"epoch": 1}], dtype=object))
    with raises(InputError, "Expected a checkpoint to resume from", "allow_pickle=False"):
        checkpoints.read(path)


def test_a_disk_that_becomes_full_leaves_the_old_checkpoint(path, monkeypatch):
    checkpoints.write(path, ARRAYS, **RECORD)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(before[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.write(path, ARRAYS, epoch=4)
    assert path.read_bytes() == before
    assert names(path) == ["layer_1.npz"]
