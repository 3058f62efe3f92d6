"""The layers of a trained model as a report sees them: what their units compute, look for and give back."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from ..activation_maximization import maximal_inputs
from ..autoencoder import Autoencoder, as_single
from ..runs.run_directories import encoder_of
from ..stack import StackedAutoencoder
from ..visualization import as_float64


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """One layer of units.

    Attributes:
        name: "layer 1" and so on, or "features" of a model of one layer.
        encode: outputs of the layer below -> activations, (examples, units), tensors.
        decode: activations -> reconstruction of the input, (examples, features), tensors; None without a decoder.
        sparsity: the penalty on its activations, or None.
        maximal: the inputs of norm 1 that activate its units most, columns, (features, units) float64.
        dtype: of its activations, as the decoder takes them.
    """

    name: str
    encode: Callable
    decode: Callable | None
    sparsity: Any
    maximal: np.ndarray
    dtype: str = "float32"


def layers_of(model: keras.Model) -> list[Layer]:
    """Return the layers of an autoencoder, from the input upwards; of a classifier, its top features as one layer."""
    if isinstance(model, StackedAutoencoder):
        return [
            Layer(
                f"layer {number}",
                autoencoder.encode,
                functools.partial(_decode, model.autoencoders[:number]),
                autoencoder.sparsity,
                _before_preprocessing(model, _maximal(model.autoencoders[:number])),
                autoencoder.compute_dtype,
            )
            for number, autoencoder in enumerate(model.autoencoders, 1)
        ]
    if isinstance(model, Autoencoder):
        maximal = _maximal([model])
        return [Layer("features", model.encode, model.decode, model.sparsity, maximal, model.compute_dtype)]
    encoder = encoder_of(model)
    if not encoder.weights:  # a softmax on the inputs
        return []
    return [Layer("features", functools.partial(encoder, training=False), None, None, maximal_inputs(encoder))]


def targets_of(model: keras.Model) -> Callable:
    """Return the function from inputs to what the first layer takes and the model learns to give back."""
    return model.targets if isinstance(model, Autoencoder) else lambda x: x


def activations(layers: Sequence[Layer], inputs: Any) -> Iterator[np.ndarray]:
    """Yield the activations of each layer for some rows of what the first one takes, (examples, units)."""
    for layer in layers:
        inputs = layer.encode(inputs)
        yield as_single(inputs)


def additions(
    decode: Callable, dtype: str, mean: np.ndarray, low: np.ndarray, high: np.ndarray, units: np.ndarray
) -> np.ndarray:
    """Return what units add to the reconstruction, (units, features) float64.

        decode(mean, with high_j in place of mean_j) - decode(mean, with low_j in place of mean_j)

    Of a linear decoder this is the unit's row of the decoder, times high_j - low_j.

    Args:
        decode, dtype: as of a `Layer`.
        mean, low, high: the mean, least and largest activation of all units, (all units,).
        units: the numbers of those to return.
    """
    ends = []
    for end in (low, high):
        codes = np.tile(mean, (len(units), 1))
        codes[np.arange(len(units)), units] = end[units]
        ends.append(as_float64(decode(keras.ops.convert_to_tensor(codes, dtype))))
    return ends[1] - ends[0]


def _before_preprocessing(model: StackedAutoencoder, maximal: np.ndarray) -> np.ndarray:
    """Return maximal inputs of whitened rows as those of rows as they are; other preprocessing leaves them alone."""
    kernel = getattr(model.preprocessing, "kernel", None)
    return maximal if kernel is None else _unit_columns(as_float64(kernel) @ maximal)


def _decode(autoencoders: Sequence[Autoencoder], h: Any) -> Any:
    for autoencoder in reversed(autoencoders):
        h = autoencoder.decode(h)
    return h


def _maximal(autoencoders: Sequence[Autoencoder]) -> np.ndarray:
    """Return the maximal inputs of the last of these autoencoders, which lie one above the other.

    Units without a slope at an input of zeros, as ReLU may have, look for what the product of the kernels says.
    """
    kernels = [as_float64(autoencoder.kernel) for autoencoder in autoencoders if hasattr(autoencoder, "kernel")]
    if len(autoencoders) == 1:
        return _unit_columns(kernels[0]) if kernels else maximal_inputs(autoencoders[0].encoder)
    stack = StackedAutoencoder(autoencoders, dtype=autoencoders[0].dtype_policy)
    stack.build((None, len(kernels[0])))
    found = maximal_inputs(stack.encoder)
    flat = ~found.any(axis=0)
    return np.where(flat, _unit_columns(functools.reduce(np.matmul, kernels)), found)


def _unit_columns(weights: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(weights, axis=0)
    return weights / np.where(norms > 0, norms, 1)
