"""keras_sae.locks: one process at a time, whatever ends it."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from keras_sae import locks
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises

ROOT = pathlib.Path(__file__).parents[2]
HOLD = (
    "import pathlib, sys, time; from keras_sae import locks\n"
    "with locks.held(pathlib.Path(sys.argv[1]), 'x'):\n    print('held', flush=True)\n    time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path / "keras_sae-1"."""
    words = [sys.executable, "-c", HOLD, tmp_path / "keras_sae-1"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_process_is_named_and_a_kill_releases(holder, tmp_path):
    directory = tmp_path / "keras_sae-1"
    with (
        raises(InputError, "Expected one process at a time to write the place. Received: another that is writing it ("),
        locks.held(directory, "the place"),
    ):
        pass
    with (
        raises(InputError, f"(process {holder.pid} on ", f": -c {directory}). Wait for it"),
        locks.held(directory, "p"),
    ):
        pass
    locks.remove_abandoned(tmp_path, "keras_sae-")
    assert directory.exists()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (directory / locks.HOLDER).exists()
    with locks.held(directory, "p"):
        assert f"process {os.getpid()} on " in (directory / locks.HOLDER).read_text()
    assert list(directory.iterdir()) == []


def test_what_a_kill_left_is_removed(tmp_path):
    for name in ("keras_sae-a", "keras_sae-b", "other-c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.raw").touch()
    for name in ("keras_sae-a", "other-c"):
        (tmp_path / name / locks.LOCK).touch()
    locks.remove_abandoned(tmp_path, "keras_sae-")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keras_sae-b", "other-c"]


@pytest.mark.parametrize("again", [False, True])
def test_this_process_holds_it_again_if_it_may(again, tmp_path):
    with locks.held(tmp_path, "p", again):
        try:
            with locks.held(tmp_path, "p", again):
                pass
        except InputError:
            assert not again
        else:
            assert again


def test_a_directory_that_goes_away(tmp_path):
    with locks.held(tmp_path / "a", "p"):
        for path in (tmp_path / "a").iterdir():
            path.unlink()
        (tmp_path / "a").rmdir()
    assert not (tmp_path / "a").exists()


def test_a_hold_within_a_hold_leaves_the_lock_to_the_outer_one(tmp_path):
    words = [sys.executable, "-c", HOLD.replace("time.sleep(60)", ""), tmp_path]
    with locks.held(tmp_path, "p", again=True):
        with locks.held(tmp_path, "p", again=True):
            pass
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert "Expected one process at a time to write x" in done.stderr
    assert not (tmp_path / locks.LOCK).exists()
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout == "held\n"
