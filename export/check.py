"""Whether exported files give Keras' features: python -m export.check DIR, the second half of an export.

It imports nothing of keras_sae, so it also shows that the files need none of it. Prints JSON: file -> largest
absolute difference to the features in DIR/check.npz.
"""

import json
import pathlib
import sys

import numpy as np


def check(directory):
    """Largest absolute difference of each file's features to Keras', a dict."""
    with np.load(directory / "check.npz") as expected:
        inputs, features = expected["inputs"], expected["features"]
    runners = {"saved_model/1": run_saved_model, "encoder.tflite": run_litert}
    return {name: float(np.abs(run(directory / name, inputs) - features).max()) for name, run in runners.items()}


def run_saved_model(directory, inputs):
    import tensorflow as tf

    encode = tf.saved_model.load(str(directory)).signatures["serving_default"]
    return encode(inputs=tf.constant(inputs))["features"].numpy()


def run_litert(path, inputs):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))  # kept, because the outputs live in its memory
    return interpreter.get_signature_runner("serving_default")(inputs=inputs)["features"].copy()


if __name__ == "__main__":
    print(json.dumps(check(pathlib.Path(sys.argv[1]))))
