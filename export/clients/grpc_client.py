"""Features from TensorFlow Serving by gRPC. Copy this file; pip install tensorflow-serving-api numpy

docker run -p 8500:8500 -v "$PWD/saved_model:/models/encoder" -e MODEL_NAME=encoder tensorflow/serving

from grpc_client import Encoder

with Encoder("localhost:8500", model="encoder") as encode:
    features = encode(x)  # (batch, features) -> (batch, units), float32
    units, values = encode.top(x, 10)  # (batch, 10) each, the strongest first; not active where a value is 0
"""

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

LARGEST_MESSAGE = 2**30  # bytes; gRPC's own limit is 4 MiB, 1,300 rows of 784


class Encoder:
    """A connection to a model of a server. Close it after use, or use it in a with statement."""

    def __init__(self, address="localhost:8500", model="encoder", signature="serving_default", timeout=10.0):
        """timeout: seconds for an answer, in which the server may also start."""
        self.model, self.signature, self.timeout = model, signature, timeout
        limits = [(f"grpc.max_{way}_message_length", LARGEST_MESSAGE) for way in ("send", "receive")]
        self._channel = grpc.insecure_channel(address, limits)
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
            answer = self._service.Predict(request, timeout=self.timeout, wait_for_ready=True)
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
