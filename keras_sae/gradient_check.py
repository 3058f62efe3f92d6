"""Exact gradients against central differences."""

import keras
import numpy as np

from keras_sae.backend import has_float64
from keras_sae.chunks import CHUNK_SIZE, Chunks
from keras_sae.objective import ObjectiveFunction


def check_gradients(model, x, y=None, samples=50, step=1e-5, chunk_size=CHUNK_SIZE, seed=0):
    """The largest relative error of `objective`'s gradients against central differences, in float64.

        error = ||g - n|| / (||g|| + ||n||),   n_i = (J(theta + step e_i) - J(theta - step e_i)) / (2 step)

    for each weight array, over `samples` of its entries drawn at random (all of them if it has no more). A right
    gradient gives 1e-7 or less. The model itself is neither changed nor cast: a float64 copy of it is checked.

    Args:
        model, x, y, chunk_size: as for `objective`. A few hundred rows are enough.
        samples: entries checked in each weight array; each costs two evaluations of the objective.
        step: of the difference.
        seed: of the drawing.

    Reference: UFLDL, "Gradient checking and advanced optimization".
    """
    if not has_float64():
        raise ValueError(
            "Checking gradients needs float64. Expected the TensorFlow backend, or JAX with the environment variable "
            f"JAX_ENABLE_X64=1. Received: {keras.backend.backend()}"
        )
    function = ObjectiveFunction(float64_copy(model, x), x, y, chunk_size)
    values = [keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(v)).copy() for v in function.variables]
    gradients = function(values).gradients
    generator = np.random.default_rng(seed)
    return max(
        _relative_error(function, values, number, gradients[number], generator, samples, step)
        for number in range(len(values))
    )


def _relative_error(function, values, number, gradient, generator, samples, step):
    entries = values[number].reshape(-1)  # a view: what is written here changes `values`
    chosen = generator.choice(entries.size, min(samples, entries.size), replace=False)
    numeric = np.empty(len(chosen))
    for i, index in enumerate(chosen):
        original = entries[index]
        entries[index] = original + step
        above = function(values).value
        entries[index] = original - step
        numeric[i] = (above - function(values).value) / (2 * step)
        entries[index] = original
    exact = gradient.reshape(-1)[chosen]
    size = np.linalg.norm(exact) + np.linalg.norm(numeric)
    return float(np.linalg.norm(exact - numeric) / size) if size > 0 else 0.0


def float64_copy(model, x):
    """A copy of the model whose every layer computes in float64, with the same weights, loss and trainable layers."""
    if not model.built:
        model.build((None, Chunks(x).num_features()))
    copy = keras.saving.deserialize_keras_object(_with_float64(keras.saving.serialize_keras_object(model)))
    if not copy.built:
        copy.build(model.input_shape if hasattr(model, "input_shape") else (None, Chunks(x).num_features()))
    copy.set_weights([w.astype("float64") for w in model.get_weights()])
    if model.compiled:
        copy.compile(loss=model.loss)
    return copy


def _with_float64(config):
    """The serialised model with every dtype, policy or plain, replaced by float64; no losses, which may be lambdas."""
    if isinstance(config, list):
        return [_with_float64(item) for item in config]
    if isinstance(config, dict):
        return {
            key: "float64" if key == "dtype" else _with_float64(value)
            for key, value in config.items()
            if key != "compile_config"
        }
    return config
