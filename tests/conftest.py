"""Fixtures of the whole suite: real digits, in memory and as IDX files, and one tiny trained run."""

import gc
import gzip
import os
import struct

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", help="run the tests that take minutes as well")


def pytest_collection_finish(session):
    """Let the garbage collector leave what was imported, and search the rest less often: a sixth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--run-slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; run with --run-slow"))


@pytest.fixture(scope="session")
def digits():
    """The embedded digits: 4,000 to train, 1,000 to test."""
    from keras_sae.data import datasets

    return datasets.load_images("mnist", "embedded")


def write_idx(path, array, code=0x08):
    """An IDX file of `array` (big-endian in the file); gzipped where the name says so."""
    content = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture(scope="session")
def idx_folder(digits, tmp_path_factory):
    """A folder like MNIST's, gzipped, with 120 real digits to train on and 40 to test."""
    folder = tmp_path_factory.mktemp("idx")
    for part, number, x, y in [
        ("train", 120, digits.x_train, digits.y_train),
        ("t10k", 40, digits.x_test, digits.y_test),
    ]:
        chosen = slice(None, None, len(x) // number)
        images = np.round(x[chosen] * 255).astype("uint8").reshape(-1, 28, 28)[:number]
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", y[chosen].astype("uint8")[:number])
    return folder


@pytest.fixture(scope="session")
def tiny_run(idx_folder, tmp_path_factory):
    """(run directory, metrics) of a stack trained for a few steps on a few real digits."""
    from train import mnist

    out = tmp_path_factory.mktemp("runs") / "tiny"
    config = mnist.Config(data=str(idx_folder), out=str(out), units=(16, 9), max_iterations=4)
    return out, mnist.run(config, verbose=0)
