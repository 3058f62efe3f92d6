"""Files that ask for far more memory than they have bytes, or never end: one line, status 2, nothing written."""

import pathlib
import resource
import sys

import pytest

from benchmarks import hostile_arrays
from benchmarks.hostile import INPUTS
from keras_sae.data.readers import storage
from train import cli, features

GIGABYTES = 0.02  # that reading may take: of more, the message tells before it is taken
LIMIT = 2**30  # bytes that the process may have more than it has, as RLIMIT_DATA counts them


@pytest.fixture
def limited():
    """Let the process take no more memory than that."""
    status = pathlib.Path("/proc/self/status").read_text().split()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (1024 * int(status[status.index("VmData:") + 1]) + LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


def written(directory):
    return sorted(path for path in directory.rglob("*") if not path.name.startswith(".lock"))


@pytest.mark.parametrize("name", INPUTS)
def test_hostile_data_end_in_one_line(name, tmp_path, limited, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(storage, "_temporary_folder", lambda: str(folder))
    (tmp_path / "data").mkdir()
    flags = INPUTS[name](tmp_path / "data", GIGABYTES)
    before = written(tmp_path / "data")
    monkeypatch.setattr(sys, "argv", ["features.py", *flags, "--memory", str(GIGABYTES), "--out", "run"])
    with pytest.raises(SystemExit) as ended:
        cli.main(features.Config, features.run, features.PROGRAM, features.__doc__)
    output, errors = capfd.readouterr()
    assert (ended.value.code, errors.count("\n"), output) == (2, 1, "")
    assert errors.startswith("train.features: error: ")
    assert " Received" in errors
    assert not (tmp_path / "run").exists()
    assert written(tmp_path / "data") == before
    if name not in PASS_THE_READERS:
        assert written(folder) == []


PASS_THE_READERS = ("units of a billion", "units that no number holds", "iterations that no number holds")


def test_the_inputs_are_of_every_kind():
    assert hostile_arrays.ROWS.shape == (60, 5)
    kinds = ("csv", "npy", "npz", "labels", "sparse", "mat", "hdf5", "safetensors", "parquet", "tfrecord", "image")
    assert all(any(name.startswith(kind) for name in INPUTS) for kind in kinds)
