"""The server: the forms of requests that it answers as TensorFlow Serving does, and what it refuses."""

import concurrent.futures
import json

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format

from export.serve import predictor, rest, versions
from export.serve.predictor import Limits
from tests.export.serve.conftest import MODEL, PREDICT, SIGNATURES, SLOW, is_error, put, save_tiny, serving


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
        (
            {"signature_name": "top", "k": 2, "instances": [[0, 5, 7], [0, 4, 0]]},  # what is not active is left out
            {"predictions": [{"indices": [2, 1], "values": [7.0, 5.0]}, {"indices": [1], "values": [4.0]}]},
        ),
        (
            {"signature_name": "top", "k": 1, "inputs": [[0, 5, 7], [0, 0, 0]]},
            {"outputs": {"indices": [[2], []], "values": [[7.0], []]}},
        ),
        (
            {"signature_name": "top", "inputs": [[0, 4, 0]]},  # as TensorFlow Serving, which knows no k
            {"outputs": {"indices": [[1, 0]], "values": [[4.0, 0.0]]}},
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


def test_an_autoencoder_of_another_library_is_served(loaded):
    """Its codes, what they decode to, and the strongest ones of a row."""
    _, export, x, codes, outputs = loaded
    with serving(export) as client:

        def ask(signature, rows, **more):
            body = {"signature_name": signature, "instances": rows.tolist(), **more}
            return client.post(PREDICT, json=body).json()["predictions"]

        np.testing.assert_allclose(ask("encode", x[:5]), codes[:5], atol=1e-5)
        np.testing.assert_allclose(ask("decode", codes[:5]), outputs[:5], atol=1e-4)
        [found] = ask("reconstruct", x[:1])
        np.testing.assert_allclose(found["outputs"], outputs[0], atol=1e-4)
        for row, found in zip(codes[:5], ask("top", x[:5], k=10), strict=True):
            assert found["indices"] == np.argsort(-row)[:10].tolist()
            np.testing.assert_allclose(found["values"], -np.sort(-row)[:10], atol=1e-5)
        error = client.post(PREDICT, json={"signature_name": "top", "k": 101, "instances": x[:1].tolist()}).json()
        assert error == {"error": 'Expected "k" as a whole number from 1 to 100. Received: 101.'}


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


def test_the_metadata_say_what_the_numbers_of_a_row_are(tmp_path):
    """As the export has them from the run."""
    directory = tmp_path / "saved_model" / "1"
    save_tiny(directory, 2.0, ["encode"])
    schema = {"feature_names": ["a", "b", "c"], "low": [0.0, 0.0, 0.0], "high": [1.0, 2.0, 3.0]}
    record = {"files": {"saved_model/1": {"schema": schema}}}
    (tmp_path / "export.json").write_text(json.dumps(record))
    version = versions.Version(directory)
    assert rest.metadata("encoder", "1", version)["metadata"]["schema"] == schema
    (tmp_path / "export.json").unlink()
    assert "schema" not in rest.metadata("encoder", "1", versions.Version(directory))["metadata"]


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
        ('{"instances": [[NaN, 2, 3]]}', ["Received: NaN, which is not JSON, in line 1, column 17."]),
        ('{"instances": [[Infinity, 2, 3]]}', ["Received: Infinity, which is not JSON"]),
        ('{"instances":\n [[0, -Infinity, 3]]}', ["Received: -Infinity, which is not JSON, in line 2"]),
        ('{"instances": [[nan, 2, 3]]}', ["Received: nan, which is not JSON"]),
        ('{"instances": [[NaNny, 2, 3]]}', ["unexpected character"]),
        ('NaN', ["Received: NaN, which is not JSON, in line 1, column 1."]),
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
        ('{"signature_name": "top", "k": 3, "instances": [[1, 2, 3]]}', ['"k" as a whole number from 1 to 2', "3"]),
        ('{"signature_name": "top", "k": 0, "instances": [[1, 2, 3]]}', ["from 1 to 2", "0"]),
        ('{"signature_name": "top", "k": "2", "instances": [[1, 2, 3]]}', ["from 1 to 2", "'2'"]),
        ('{"signature_name": "top", "k": true, "instances": [[1, 2, 3]]}', ["from 1 to 2", "True"]),
        ('{"signature_name": "top", "k": null, "instances": [[1, 2, 3]]}', ["from 1 to 2", "None"]),
        ('{"signature_name": "top", "k": 1.0, "instances": [[1, 2, 3]]}', ["from 1 to 2", "1.0"]),
        ('{"signature_name": "encode", "k": 1, "instances": [[1, 2, 3]]}', ["the signature top alone", "with encode"]),
        ('{"k": 1, "instances": [[1, 2, 3]]}', ["the signature top alone", "with serving_default"]),
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
        ("GET", PREDICT, 405),
        ("GET", f"{MODEL}/versions/1:predict", 405),
        ("GET", "/v1/models/other:predict", 404),
        ("POST", f"{MODEL}:classify", 404),
        ("GET", f"{MODEL}:classify", 404),
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


@pytest.mark.parametrize("path", [PREDICT, f"{MODEL}/versions/1:predict"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_predictions_are_asked_for_by_post(client, path, method):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    if method != "HEAD":
        assert answer.json() == {"error": f"Expected POST. Received: {method}. To predict, use POST."}


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
    with serving(tmp_path, limits=Limits(waiting=2)) as client:
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: client.post(PREDICT, json=SLOW), range(8)))
        assert {answer.status_code for answer in answers} == {200, 503}
        refused = [answer for answer in answers if answer.status_code == 503]
        assert all(is_error(answer) and answer.headers["retry-after"] == "1" for answer in refused)
        assert client.post(PREDICT, json={"instances": [[1, 2, 3]]}).status_code == 200


def test_a_body_that_would_take_too_much_memory_is_not_read(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "COMPUTED_WITH", 0)  # or a few times the largest body
    put(saved["small"], tmp_path, 1)
    row = {"signature_name": "encode", "instances": [[1, 2, 3]]}
    with serving(tmp_path, limits=Limits(body_bytes=100_000)) as client:
        answer = client.post(PREDICT, content=b'{"inputs": [' + b"[]," * 30_000 + b"[]]}")
        assert answer.status_code == 413
        assert answer.json()["error"].startswith("Expected fewer numbers and lists in one request.")
        assert client.post(PREDICT, json=row).json() == {"predictions": [[1.0, 2.0]]}


def test_an_answer_without_room_is_refused(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "ANSWERS", 0)  # or four times the largest body: 320,000 bytes
    put(saved[1], tmp_path, 1)

    def ask(rows):
        return client.post(PREDICT, json={"signature_name": "reconstruct", "instances": [[1, 2, 3]] * rows})

    with serving(tmp_path, limits=Limits(rows=10_000, body_bytes=80_000)) as client:
        answer = ask(9000)  # of three numbers of 16 bytes each
        assert answer.status_code == 413  # which is never answered, so that nobody asks again
        assert answer.json()["error"].startswith(
            "Expected an answer of 320,000 bytes or fewer. Received: a request for"
        )
        answers = client.app.state.predict._answers
        answers.change(0, 100_000)  # of others
        answer = ask(6000)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "Expected fewer large answers" in answer.json()["error"]
        answers.change(100_000, 0)
        for _ in range(10):  # each gives back what it held
            assert len(ask(6000).json()["predictions"]) == 6000


def test_a_fault_of_ours_is_answered_in_the_same_form(client, monkeypatch):
    monkeypatch.setattr(versions.ServedSignature, "__call__", lambda signature, arrays: 1 / 0)
    answer = client.post(PREDICT, json={"instances": [[1, 2, 3]]})
    assert answer.status_code == 500
    assert is_error(answer)
    assert "ZeroDivision" not in answer.text
