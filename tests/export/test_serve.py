"""python -m export.serve: TensorFlow Serving's REST API, versions that come and go, and bad clients."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import schemathesis
import tensorflow as tf
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings, strategies as st
from starlette.testclient import TestClient

from export.serve import __main__ as command, application, versions as served_models
from tests.export.conftest import export_here

ROOT = pathlib.Path(__file__).parents[2]
MODEL = "/v1/models/encoder"
PREDICT = f"{MODEL}:predict"
LIMITS = application.Limits(rows=100, body_bytes=200_000, body_seconds=1.0)


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
SIGNATURES = ("encode", "reconstruct", "two", "images", "fussy", "whole", "text", "negate", "slow")


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
    """(export folder, client) for tests that change the versions; the folder is looked at every 50 ms."""
    monkeypatch.setattr(served_models, "SECONDS_BETWEEN_LOOKS", 0.05)
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


# The forms of requests


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({"instances": [[1, 2, 3]]}, {"predictions": [[1.0, 2.0]]}),
        ({"instances": [{"inputs": [1, 2, 3]}, {"inputs": [4, 5, 6]}]}, {"predictions": [[1.0, 2.0], [4.0, 5.0]]}),
        ({"inputs": [[1, 2, 3]]}, {"outputs": [[1.0, 2.0]]}),
        ({"inputs": {"inputs": [[1, 2, 3]]}}, {"outputs": [[1.0, 2.0]]}),
        (
            {"signature_name": "reconstruct", "instances": [[1, 2, 3], [0, 0, 0]]},
            {"predictions": [{"features": [1.0, 2.0], "error": 14.0}, {"features": [0.0, 0.0], "error": 0.0}]},
        ),
        (
            {"signature_name": "reconstruct", "inputs": [[1, 2, 3]]},
            {"outputs": {"features": [[1.0, 2.0]], "error": [14.0]}},
        ),
        ({"signature_name": "two", "instances": [{"a": [1, 2], "b": 3}]}, {"predictions": [[3.0, 6.0]]}),
        ({"signature_name": "two", "inputs": {"a": [[1, 2]], "b": [3]}}, {"outputs": [[3.0, 6.0]]}),
        ({"signature_name": "images", "instances": [[[1, 2], [3, 255]]]}, {"predictions": [[3.0, 258.0]]}),
        ({"signature_name": "whole", "inputs": [[1, 2], [3, 4]]}, {"outputs": 5.0}),
        ({"signature_name": "text", "instances": ["ab", "é"]}, {"predictions": ["AB", "é"]}),
        ({"signature_name": "negate", "instances": [[True], [False]]}, {"predictions": [[False], [True]]}),
        ({"signature_name": "fussy", "instances": [[1, 2, 3]]}, {"predictions": [[2.0, 3.0, 4.0]]}),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_requests_are_answered_in_tensorflow_servings_forms(client, request_, answer):
    for path in (PREDICT, f"{MODEL}/versions/1:predict"):
        got = client.post(path, json=request_)
        assert got.status_code == 200, got.text
        assert got.headers["content-type"] == "application/json"
        assert got.json() == answer


def test_answers_are_those_of_the_model_to_the_last_bit(client, saved):
    x = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    expected = tf.saved_model.load(str(saved[1])).signatures["reconstruct"](inputs=tf.constant(x))
    got = client.post(PREDICT, json={"signature_name": "reconstruct", "inputs": x.tolist()}).json()["outputs"]
    for name, column in expected.items():
        np.testing.assert_array_equal(np.array(got[name], "float32"), column)


def test_the_states_have_tensorflow_servings_form(client):
    expected = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert client.get(MODEL).json() == {"model_version_status": [expected]}
    assert client.get(f"{MODEL}/versions/1").json() == {"model_version_status": [expected]}


def test_the_metadata_have_tensorflow_servings_form(client):
    value = client.get(f"{MODEL}/metadata").json()
    assert value == client.get(f"{MODEL}/versions/1/metadata").json()
    assert value["model_spec"] == {"name": "encoder", "signature_name": "", "version": "1"}
    encode = value["metadata"]["signature_def"]["signature_def"]["encode"]
    assert encode["method_name"] == "tensorflow/serving/predict"
    assert encode["inputs"]["inputs"]["dtype"] == "DT_FLOAT"
    assert encode["inputs"]["inputs"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}],
        "unknown_rank": False,
    }


def test_tensorflow_servings_own_messages_read_the_states_and_metadata(client):
    apis = pytest.importorskip("tensorflow_serving.apis.get_model_metadata_pb2")
    status = pytest.importorskip("tensorflow_serving.apis.get_model_status_pb2")
    json_format.ParseDict(client.get(MODEL).json(), status.GetModelStatusResponse())
    signatures = json_format.ParseDict(
        client.get(f"{MODEL}/metadata").json()["metadata"]["signature_def"], apis.SignatureDefMap()
    )
    assert {"serving_default", *SIGNATURES} <= set(signatures.signature_def)


# What is refused


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"instances": [[1, 2]]}', ["(rows, 3)", "(1, 2)"]),
        ('{"instances": [1, 2, 3]}', ["(rows, 3)", "(3)"]),
        ('{"instances": [[1, 2, 3], [1]]}', ["different lengths"]),
        ('{"instances": [["a", "b", "c"]]}', ["strings"]),
        ('{"instances": [["1", 2, 3]]}', ["strings"]),
        ('{"instances": [[null, 2, 3]]}', ["no numbers"]),
        ('{"instances": [[true, false, true]]}', ["true or false"]),
        ('{"instances": [[NaN, 2, 3]]}', ["JSON"]),
        ('{"instances": [[Infinity, 2, 3]]}', ["JSON"]),
        ('{"instances": [[1e400, 2, 3]]}', ["JSON"]),
        ('{"instances": [[1e39, 2, 3]]}', ["too large"]),
        ('{"instances": [[' + "9" * 60 + ", 2, 3]]}", ["too large"]),
        ('{"signature_name": "reconstruct", "instances": [[3e38, 2, 3]]}', ["not finite"]),
        ('{"signature_name": "images", "instances": [[[1, 2], [3, 256]]]}', ["uint8", "256"]),
        ('{"signature_name": "images", "instances": [[[1, 2], [3, 0.5]]]}', ["uint8", "fraction"]),
        ('{"signature_name": "text", "instances": [3]}', ["no strings"]),
        ('{"signature_name": "two", "instances": [1]}', ["a, b", "plain"]),
        ('{"signature_name": "two", "inputs": [1]}', ["a, b", "plain"]),
        ('{"signature_name": "two", "inputs": {"a": [[1, 2]], "b": [1, 2]}}', ["as many rows"]),
        ('{"signature_name": "two", "instances": [{"a": [1, 2]}]}', ["a, b", "'a'"]),
        ('{"signature_name": "whole", "instances": [[1, 2], [3, 4]]}', ['"inputs"']),
        ('{"signature_name": "fussy", "instances": [[1, 2, 30]]}', ["too large for me"]),
        ('{"signature_name": "nothing", "instances": [[1, 2, 3]]}', ["encode", "'nothing'"]),
        ('{"signature_name": 3, "instances": [[1, 2, 3]]}', ["encode", "3"]),
        ('{"instances": [{"inputs": [1, 2, 3]}, [1, 2, 3]]}', ["both"]),
        ('{"instances": [{"x": [1, 2, 3]}]}', ["'x'"]),
        ('{"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}', ["instances and inputs"]),
        ('{"instance": [[1, 2, 3]]}', ["neither"]),
        ('{"instances": []}', ["a list of 0"]),
        ('{"inputs": []}', ["(rows, 3)"]),
        ('{"inputs": {"inputs": []}}', ["(rows, 3)"]),
        ('{"inputs": {}}', ["none"]),
        ('{"instances": null}', ["null"]),
        ('{"instances": {"inputs": [1, 2, 3]}}', ["an object"]),
        (json.dumps({"instances": [[0, 0, 0]] * 101}), ["100 rows", "101"]),
        (json.dumps({"inputs": [[0, 0, 0]] * 101}), ["100 rows", "101"]),
        ("[[1, 2, 3]]", ["a list"]),
        ("", ["JSON"]),
        ("{", ["JSON"]),
        (b"\xff\xfe", ["JSON"]),
        ('{"inputs": ' + "[" * 900 + "]" * 900 + "}", ["(rows, 3)"]),
        ("[" * 5000, ["JSON"]),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_bad_requests_are_refused_with_what_was_expected(client, body, words):
    answer = client.post(PREDICT, content=body)
    assert answer.status_code == 400, answer.text
    assert is_error(answer)
    assert [word for word in words if word not in answer.json()["error"]] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models/other:predict", 404),
        ("POST", f"{MODEL}/versions/7:predict", 404),
        ("POST", f"{MODEL}/versions/01:predict", 404),
        ("POST", f"{MODEL}/versions/..%2F1:predict", 404),
        ("POST", "/v1/models/..%2F..%2Fetc:predict", 404),
        ("GET", "/v1/models/other", 404),
        ("GET", f"{MODEL}/versions/7", 404),
        ("GET", f"{MODEL}/versions/7/metadata", 404),
        ("GET", "/v1/models/other/metadata", 404),
        ("GET", "/nothing", 404),
        ("GET", "/docs", 404),
        ("GET", "/page/index.html", 404),
        ("GET", f"{MODEL}/", 404),
        ("GET", PREDICT, 404),
        ("PUT", MODEL, 405),
        ("POST", MODEL, 405),
        ("DELETE", PREDICT, 405),
        ("POST", "/healthz", 405),
    ],
)
def test_unknown_paths_and_methods_are_refused_in_the_same_form(client, method, path, status):
    answer = client.request(method, path, content=b'{"instances": [[1, 2, 3]]}' if method == "POST" else None)
    assert answer.status_code == status
    assert is_error(answer)


def test_a_large_body_is_refused_by_its_length_and_by_what_comes(client):
    def chunks():
        for _ in range(50):
            yield b" " * 10_000

    for content in (b" " * 200_001, chunks()):
        answer = client.post(PREDICT, content=content)
        assert answer.status_code == 413
        assert is_error(answer)
        assert "200000 bytes" in answer.json()["error"]
        assert answer.headers["connection"] == "close"


def test_what_comes_on_top_of_the_waiting_is_refused(saved, tmp_path):
    put(saved[1], tmp_path, 1)
    with serving(tmp_path, limits=application.Limits(waiting=2)) as client:
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: client.post(PREDICT, json=SLOW), range(8)))
        assert {answer.status_code for answer in answers} == {200, 503}
        refused = [answer for answer in answers if answer.status_code == 503]
        assert all(is_error(answer) and answer.headers["retry-after"] == "1" for answer in refused)
        assert client.post(PREDICT, json={"instances": [[1, 2, 3]]}).status_code == 200


def test_a_fault_of_ours_is_answered_in_the_same_form(client, monkeypatch):
    monkeypatch.setattr(served_models.Signature, "__call__", lambda signature, arrays: 1 / 0)
    answer = client.post(PREDICT, json={"instances": [[1, 2, 3]]})
    assert answer.status_code == 500
    assert is_error(answer)
    assert "ZeroDivision" not in answer.text


def anything(leaves):
    return st.recursive(
        leaves, lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=3)
    )


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ROWS = st.lists(st.lists(st.integers() | st.floats(), min_size=2, max_size=4), max_size=4)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "signature_name": st.sampled_from(["serving_default", *SIGNATURES[:-1]]) | anything(LEAVES),
        "instances": ROWS | anything(LEAVES),
        "inputs": ROWS | st.fixed_dictionaries({"a": ROWS, "b": st.lists(st.integers())}) | anything(LEAVES),
    },
)


def answers_below_500(client, request):
    answer = client.post(PREDICT, content=json.dumps(request))  # json writes NaN and Infinity
    assert answer.status_code in (200, 400), answer.text
    assert answer.status_code == 200 or is_error(answer)


@given(REQUESTS | anything(LEAVES))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_makes_the_server_fail(client, request_):
    answers_below_500(client, request_)


@pytest.mark.slow
@given(REQUESTS | anything(LEAVES))
@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_of_thousands_makes_the_server_fail(client, request_):
    answers_below_500(client, request_)


def ask_what_the_openapi_allows(export, examples):
    app = application.create(export, limits=LIMITS)  # of its own: schemathesis starts and stops it
    app.state.models.refresh()
    for operation in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations():

        @given(operation.ok().as_strategy())
        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        def ask(case):
            answer = case.call()
            assert answer.status_code < 500
            assert answer.status_code < 400 or list(answer.json()) == ["error"]

        ask()


def test_no_request_that_the_openapi_allows_makes_the_server_fail(saved, tmp_path):
    put(saved[1], tmp_path, 1)
    ask_what_the_openapi_allows(tmp_path, 8)


@pytest.mark.slow
def test_none_of_hundreds_of_requests_that_the_openapi_allows_makes_the_server_fail(saved, tmp_path):
    put(saved[1], tmp_path, 1)
    ask_what_the_openapi_allows(tmp_path, 300)


# Batching


def test_rows_of_requests_at_once_are_computed_together_and_not_mixed(client):
    def ask(n):
        return client.post(
            PREDICT, json={"signature_name": ["encode", "reconstruct"][n % 2], "inputs": [[n, n + 1, 0]]}
        )

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        answers = [answer.json()["outputs"] for answer in threads.map(ask, range(200))]
    features = [answer["features"] if n % 2 else answer for n, answer in enumerate(answers)]
    assert features == [[[float(n), n + 1.0]] for n in range(200)]
    text = client.get("/metrics").text
    rows, requests = (
        float(re.search(rf"predict_batch_rows_{what}.*encode.* (\S+)", text)[1]) for what in ("sum", "count")
    )
    assert rows > requests  # some were not alone


def test_a_request_that_the_model_refuses_does_not_take_others_with_it(client):
    def ask(n):
        row = [100.0 if n % 4 == 0 else 1.0, 0, 0]
        return client.post(PREDICT, json={"signature_name": "fussy", "instances": [row]}).status_code

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, range(64))) == [400, 200, 200, 200] * 16


# Versions


def test_a_new_version_takes_over_without_a_dropped_request(saved, changing):
    export, client = changing
    seen, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            answer = client.post(PREDICT, json={"instances": [[1, 0, 0]]})
            seen.append((answer.status_code, answer.json().get("predictions", [[0]])[0][0]))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    put(saved[2], export, 2)
    eventually(lambda: (200, 2.0) in seen)
    stop.set()
    for thread in threads:
        thread.join()
    assert {code for code, _ in seen} == {200}
    assert {value for _, value in seen} == {1.0, 2.0}
    assert states(client) == {"2": "AVAILABLE", "1": "AVAILABLE"}
    for number in (1, 2):
        got = client.post(f"{MODEL}/versions/{number}:predict", json={"instances": [[1, 0, 0]]})
        assert got.json() == {"predictions": [[float(number), 0.0]]}


def test_the_newest_two_versions_are_kept(saved, changing):
    export, client = changing
    put(saved[2], export, 2)
    put(saved["small"], export, 10)
    eventually(lambda: states(client) == {"10": "AVAILABLE", "2": "AVAILABLE"})
    assert client.post(f"{MODEL}/versions/1:predict", json={"instances": [[1, 0, 0]]}).status_code == 404


def test_a_version_that_goes_away_gives_way_to_the_one_before_but_the_last_one_stays(saved, changing):
    export, client = changing
    put(saved[2], export, 2)
    eventually(lambda: len(states(client)) == 2)
    shutil.rmtree(export / "saved_model" / "2")
    eventually(lambda: states(client) == {"1": "AVAILABLE"})
    shutil.rmtree(export / "saved_model")
    client.app.state.models.refresh()
    assert client.post(PREDICT, json={"instances": [[1, 0, 0]]}).json() == {"predictions": [[1.0, 0.0]]}


def test_a_broken_version_is_reported_and_the_others_go_on(saved, changing, caplog):
    export, client = changing
    broken = export / "broken"
    shutil.copytree(saved[2], broken)
    (broken / "saved_model.pb").write_bytes(b"no model")
    put(broken, export, 2)
    eventually(lambda: states(client) == {"2": "END", "1": "AVAILABLE"})
    (status,) = client.get(f"{MODEL}/versions/2").json()["model_version_status"]
    assert status["status"]["error_code"] != "OK"
    assert str(export) not in json.dumps(status)
    assert client.post(PREDICT, json={"instances": [[1, 0, 0]]}).json() == {"predictions": [[1.0, 0.0]]}
    for _ in range(3):
        client.app.state.models.refresh()
    assert len([r for r in caplog.records if "Version 2 cannot be loaded" in r.getMessage()]) == 1
    shutil.copy(saved[2] / "saved_model.pb", export / "saved_model" / "2")  # mended: tried again
    eventually(lambda: states(client) == {"2": "AVAILABLE", "1": "AVAILABLE"})


def test_health_tells_life_from_readiness(saved, tmp_path):
    (tmp_path / "saved_model").mkdir()
    with serving(tmp_path) as client:
        assert client.get("/healthz").status_code == 200
        for answer in (client.get("/readyz"), client.post(PREDICT, json={"instances": [[1, 0, 0]]})):
            assert answer.status_code == 503
            assert is_error(answer)
        put(saved["small"], tmp_path, 1)
        client.app.state.models.refresh()
        assert client.get("/readyz").status_code == 200


def test_the_metrics_count_requests_and_batches(saved, tmp_path):
    put(saved[1], tmp_path, 1)
    with serving(tmp_path) as client:
        client.post(PREDICT, json={"instances": [[1, 2, 3]] * 5})
        client.post(PREDICT, json={"instances": [[1]]})
        client.post(PREDICT, json={"signature_name": "an invention", "instances": [[1]]})
        text = client.get("/metrics").text
    for line in (
        'predict_requests_total{signature="serving_default",status="200"} 1.0',
        'predict_requests_total{signature="serving_default",status="400"} 1.0',
        'predict_requests_total{signature="none",status="400"} 1.0',
        'predict_seconds_count{signature="serving_default"} 1.0',
        'predict_batch_rows_sum{signature="serving_default"} 5.0',
    ):
        assert line in text
    assert "invention" not in text


def test_the_page_is_one_file_that_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert '<meta name="model" content="encoder">' in answer.text
    assert re.findall(r"""(?:src|href)=(?!"data:)|https?://|@import|url\(""", answer.text) == []


# The command


@pytest.fixture
def main(monkeypatch):
    """main(*arguments) as `python -m export.serve ARGUMENTS` calls it."""

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["export.serve", *map(str, arguments)])
        command.main()

    return main


def test_a_wrong_command_line_ends_with_one_line(refused, tmp_path):
    (tmp_path / "saved_model" / "1").mkdir(parents=True)
    assert refused("--portt", "1").endswith("See --help.")
    assert "has no folder saved_model" in refused(tmp_path / "nothing")
    assert "--port expects" in refused(tmp_path, "--port", "70000")
    assert "--max-rows expects" in refused(tmp_path, "--max-rows", "0")
    assert "--body-seconds expects" in refused(tmp_path, "--body-seconds", "nan")
    assert "--name expects" in refused(tmp_path, "--name", "a/b")
    assert "Expected a free port" in refused(tmp_path, "--host", "203.0.113.1")


def test_an_export_without_a_version_is_refused(refused, tmp_path):
    (tmp_path / "saved_model" / "draft").mkdir(parents=True)
    assert "which holds none" in refused(tmp_path)


def test_a_port_in_use_is_refused(refused, tmp_path):
    (tmp_path / "saved_model" / "1").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"127.0.0.1:{port}" in refused(tmp_path, "--port", port)


def test_missing_packages_are_named_with_their_cure(refused, tmp_path, monkeypatch):
    (tmp_path / "saved_model" / "1").mkdir(parents=True)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None if name == "fastapi" else name)
    line = refused(tmp_path)
    assert "no fastapi." in line
    assert "pip install 'keras-sae[serve]'" in line


def test_help_teaches(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export.serve", "--help"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for taught in ("EXPORT", "--name", "--host", "--port", ":predict", "curl", "/metrics", "mv"):
        assert taught in text


def test_the_command_imports_nothing_slow_before_the_flags_are_right():
    command = [sys.executable, "-X", "importtime", "-m", "export.serve", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert {"tensorflow", "keras", "numpy", "fastapi"} & imported == set()


def start(export, *flags):
    """The command as a process, listening somewhere: see `told`."""
    return subprocess.Popen(
        [sys.executable, "-m", "export.serve", str(export), "--port", "0", *flags],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def told(process):
    """(port, what a process prints when it listens)."""
    lines = []
    while (line := process.stdout.readline()) and "curl" not in line:
        lines.append(line)
    printed = "".join([*lines, line])
    assert "http://" in printed, process.stderr.read()
    return int(re.search(r"http://127\.0\.0\.1:(\d+)", printed)[1]), printed


@pytest.fixture(scope="module")
def server(tiny_run, saved, tmp_path_factory):
    """(process, port, what it printed, export folder) of the command, with the tiny model as version 1.

    Version 2 is what `python -m export` writes.
    """
    out = tmp_path_factory.mktemp("served")
    export_here(tiny_run[0], out, formats=["saved_model"])
    os.replace(out / "saved_model" / "1", out / "saved_model" / "2")
    put(saved[1], out, 1)
    with start(out, "--body-seconds", "1", "--max-megabytes", "1") as process:
        yield process, *told(process), out
        process.terminate()


def post(port, body, path=PREDICT):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, body)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def test_the_start_says_where_and_what_and_the_example_works(server):
    _, port, printed, out = server
    for told in ("version 2, 1", f"http://127.0.0.1:{port}/", "encode: inputs (rows, 784) float32 -> features"):
        assert told in printed
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    line = printed.strip().splitlines()[-1].replace("python -c", f"{sys.executable} -c")
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    with np.load(out / "check.npz") as check:
        np.testing.assert_allclose(json.loads(done.stdout)["predictions"], check["encode/features"][:1], atol=1e-5)


def test_a_real_export_gives_keras_features(server):
    with np.load(server[3] / "check.npz") as check:
        inputs, features = check["inputs"], check["encode/features"]
    status, answer = post(server[1], json.dumps({"instances": inputs.tolist()}))
    assert status == 200
    np.testing.assert_allclose(answer["predictions"], features, rtol=0, atol=1e-5)


def raw(port, content):
    """A connection on which some bytes were sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(content)
    return connection


def read_all(connection):
    content = b""
    with contextlib.suppress(ConnectionResetError), connection:
        while piece := connection.recv(65536):
            content += piece
    return content


def test_slow_clients_are_ended_while_others_are_served(server):
    port = server[1]
    slow = [
        raw(port, b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"),
        raw(port, b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nHost: x\r\nConte"),
        raw(port, b""),
    ]
    began = time.monotonic()
    assert post(port, '{"instances": [[1]]}')[0] == 400
    for connection in slow:
        content = read_all(connection)
        assert content.startswith(b"HTTP/1.1 408 ")
        assert json.loads(content.split(b"\r\n\r\n")[1])["error"]
    assert time.monotonic() - began < 8


def test_what_is_no_http_is_refused_in_the_same_form(server):
    content = read_all(raw(server[1], b"GARBAGE\r\n\r\n"))
    assert content.startswith(b"HTTP/1.1 400 ")
    assert json.loads(content.split(b"\r\n\r\n")[1])["error"]


def test_a_body_of_100_megabytes_is_refused_and_not_kept(server):
    process, port, *_ = server
    before = memory(process)
    length = 100_000_000
    for header in (f"Content-Length: {length}", "Transfer-Encoding: chunked"):
        connection = raw(port, f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        piece = b" " * 100_000
        piece = b"186a0\r\n" + piece + b"\r\n" if "chunked" in header else piece
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(length // 100_000):
                connection.sendall(piece)
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")
    assert memory(process) - before < 30


def memory(process):
    """Resident megabytes."""
    status = pathlib.Path(f"/proc/{process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc")
    return int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1]) / 1024


def test_200_connections_at_once_are_answered(server):
    body = json.dumps({"instances": [[0.5] * 784]})
    with concurrent.futures.ThreadPoolExecutor(200) as threads:
        codes = [code for code, _ in threads.map(lambda _: post(server[1], body), range(200))]
    assert set(codes) == {200}


def test_a_stop_answers_what_is_in_flight(saved, tmp_path):
    put(saved[1], tmp_path, 1)
    with start(tmp_path) as first, start(tmp_path) as second, concurrent.futures.ThreadPoolExecutor(2) as threads:
        for process, number in ((first, signal.SIGINT), (second, signal.SIGTERM)):
            answer = threads.submit(post, told(process)[0], json.dumps(SLOW))
            time.sleep(0.3)
            assert not answer.done()
            process.send_signal(number)
            assert answer.result(30) == (200, {"predictions": [[400_000.0]]})
            assert process.wait(30) == 0
            assert "Traceback" not in process.stderr.read()
