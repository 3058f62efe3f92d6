"""The encoder of a run as SavedModel and LiteRT file: python -m export.convert RUN DIR, the first half of an export."""

import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_sae import runs
from keras_sae.chunks import outputs
from keras_sae.errors import reported


def convert(run, directory):
    """Write saved_model/1/, encoder.tflite, and check.npz with held-out inputs and Keras' features of them."""
    encoder = runs.load_encoder(run)
    inputs = runs.load_examples(run)
    write_saved_model(encoder, directory / "saved_model" / "1")
    write_litert(directory / "saved_model" / "1", directory / "encoder.tflite")
    np.savez(directory / "check.npz", inputs=inputs, features=outputs(encoder, inputs))


def write_saved_model(encoder, directory):
    """Write the encoder in TensorFlow Serving's layout (NAME/VERSION), signatures "serving_default" and "encode".

    inputs (batch, features) float32 -> features (batch, units) float32; a batch of any size.
    """
    archive = keras.export.ExportArchive()
    archive.track(encoder)
    inputs = tf.TensorSpec((None, *encoder.input_shape[1:]), tf.float32, name="inputs")
    for name in ("serving_default", "encode"):
        archive.add_endpoint(name, lambda inputs: {"features": encoder(inputs)}, input_signature=[inputs])
    archive.write_out(str(directory), verbose=False)


def write_litert(saved_model, path):
    """Write the "serving_default" of a SavedModel as LiteRT (TFLite) file, float32, with the same names.

    LiteRT's own operations alone are allowed, so that it runs where TensorFlow's are missing.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=["serving_default"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    path.write_bytes(converter.convert())


if __name__ == "__main__":
    with reported("export", lambda: "Nothing was written."):
        convert(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
