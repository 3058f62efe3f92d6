"""What a unit looks for: the input of norm 1 that activates it most."""

import keras
import numpy as np
from keras import ops

from .backend import compile_gradients


def maximal_inputs(encoder, iterations=300):
    """For each unit of an encoder the input of norm 1 that activates it most, (features, units): columns for tiles.

        x_j = argmax a_j(x)  subject to ||x|| <= 1

    Of a first layer it is x_j = W_j / ||W_j||, and found at once. Of deeper layers it is found by steepest ascent on
    the unit sphere, from the direction of the gradient at 0, with steps that shrink from 0.3 to 0.003; a local maximum.

    Args:
        encoder: keras.Model, (examples, features) -> (examples, units), such as `ae.encoder` or `stack.encoder`.
        iterations: steps of the ascent.

    Reference: UFLDL, "Visualizing a Trained Autoencoder"; Erhan et al. 2009, "Visualizing Higher-Layer Features".
    """
    features, units = encoder.input_shape[-1], encoder.output_shape[-1]
    inputs = keras.Variable(np.zeros((units, features)), dtype=encoder.inputs[0].dtype)  # row j is the input of unit j

    def activation_of_own_unit():
        activations = ops.diagonal(encoder(ops.convert_to_tensor(inputs), training=False))
        return ops.sum(activations), activations

    ascend = compile_gradients(activation_of_own_unit, [inputs])
    x = best = _unit_rows(ops.convert_to_numpy(ascend([inputs.value])[1][0]))
    most = np.full(units, -np.inf)
    for size in np.geomspace(0.3, 0.003, iterations):
        activations, (gradients,) = ascend([ops.convert_to_tensor(x, inputs.dtype)])
        activations = ops.convert_to_numpy(activations)
        best = np.where((activations > most)[:, None], x, best)
        most = np.maximum(activations, most)
        x = _unit_rows(x + size * _unit_rows(ops.convert_to_numpy(gradients)))
    return best.T


def _unit_rows(x):
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(norms > 0, norms, 1)
