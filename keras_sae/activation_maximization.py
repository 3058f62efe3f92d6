"""What a unit looks for: the input of norm 1 that activates it most."""

from typing import Any

import keras
import numpy as np
from keras import ops

from .backend import at, compile_gradients


def maximal_inputs(encoder: keras.Model, iterations: int = 300) -> np.ndarray:
    """Return for each unit of an encoder the input of norm 1 that activates it most: columns, (features, units).

        x_j = argmax a_j(x)  subject to ||x|| <= 1

    For a first layer x_j = W_j / ||W_j||, which the first step finds. For deeper layers it is a local maximum, found by
    steepest ascent on the unit sphere: it starts in the direction of the gradient at 0, and its steps shrink from 0.3
    to 0.003.

    Args:
        encoder: keras.Model, (examples, features) -> (examples, units), such as `ae.encoder` or `stack.encoder`.
        iterations: how many steps the ascent has.

    Reference: UFLDL, "Visualizing a Trained Autoencoder"; Erhan et al. 2009, "Visualizing Higher-Layer Features".
    """
    features, units = encoder.input_shape[-1], encoder.output_shape[-1]
    dtype = encoder.inputs[0].dtype

    def activation_of_own_unit(values: list) -> tuple[Any, Any]:
        with at([], []):  # so that the penalties of this pass do not stay on the layers
            activations = ops.diagonal(encoder(values[0], training=False))  # row j is the input of unit j
        return ops.sum(activations), activations

    ascend = compile_gradients(activation_of_own_unit)

    def step(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        activations, (gradients,) = ascend([ops.convert_to_tensor(x, dtype)])
        return ops.convert_to_numpy(activations), _unit_rows(ops.convert_to_numpy(gradients))

    x = best = step(np.zeros((units, features)))[1]
    most = np.full(units, -np.inf)
    for size in np.geomspace(0.3, 0.003, iterations):
        activations, uphill = step(x)
        best = np.where((activations > most)[:, None], x, best)
        most = np.maximum(activations, most)
        x = _unit_rows(x + size * uphill)
    return best.T


def _unit_rows(x: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norms > 0, norms, 1)
