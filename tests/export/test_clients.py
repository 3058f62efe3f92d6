"""The clients to copy: against servers on loopback that speak TensorFlow Serving's protocols, and a LiteRT file."""

import ast
import concurrent.futures
import http.server
import json
import pathlib
import threading

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export.clients import grpc_client, litert, rest

CLIENTS = sorted(pathlib.Path(rest.__file__).parent.glob("*.py"))
ROWS = np.random.default_rng(0).uniform(size=(5, 6)).astype("float32")
KERNEL = np.random.default_rng(1).normal(size=(6, 3)).astype("float32")


def strongest(features):
    """What the signature `top` gives of features: those of positive units."""
    features = np.maximum(features, 0)
    indices = np.argsort(-features, axis=1)
    return {"indices": indices, "values": np.take_along_axis(features, indices, axis=1)}


@pytest.mark.parametrize("path", CLIENTS, ids=lambda path: path.name)
def test_a_client_stands_alone(path):
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, (ast.Import, ast.ImportFrom))]
    text = " ".join(map(ast.unparse, nodes))
    assert "export" not in text
    assert "keras_sae" not in text


# --- REST ---


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the server's next status, or with the features."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body["signature_name"]))
        status, text = self.server.problems.pop(0) if self.server.problems else (200, None)
        if text is None:
            features = np.array(body["inputs"]) @ KERNEL
            outputs = strongest(features) if body["signature_name"] == "top" else features
            text = json.dumps({"outputs": outputs}, default=np.ndarray.tolist)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Nothing is printed."""


@pytest.fixture
def server():
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.problems = [], []
        server.url = f"http://127.0.0.1:{server.server_port}/v1/models/encoder"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were waited, without waiting."""
    waits = []
    monkeypatch.setattr(rest.time, "sleep", waits.append)
    return waits


def test_rest_gives_features(server):
    np.testing.assert_allclose(rest.encode(ROWS.tolist(), server.url), ROWS @ KERNEL, rtol=1e-5)
    assert server.asked == [("/v1/models/encoder:predict", "serving_default")]


def test_rest_takes_the_features_among_several_outputs(server):
    server.problems = [(200, '{"outputs": {"features": [[1.0]], "error": [0.5]}}')]
    assert rest.encode([[0.0]], server.url) == [[1.0]]


def test_rest_gives_the_strongest_units(server):
    found = rest.top(ROWS.tolist(), 2, server.url)
    assert server.asked == [("/v1/models/encoder:predict", "top")]
    for row, units in zip(ROWS @ KERNEL, found, strict=True):
        expected = [unit for unit in np.argsort(-row)[:2] if row[unit] > 0]  # the others are not active
        assert list(units) == expected
        np.testing.assert_allclose([*units.values()], row[expected], rtol=1e-5)
    assert {len(units) for units in found} == {1, 2}


def test_rest_asks_again_while_the_server_is_busy(server, waits):
    server.problems = [(503, '{"error": "loading"}'), (429, "slow down")]
    assert len(rest.encode(ROWS.tolist(), server.url)) == 5
    assert waits == [0.5, 1.0]


def test_rest_says_what_the_server_says(server, waits):
    server.problems = [(400, '{"error": "Matrix size-incompatible"}'), (404, "")]
    with pytest.raises(RuntimeError, match=r"models/encoder refused: Matrix size-incompatible$"):
        rest.encode(ROWS.tolist(), server.url)
    with pytest.raises(RuntimeError, match=r"refused: HTTP 404 Not Found$"):
        rest.encode(ROWS.tolist(), server.url)
    assert waits == []


def test_rest_gives_up(server, waits):
    server.problems = [(503, '{"error": "loading"}')] * 2
    with pytest.raises(ConnectionError, match=r"No answer from http\S+ after 2 attempts: loading"):
        rest.encode(ROWS.tolist(), server.url, attempts=2)
    with pytest.raises(ConnectionError, match=r"after 3 attempts: .*refused"):
        rest.encode(ROWS.tolist(), "http://127.0.0.1:1/v1/models/encoder", attempts=3)
    assert waits == [0.5, 0.5, 1.0]


# --- gRPC ---


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def Predict(self, request, context):
        if request.model_spec.name != "encoder":
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found")
        assert request.model_spec.signature_name in ("serving_default", "top")
        answer = predict_pb2.PredictResponse()
        features = tf.make_ndarray(request.inputs["inputs"]) @ KERNEL
        top = request.model_spec.signature_name == "top"
        for name, output in (strongest(features) if top else {"features": features}).items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(output))
        return answer


@pytest.fixture(scope="module")
def address():
    limits = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), options=limits)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize("copies", [1, 100_000])
def test_grpc_gives_features_of_batches_beyond_grpcs_own_limit(address, copies):
    rows = np.tile(ROWS, (copies, 1))
    with grpc_client.Encoder(address) as encode:
        found = encode(rows.astype("float64"))
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, rows @ KERNEL, rtol=1e-4, atol=1e-6)


def test_grpc_gives_the_strongest_units(address):
    with grpc_client.Encoder(address) as encode:
        indices, values = encode.top(ROWS, 2)
    np.testing.assert_array_equal(indices, strongest(ROWS @ KERNEL)["indices"][:, :2])
    np.testing.assert_allclose(values, strongest(ROWS @ KERNEL)["values"][:, :2], rtol=1e-5)


def test_grpc_says_what_the_server_says(address):
    with (
        grpc_client.Encoder(address, "other") as encode,
        pytest.raises(RuntimeError, match="other: NOT_FOUND: Servable not found"),
    ):
        encode(ROWS)


def test_grpc_gives_up_after_the_timeout():
    with (
        grpc_client.Encoder("127.0.0.1:1", timeout=0.2) as encode,
        pytest.raises(ConnectionError, match="encoder: DEADLINE_EXCEEDED"),
    ):
        encode(ROWS)


# --- LiteRT ---


@pytest.fixture(scope="module", params=["serving_default", "encode"])
def encoder(request, tmp_path_factory):
    """The client on a file with this signature."""
    dense = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, use_bias=False)])
    dense.set_weights([KERNEL])
    folder = tmp_path_factory.mktemp("litert")
    archive = keras.export.ExportArchive()
    archive.track(dense)
    spec = tf.TensorSpec((None, 6), tf.float32, name="inputs")
    archive.add_endpoint(request.param, lambda inputs: {"features": dense(inputs)}, input_signature=[spec])
    archive.write_out(str(folder / "1"), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "1"), signature_keys=[request.param])
    (folder / "encoder.tflite").write_bytes(converter.convert())
    return litert.Encoder(folder / "encoder.tflite")


def test_litert_gives_features_of_batches_of_any_size(encoder):
    for number in (1, 5, 2):
        np.testing.assert_allclose(encoder(ROWS[:number]), ROWS[:number] @ KERNEL, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoder(ROWS[3].tolist()), ROWS[3] @ KERNEL, rtol=1e-5, atol=1e-6)


def test_litert_gives_the_strongest_units(loaded):
    _, export, x, codes, _ = loaded
    encode = litert.Encoder(export / "encoder.tflite")
    for rows, expected in ((x[:3], codes[:3]), (x[0], codes[:1])):
        indices, values = encode.top(rows)
        np.testing.assert_array_equal(indices, np.argsort(-expected, axis=1)[:, :10])
        np.testing.assert_allclose(values, -np.sort(-expected, axis=1)[:, :10], atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 5), (0, 6), (1, 2, 6), ()])
def test_litert_refuses_other_shapes(encoder, shape):
    with pytest.raises(ValueError, match=r"Expected rows of 6 numbers. Received: shape "):
        encoder(np.zeros(shape))
