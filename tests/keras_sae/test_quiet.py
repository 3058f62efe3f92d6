"""A quiet start: the lines that TensorFlow prints as it starts are hidden, and nothing else."""

import glob
import os
import subprocess
import sys
import types

import pytest

from keras_sae import quiet
from keras_sae.errors import InputError

NO_NEWS = """WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795687699.709111   10552 port.cc:153] oneDNN custom operations are on. You may see slightly different
To enable the following instructions: AVX2 AVX512F, in other operations, rebuild TensorFlow.
2026-01-30 22:44:42.456316: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.
E0000 00:00:1795687703.105904   10552 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error
"""
NEWS = """W0000 00:00:1795687703.105904   10552 gpu_device.cc:2431] Cannot dlopen some GPU libraries.
script.py:3: DeprecationWarning: I am told by Python
"""
USED = """
import keras_sae, numpy
x = numpy.eye(4, dtype="float32")
autoencoder = keras_sae.SparseAutoencoder(2)
keras_sae.fit(autoencoder, x, iterations=2, verbose=0)
print(keras_sae.check_gradients(autoencoder, x) < 1e-5)
"""


@pytest.fixture
def fresh(monkeypatch):
    """A process that has no TensorFlow yet, and whose user said nothing; fresh.looked counts the looks for GPUs."""
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.delenv(quiet.LEVEL, raising=False)
    monkeypatch.setattr(quiet.glob, "glob", lambda pattern: [])
    monkeypatch.setattr(quiet.os.path, "exists", lambda path: False)
    state = types.SimpleNamespace(looked=0)

    def look():
        state.looked += 1
        os.write(2, NO_NEWS.encode())

    config = types.SimpleNamespace(list_physical_devices=look)
    state.load = lambda: monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(config=config))
    return state


def start(load=lambda: None):
    with quiet.quiet_start():
        load()
        os.write(2, (NO_NEWS + NEWS).encode())


@pytest.mark.skipif(bool(glob.glob("/dev/nvidia*")), reason="with a GPU, TensorFlow has something to say")
def test_a_script_that_imports_and_trains_prints_nothing():
    variables = {name: value for name, value in os.environ.items() if name != quiet.LEVEL}
    done = subprocess.run([sys.executable, "-c", USED], env=variables, capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.stdout) == ("", "True\n")


def test_what_is_no_news_is_hidden_and_what_is_is_shown(fresh, capfd):
    start(fresh.load)
    os.write(2, b"and heard again\n")
    assert capfd.readouterr().err == NEWS + "and heard again\n"
    assert (os.environ[quiet.LEVEL], fresh.looked) == ("2", 1)


def test_with_a_gpu_tensorflow_is_left_to_look_for_it_when_it_computes(fresh, monkeypatch, capfd):
    """Until then, the script may choose which are visible."""
    monkeypatch.setattr(quiet.glob, "glob", lambda pattern: ["/dev/nvidia0"])
    start(fresh.load)
    assert (capfd.readouterr().err, fresh.looked, os.environ[quiet.LEVEL]) == (NEWS, 0, "1")


def test_who_wants_all_lines_has_them(fresh, monkeypatch, capfd):
    monkeypatch.setenv(quiet.LEVEL, "0")
    start(fresh.load)
    assert (capfd.readouterr().err, fresh.looked) == (NO_NEWS + NEWS, 0)


def test_what_the_user_set_stays(fresh, monkeypatch, capfd):
    monkeypatch.setenv(quiet.LEVEL, "3")
    start()
    assert (capfd.readouterr().err, os.environ[quiet.LEVEL]) == (NEWS, "3")


def test_a_process_with_tensorflow_is_left_alone(fresh, capfd):
    fresh.load()
    start()
    assert (capfd.readouterr().err, fresh.looked) == (NO_NEWS + NEWS, 0)
    assert quiet.LEVEL not in os.environ


def test_a_process_without_stderr_starts(fresh, monkeypatch, capfd):
    def fstat(number, fstat=os.fstat):
        return fstat(-1 if number == 2 else number)

    with monkeypatch.context() as patch:
        patch.setattr(quiet.os, "fstat", fstat)
        patch.setattr(sys, "stderr", None)
        start()
    assert capfd.readouterr().err == NO_NEWS + NEWS  # left as it is


@pytest.mark.parametrize("hide", [quiet.quiet_start, quiet.stderr_suppressed])
def test_a_start_that_fails_shows_all(hide, fresh, capfd):
    def fail(error):
        with hide():
            os.write(2, NO_NEWS.encode())
            raise error

    with pytest.raises(ImportError):
        fail(ImportError("no libcudart"))
    assert capfd.readouterr().err == NO_NEWS
    with pytest.raises(InputError):  # whose message says it all
        fail(InputError("Expected ..."))
    assert capfd.readouterr().err == ""
