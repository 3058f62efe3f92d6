"""Features on a device, with LiteRT (TFLite). Copy this file; pip install ai-edge-litert numpy

from litert import Encoder

encode = Encoder("encoder.tflite")
features = encode(x)  # (batch, features) -> (batch, units), float32
units, values = encode.top(x, 10)  # (batch, 10) each, the strongest first; not active where a value is 0

A program that knows no signatures, as on many phones, gets the features of a row from the same file: `encode` is the
first in it, so allocate_tensors, set_tensor, invoke and get_tensor run it.
"""

import numpy as np
from ai_edge_litert.interpreter import Interpreter


class Encoder:
    """The encoder in a LiteRT file. For one thread at a time."""

    def __init__(self, path, threads=None):
        self._interpreter = Interpreter(str(path), num_threads=threads)
        signatures = self._interpreter.get_signature_list()
        self._run = self._interpreter.get_signature_runner("encode" if "encode" in signatures else "serving_default")
        self.features = int(self._run.get_input_details()["inputs"]["shape"][-1])

    def __call__(self, rows):
        """The features of rows (batch, features), or of one row (features,)."""
        features = self._run(inputs=self._checked(rows))["features"]
        return features if np.ndim(rows) == 2 else features[0]

    def top(self, rows, k=10):
        """The indices and values of the k strongest units of each row, (batch, k) each. k: 100 at most."""
        outputs = self._interpreter.get_signature_runner("top")(inputs=self._checked(rows))
        return outputs["indices"][:, :k], outputs["values"][:, :k]

    def _checked(self, rows):
        rows = np.asarray(rows, "float32")
        if rows.ndim not in (1, 2) or rows.shape[-1] != self.features or not rows.size:
            raise ValueError(f"Expected rows of {self.features} numbers. Received: shape {rows.shape}.")
        return np.atleast_2d(rows)
