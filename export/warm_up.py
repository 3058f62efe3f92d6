"""Requests that TensorFlow Serving answers once when it loads a version, so that the first real one is not slow."""

import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf


def write(saved_model: pathlib.Path, examples: Mapping[str, np.ndarray]) -> None:
    """Write assets.extra/tf_serving_warmup_requests, one request for each signature.

    examples: name of the signature -> an input, (1, ...).

    Reference: TensorFlow Serving, "SavedModel Warmup".
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError:  # a SavedModel serves without, only its first answers take longer
        return
    path = saved_model / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    loaded = tf.saved_model.load(str(saved_model))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, example in examples.items():
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name, request.model_spec.signature_name = "encoder", name
            [input_name] = loaded.signatures[name].structured_input_signature[1]
            request.inputs[input_name].CopyFrom(tf.make_tensor_proto(example))
            writer.write(log.SerializeToString())
