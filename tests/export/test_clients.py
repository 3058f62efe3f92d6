"""The clients to copy: against servers on loopback that speak TensorFlow Serving's protocols, and a LiteRT file."""

import ast
import concurrent.futures
import contextlib
import http.server
import json
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
import time

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
        self.server.headers.append(self.headers)
        status, text, *headers = self.server.problems.pop(0) if self.server.problems else (200, None)
        if text is None:
            features = np.array(body["inputs"]) @ KERNEL
            outputs = strongest(features) if body["signature_name"] == "top" else features
            text = json.dumps({"outputs": outputs}, default=np.ndarray.tolist)
        self.send_response(status)
        for header in headers:
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Nothing is printed."""


@contextlib.contextmanager
def serving(tls=None):
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.asked, server.headers, server.problems = [], [], []
        server.url = f"http{'s' if tls else ''}://localhost:{server.server_port}/v1/models/encoder"
        server.handle_error = lambda *_: None  # a client who leaves
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(file of a certificate for localhost, file of its key), made by openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("tls")
    files = str(folder / "certificate.pem"), str(folder / "key.pem")
    new = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command = ["openssl", *new.split(), "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return files


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were waited, without waiting, and without chance."""
    waits = []
    monkeypatch.setattr(rest.time, "sleep", lambda seconds: waits.append(seconds) if seconds else None)
    monkeypatch.setattr(rest.random, "uniform", lambda least, most: least)
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


def test_rest_waits_as_long_as_the_server_says(server, waits):
    server.problems = [(503, '{"error": "full"}', ("Retry-After", "2")), (503, "", ("Retry-After", "tomorrow"))]
    assert len(rest.encode(ROWS.tolist(), server.url)) == 5
    assert waits == [2.0, 1.0]


def test_rest_clients_who_were_refused_together_come_apart(server, monkeypatch):
    waits, problem = [], (503, '{"error": "full"}')
    monkeypatch.setattr(rest.time, "sleep", lambda seconds: waits.append(seconds) if seconds else None)
    for _ in range(5):
        server.problems = [problem]
        rest.encode(ROWS.tolist(), server.url)
    assert len(set(waits)) == 5
    assert all(0.5 <= seconds <= 0.75 for seconds in waits)


@pytest.mark.parametrize("content", ['{"outputs": [[1.0, 2.', "hello", "[]"])
def test_rest_asks_again_if_an_answer_is_cut_off(server, waits, content):
    server.problems = [(200, content)]
    assert len(rest.encode(ROWS.tolist(), server.url)) == 5
    assert waits == [0.5]


def test_rest_gives_up(server, waits):
    server.problems = [(503, '{"error": "loading"}')] * 2
    with pytest.raises(ConnectionError, match=r"No answer from http\S+ after 2 attempts, within 10 s: loading"):
        rest.encode(ROWS.tolist(), server.url, attempts=2)
    with pytest.raises(ConnectionError, match=r"after 3 attempts, within 10 s: .*refused"):
        rest.encode(ROWS.tolist(), "http://127.0.0.1:1/v1/models/encoder", attempts=3)
    assert waits == [0.5, 0.5, 1.0]
    server.problems = [(503, '{"error": "full"}', ("Retry-After", "3600"))]
    with pytest.raises(ConnectionError, match=r"after 1 attempts, within 10 s: full"):
        rest.encode(ROWS.tolist(), server.url)
    assert len(waits) == 3


def test_rest_sends_headers_to_the_server_that_was_named_alone(server):
    password = {"Authorization": "Bearer secret"}
    rest.encode(ROWS.tolist(), server.url, headers=password)
    rest.top(ROWS.tolist(), url=server.url, headers=password)
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer secret"] * 2
    assert server.headers[0]["Content-Type"] == "application/json"
    with serving() as other:
        server.problems = [(status, "", ("Location", other.url)) for status in (302, 307)]
        for status in (302, 307):
            with pytest.raises(RuntimeError, match=rf"refused: HTTP {status} "):
                rest.encode(ROWS.tolist(), server.url, headers=password)
        assert other.headers == []


def test_rest_with_tls(certificate, waits):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with serving(context) as server:
        known = ssl.create_default_context(cafile=certificate[0])
        np.testing.assert_allclose(rest.encode(ROWS.tolist(), server.url, tls=known), ROWS @ KERNEL, rtol=1e-5)
        with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            rest.encode(ROWS.tolist(), server.url, attempts=1)


@pytest.fixture
def dripping():
    """dripping(content) -> url of a server that sends this, and then a byte a moment until its client leaves."""
    with contextlib.ExitStack() as stack:

        def dripping(content):
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def drip():
                with contextlib.suppress(OSError), listening.accept()[0] as connection:
                    connection.sendall(content)
                    while not stopped.wait(0.02):
                        connection.sendall(b" ")

            thread, stopped = threading.Thread(target=drip), threading.Event()
            thread.start()
            stack.callback(thread.join)
            stack.callback(stopped.set)
            return f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models/encoder"

        yield dripping


@pytest.mark.parametrize(
    "content", [b"HTTP/1.1 200 OK\r\nA: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"HTTP"]
)
def test_rest_ends_in_time_whatever_drips(dripping, content):
    began = time.monotonic()
    with pytest.raises(ConnectionError, match=r"after 1 attempts, within 0\.3 s: timed out$"):
        rest.encode([[0.0]], dripping(content), timeout=0.3)
    assert time.monotonic() - began < 5


# --- gRPC ---


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """`asked`: the metadata of each call.  `problems`: codes of the answers to the next calls."""

    asked, problems = [], []

    def Predict(self, request, context):
        self.asked.append(dict(context.invocation_metadata()))
        if self.problems:
            context.abort(self.problems.pop(0), "not now")
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


def test_grpc_asks_again_while_the_server_is_busy(address, monkeypatch):
    """Large batches as well."""
    monkeypatch.setitem(grpc_client.RETRIES, "initialBackoff", "0.01s")
    rows = np.tile(ROWS, (20_000, 1))
    with grpc_client.Encoder(address) as encode:
        for number, batch in ((3, ROWS), (1, rows)):
            Service.problems[:] = [grpc.StatusCode.UNAVAILABLE] * number
            assert encode(batch).shape == (len(batch), 3)
            assert Service.problems == []
        Service.problems[:] = [grpc.StatusCode.UNAVAILABLE] * 4
        with pytest.raises(ConnectionError, match="encoder: UNAVAILABLE: not now"):
            encode(ROWS)
        Service.problems[:] = [grpc.StatusCode.INTERNAL] * 2
        with pytest.raises(RuntimeError, match="encoder: INTERNAL: not now"):
            encode(ROWS)
        assert len(Service.problems) == 1
        Service.problems.clear()


def test_grpc_sends_headers(address):
    with grpc_client.Encoder(address, headers={"Authorization": "Bearer secret"}) as encode:
        encode(ROWS)
        encode.top(ROWS)
    assert [asked["authorization"] for asked in Service.asked[-2:]] == ["Bearer secret"] * 2


def test_grpc_with_tls(certificate):
    signed, key = (pathlib.Path(file).read_bytes() for file in certificate)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, signed)]))
    server.start()
    with grpc_client.Encoder(f"localhost:{port}", credentials=grpc.ssl_channel_credentials(signed)) as encode:
        np.testing.assert_allclose(encode(ROWS), ROWS @ KERNEL, rtol=1e-4)
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


def test_grpc_ends_in_time_whatever_drips(dripping):
    address = dripping(b"").split("/")[2]
    began = time.monotonic()
    with (
        grpc_client.Encoder(address, timeout=0.3) as encode,
        pytest.raises(ConnectionError, match="encoder: DEADLINE_EXCEEDED"),
    ):
        encode(ROWS)
    assert time.monotonic() - began < 5


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
