"""A check of the exact gradients against central differences."""

import dataclasses
from typing import Any

import keras
import numpy as np

from ..backend import has_float64
from ..data.batches import CHUNK_SIZE, Chunks
from .full_batch import ObjectiveFunction

SUSPICIOUS = 1e-6  # a relative error above this points to a wrong formula; rounding stays below it


@dataclasses.dataclass(frozen=True)
class GradientReport:
    """Relative errors of the gradients, weight by weight; `print` it for a table.

    errors: path of the weight -> ||g - n|| / (||g|| + ||n||).  checked: path -> (entries checked, entries in all).
    """

    errors: dict[str, float]
    checked: dict[str, tuple[int, int]]

    @property
    def largest(self) -> float:
        return max(self.errors.values())

    def __str__(self) -> str:
        width = max(len(name) for name in self.errors)
        lines = [f"{'weight':{width}}  {'entries checked':>20}  relative error"]
        for name, error in self.errors.items():
            entries = "{:,} of {:,}".format(*self.checked[name])
            lines.append(f"{name:{width}}  {entries:>20}  {error:.1e}{'' if error < SUSPICIOUS else '  <-- look here'}")
        return "\n".join(lines)


def check_gradients(
    model: keras.Model,
    x: Any,
    y: Any = None,
    samples: int = 50,
    step: float = 1e-5,
    chunk_size: int = CHUNK_SIZE,
    seed: int = 0,
) -> float:
    """Return the largest relative error of `objective`'s gradients against central differences (`gradient_report`)."""
    return gradient_report(model, x, y, samples, step, chunk_size, seed).largest


def gradient_report(
    model: keras.Model,
    x: Any,
    y: Any = None,
    samples: int = 50,
    step: float = 1e-5,
    chunk_size: int = CHUNK_SIZE,
    seed: int = 0,
) -> GradientReport:
    """Return relative errors of `objective`'s gradients against central differences, in float64, for each weight array.

        error = ||g - n|| / (||g|| + ||n||),   n_i = (J(theta + step e_i) - J(theta - step e_i)) / (2 step)

    over `samples` entries of the array drawn at random (all of them if it has no more). A correct gradient stays
    below 1e-6. The model itself is neither changed nor cast: a float64 copy of it is checked.

    Args:
        model, x, y, chunk_size: as for `objective`. A few hundred rows are enough.
        samples: how many entries of each weight array are checked; each costs two evaluations of the objective.
        step: the step of the difference.
        seed: the seed of the drawing.

    Returns:
        A `GradientReport`.

    Raises:
        ValueError: the backend does not compute in float64.

    Reference: UFLDL, "Gradient checking and advanced optimization".
    """
    if not has_float64():
        raise ValueError(
            "Checking gradients needs float64. Expected the TensorFlow backend, or JAX with the environment variable "
            f"JAX_ENABLE_X64=1. Received: {keras.backend.backend()}"
        )
    copy = float64_copy(model, x)
    for layer in copy._flatten_layers():
        activation = None if isinstance(layer, keras.Model) else getattr(layer, "activation", None)
        if activation is not None and not has_float64([activation]):
            raise ValueError(
                f"Checking gradients needs float64. Received: the activation {activation.__name__} of {layer.name!r}, "
                f"which Keras rounds to float32 under {keras.backend.backend()}. Check under the TensorFlow backend."
            )
    function = ObjectiveFunction(copy, x, y, chunk_size)
    values = [keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(v)).copy() for v in function.variables]
    gradients = function(values).gradients
    generator = np.random.default_rng(seed)
    errors, checked = {}, {}
    for number, variable in enumerate(function.variables):
        chosen = generator.choice(values[number].size, min(samples, values[number].size), replace=False)
        errors[variable.path] = _relative_error(function, values, number, gradients[number], chosen, step)
        checked[variable.path] = len(chosen), values[number].size
    return GradientReport(errors, checked)


def _relative_error(
    function: ObjectiveFunction,
    values: list[np.ndarray],
    number: int,
    gradient: np.ndarray,
    chosen: np.ndarray,
    step: float,
) -> float:
    entries = values[number].reshape(-1)  # a view: what is written here changes `values`
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


def float64_copy(model: keras.Model, x: Any) -> keras.Model:
    """Return a copy of the model whose layers compute in float64, with the same weights, loss and trainable layers."""
    if not model.built:
        model.build((None, Chunks(x).num_features()))
    copy = keras.saving.deserialize_keras_object(_replace_dtypes(keras.saving.serialize_keras_object(model)))
    if not copy.built:
        copy.build(model.input_shape if hasattr(model, "input_shape") else (None, Chunks(x).num_features()))
    copy.set_weights([w.astype("float64") for w in model.get_weights()])
    if model.compiled:
        copy.compile(loss=model.loss)
    return copy


def _replace_dtypes(config: Any) -> Any:
    """Return a serialised model with float64 for every dtype or policy, and without losses, which may be lambdas."""
    if isinstance(config, list):
        return [_replace_dtypes(item) for item in config]
    if isinstance(config, dict):
        return {
            key: "float64" if key == "dtype" else _replace_dtypes(value)
            for key, value in config.items()
            if key != "compile_config"
        }
    return config
