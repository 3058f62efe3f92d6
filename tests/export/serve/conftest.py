"""SavedModels of every kind of signature, clients of an application in this process, and the command as a process."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from starlette.testclient import TestClient

from export.serve import application, versions
from export.serve.predictor import Limits
from tests.export.conftest import export_here

ROOT = pathlib.Path(__file__).parents[3]
MODEL = "/v1/models/encoder"
PREDICT = f"{MODEL}:predict"
LIMITS = Limits(rows=100, body_bytes=200_000, body_seconds=1.0)


class Tiny(tf.Module):
    """Signatures of every kind, three numbers in, two out; `scale` tells versions apart."""

    def __init__(self, scale):
        super().__init__()
        self.scale = tf.Variable(scale)

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def encode(self, inputs):
        return {"features": self.scale * inputs[:, :2]}

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def reconstruct(self, inputs):
        return {"features": self.scale * inputs[:, :2], "error": tf.reduce_sum(inputs**2, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def top(self, inputs):
        found = tf.math.top_k(inputs, 2)
        return {"indices": found.indices, "values": found.values}

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32), tf.TensorSpec((None,), tf.int32)])
    def two(self, a, b):
        return {"product": a * tf.cast(b, tf.float32)[:, None]}

    @tf.function(input_signature=[tf.TensorSpec((None, 2, 2), tf.uint8)])
    def images(self, images):
        return {"features": tf.reduce_sum(tf.cast(images, tf.float32), axis=2)}

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def fussy(self, inputs):
        with tf.control_dependencies([tf.debugging.assert_less(inputs, 10.0, message="too large for me")]):
            return {"features": inputs + 1.0}

    @tf.function(input_signature=[tf.TensorSpec((2, 2), tf.float32)])
    def whole(self, matrix):
        return {"trace": tf.linalg.trace(matrix)}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def text(self, words):
        return {"upper": tf.strings.upper(words)}

    @tf.function(input_signature=[tf.TensorSpec((None, 1), tf.bool)])
    def negate(self, flags):
        return {"flags": tf.logical_not(flags)}

    @tf.function(input_signature=[tf.TensorSpec((None, 1), tf.float32)])
    def slow(self, inputs):
        """Counts to the first number."""
        return {"outputs": tf.while_loop(lambda n, _: n < inputs[0, 0], lambda n, x: (n + 1, x), (0.0, inputs))[1]}


SLOW = {"signature_name": "slow", "instances": [[400_000]]}  # for about a second
SIGNATURES = ("encode", "reconstruct", "top", "two", "images", "fussy", "whole", "text", "negate", "slow")


def save_tiny(folder, scale, names=SIGNATURES):
    tiny = Tiny(scale)
    tf.saved_model.save(tiny, str(folder), {"serving_default": tiny.encode, **{n: getattr(tiny, n) for n in names}})


def put(source, export, number):
    """Rename a copy of a SavedModel into place as a version."""
    aside = export / f".new-{number}"
    shutil.copytree(source, aside)
    place = export / "saved_model" / str(number)
    place.parent.mkdir(parents=True, exist_ok=True)
    os.replace(aside, place)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of SavedModels: of scale 1, with all signatures or `encode` alone, and of scale 2."""
    folder = tmp_path_factory.mktemp("saved")
    save_tiny(folder / "1", 1.0)
    save_tiny(folder / "small", 1.0, names=["encode"])
    save_tiny(folder / "2", 2.0, names=["encode"])
    return {1: folder / "1", 2: folder / "2", "small": folder / "small"}


@contextlib.contextmanager
def serving(export, **options):
    """A client of an application in this process, with its versions loaded."""
    app = application.create(export, **options)
    app.state.models.refresh()
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def client(saved, tmp_path_factory):
    """A client of version 1."""
    export = tmp_path_factory.mktemp("export")
    put(saved[1], export, 1)
    with serving(export, limits=LIMITS) as client:
        yield client


@pytest.fixture
def changing(saved, tmp_path, monkeypatch):
    """(export directory, client) for tests that change the versions; the directory is looked at every 50 ms."""
    monkeypatch.setattr(versions, "SECONDS_BETWEEN_LOOKS", 0.05)
    put(saved["small"], tmp_path, 1)
    with serving(tmp_path) as client:
        yield tmp_path, client


def states(client):
    return {v["version"]: v["state"] for v in client.get(MODEL).json()["model_version_status"]}


def eventually(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def is_error(answer):
    """Whether an answer has TensorFlow Serving's form of errors."""
    value = answer.json()
    return list(value) == ["error"] and isinstance(value["error"], str) and len(value["error"]) > 3


def start(export, *flags):
    """The command as a process, listening somewhere: see `wait_until_it_listens`."""
    return subprocess.Popen(
        [sys.executable, "-m", "export.serve", str(export), "--port", "0", *flags],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_until_it_listens(process):
    """(port, what a process prints when it listens)."""
    lines = []
    while (line := process.stdout.readline()) and "curl" not in line:
        lines.append(line)
    printed = "".join([*lines, line])
    assert "http://" in printed, process.stderr.read()
    return int(re.search(r"http://127\.0\.0\.1:(\d+)", printed)[1]), printed


@pytest.fixture(scope="module")
def server(tiny_run, saved, tmp_path_factory):
    """(process, port, what it printed, export directory) of the command, with the tiny model as version 1.

    Version 2 is what `python -m export` writes.
    """
    out = tmp_path_factory.mktemp("served")
    export_here(tiny_run[0], out, formats=["saved_model"])
    os.replace(out / "saved_model" / "1", out / "saved_model" / "2")
    (out / "export.json").unlink()  # which says what version 1 is
    put(saved[1], out, 1)
    with start(out, "--body-seconds", "1", "--max-megabytes", "1") as process:
        yield process, *wait_until_it_listens(process), out
        process.terminate()


def post(port, body, path=PREDICT):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, body)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content
