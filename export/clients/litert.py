"""Features on a device, with LiteRT (TFLite). Copy this file; pip install ai-edge-litert numpy

from litert import Encoder

encode = Encoder("encoder.tflite")
features = encode(x)  # (batch, features) -> (batch, units), float32

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
        rows = np.asarray(rows, "float32")
        if rows.ndim not in (1, 2) or rows.shape[-1] != self.features or not rows.size:
            raise ValueError(f"Expected rows of {self.features} numbers. Received: shape {rows.shape}.")
        features = self._run(inputs=np.atleast_2d(rows))["features"]
        return features if rows.ndim == 2 else features[0]
