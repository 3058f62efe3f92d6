"""The sensitivity of codes to their inputs."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ..backend import wide
from ..constraints import check
from ..example_weights import mean
from .method import Conventions, SparsityMethod

# The derivative of an activation, by the activation itself.
DERIVATIVES: dict[str, Callable] = {
    "sigmoid": lambda a: a * (1 - a),
    "tanh": lambda a: 1 - ops.square(a),
    "relu": lambda a: ops.cast(a > 0, a.dtype),
}


@keras.saving.register_keras_serializable("keras_sae")
class Contractive(SparsityMethod):
    """Penalise how much codes change with their inputs: the contractive autoencoder.

        weight * mean over examples of ||J||^2        J = d a / d x, (units, features), ||J||^2 the sum of its squares
        ||J||^2 = sum_j h'_j^2 ||W1_j||^2             h' = a (1 - a) sigmoid, 1 - a^2 tanh, 1[a > 0] relu

    W1_j is column j of the encoder's kernel. The activation is that of the Dense layer, sigmoid by default, and this
    layer returns it as it is. Codes of sigmoid and tanh units are saturated for most inputs rather than 0: none is ever
    counted as dead. Tied weights (tied=True), as published, keep the decoder from undoing smaller encoder weights.

    With pre_bias or input_scale, J is the Jacobian with respect to the inputs as the encoder's Dense layer takes them,
    scale x - b2. As every term of a method it is then divided by scale^2, like the error of reconstructions.

    Args:
        weight: of the penalty in the objective, 0 or more.
        window: as of `SparsityMethod`.

    Raises:
        ValueError: in a `SparseAutoencoder` of another activation.

    Reference: Rifai et al. 2011, "Contractive Auto-Encoders: Explicit Invariance During Feature Extraction", equations
    4 and 6.

    >>> ae = keras_sae.SparseAutoencoder(200, keras_sae.sparsity.Contractive(0.1), tied=True)
    >>> history = keras_sae.fit(ae, x, iterations=400)
    """

    conventions = Conventions("sigmoid", "sigmoid", pre_bias=False, unit_norm=False, transposed_start=False)

    def __init__(self, weight: float, window: float = 100_000, **kwargs: Any):
        super().__init__(window, **kwargs)
        check("penalty", weight, "`weight`")
        self.weight = float(weight)

    def check_activation(self, activation: Any) -> None:
        if _derivative_of(activation) is None:
            raise ValueError(
                f"Contractive knows the derivatives of some activations. Expected one of {', '.join(DERIVATIVES)}. "
                f"Received: activation={getattr(activation, '__name__', activation)!r}. Use one of these."
            )

    def codes(self, pre: Any, training: bool) -> Any:
        return pre

    def terms(self, autoencoder: Any, x: Any, pre: Any, codes: Any, training: bool) -> list:
        kernel, codes = wide(ops.convert_to_tensor(autoencoder.kernel)), wide(codes)
        slopes = ops.square(_derivative_of(autoencoder.activation)(codes))
        squares = ops.cast(ops.sum(ops.square(kernel), axis=0), codes.dtype)
        return [self.weight * mean(ops.sum(slopes * squares, axis=-1))]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight}


def _derivative_of(activation: Any) -> Any:
    """Return the derivative of one of Keras' activations, a function of the activations, or None if it is unknown."""
    name = getattr(activation, "__name__", "")
    return DERIVATIVES.get(name) if getattr(keras.activations, name, None) is activation else None
