"""Features from TensorFlow Serving by gRPC. Copy this file; pip install tensorflow-serving-api numpy

docker run -p 8500:8500 -v "$PWD/saved_model:/models/encoder" -e MODEL_NAME=encoder tensorflow/serving

from grpc_client import Encoder

with Encoder("localhost:8500", model="encoder") as encode:
    features = encode(x)  # (batch, features) -> (batch, units), float32
    units, values = encode.top(x, 10)  # (batch, 10) each, the strongest first; not active where a value is 0

there = {"headers": {"authorization": "Bearer ..."}, "credentials": grpc.ssl_channel_credentials()}
with Encoder("models.example.com:443", **there) as encode:  # of a server behind a proxy that has TLS and a password
    features = encode(x)
"""

import json

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

LARGEST_MESSAGE = 2**30  # bytes; gRPC's own limit is 4 MiB, 1,300 rows of 784
# A prediction changes nothing, so that to ask again is safe: after half a second, one, two, each more or less.
RETRIES = {
    "maxAttempts": 4,
    "initialBackoff": "0.5s",
    "maxBackoff": "4s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


class Encoder:
    """A connection to a model of a server. Close it after use, or use it in a with statement."""

    def __init__(
        self,
        address="localhost:8500",
        model="encoder",
        signature="serving_default",
        timeout=10.0,
        headers=None,
        credentials=None,
    ):
        """timeout: seconds for a whole call, in which the server may also start, and is asked again while it is busy.

        headers: sent with each call.  credentials: None for a connection without TLS, grpc.ssl_channel_credentials()
        for one with it; that takes the bytes of a file with those who sign, if the system does not know them.
        """
        self.model, self.signature, self.timeout = model, signature, timeout
        self._headers = [(name.lower(), value) for name, value in (headers or {}).items()]
        methods = {"name": [{"service": "tensorflow.serving.PredictionService"}], "retryPolicy": RETRIES}
        options = [
            *((f"grpc.max_{way}_message_length", LARGEST_MESSAGE) for way in ("send", "receive")),
            ("grpc.service_config", json.dumps({"methodConfig": [methods]})),
            ("grpc.per_rpc_retry_buffer_size", LARGEST_MESSAGE),  # what is larger is not sent again
        ]
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options)
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def __call__(self, rows):
        """The features of rows (batch, features). Raises RuntimeError with the server's words, ConnectionError."""
        return self._predict(rows, self.signature)["features"]

    def top(self, rows, k=10):
        """The indices and values of the k strongest units of each row, (batch, k) each. k: 100 at most."""
        outputs = self._predict(rows, "top")
        return outputs["indices"][:, :k], outputs["values"][:, :k]

    def _predict(self, rows, signature):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        request.model_spec.signature_name = signature
        request.inputs["inputs"].CopyFrom(tf.make_tensor_proto(np.asarray(rows, "float32")))
        try:
            answer = self._service.Predict(request, self.timeout, self._headers, wait_for_ready=True)
        except grpc.RpcError as error:
            away = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            kind = ConnectionError if away else RuntimeError
            raise kind(f"{self.model}: {error.code().name}: {error.details()}") from None
        return {name: tf.make_ndarray(output) for name, output in answer.outputs.items()}

    def close(self):
        self._channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
