"""The penalty of the notes: mean activations are pulled to rho, by their Kullback-Leibler divergence."""

import contextlib
import contextvars
import copy
import math
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from .. import backend
from ..constraints import check
from ..example_weights import weigh
from ..terms import observe

# The value of a resting unit, for activations that are bounded and reach 1 when fully active.
INACTIVE = {
    "sigmoid": 0.0, "hard_sigmoid": 0.0, "softmax": 0.0, "tanh": -1.0, "hard_tanh": -1.0, "softsign": -1.0
}  # fmt: skip

FEATURES = 784  # the pixels of the notes' digits, for which they give the weights of penalties

_ROUNDING = 1e-3  # of means in half precision

_recorded: contextvars.ContextVar[list | None] = contextvars.ContextVar("recorded", default=None)


@contextlib.contextmanager
def recorded_activations() -> Iterator[list[tuple["KLSparsity", Any]]]:
    """Collect (penalty, activations) of each KLSparsity that a forward pass meets; meanwhile these penalties are 0.

    So the objective learns the activations of any model, however its layers are nested: Keras calls the penalty.
    """
    activations: list = []
    token = _recorded.set(activations)
    try:
        yield activations
    finally:
        _recorded.reset(token)


@keras.saving.register_keras_serializable("keras_sae")
class KLSparsity(keras.regularizers.Regularizer):
    """Penalty that pulls each unit's mean activation to rho: beta * sum_j KL(rho || rho_hat_j).

        KL(rho || r) = rho log(rho / r) + (1 - rho) log((1 - rho) / (1 - r))
        rho_hat_j    = mean over examples of (a_j - inactive) / (1 - inactive)

    Summed over units; not divided by their number, nor by the number of examples. `keras_sae.fit` with L-BFGS and
    `keras_sae.objective` take the mean over the WHOLE data set, as the notes do; training on minibatches has to
    estimate it, see `window`. `keras_sae.layers.SparseDense` is a Dense layer with this penalty; as the
    `activity_regularizer` of any other Keras layer it takes the mean over the batch. The strength does not depend on
    the batch size.

    Args:
        rho: target mean activation, between 0 and 1 (exclusive). Small: each unit is active for few examples.
        beta: weight of the penalty in the objective, 0 or more. None is 3 for 784 features, as in the notes, in
            proportion to their number (`in_proportion`), which `SparseDense` and `SparseAutoencoder` know.
        inactive: activation of a unit at rest: 0 for sigmoid, -1 for tanh. `SparseDense` and `SparseAutoencoder` set
            it themselves.
        window: examples after which a moving average of rho_hat has forgotten all but 1/e of what it knew, in training
            on minibatches: the momentum of a batch of n is exp(-n / window). None takes each batch's own mean. A window
            is for batches of 32 or fewer: the mean over so few scatters, and its KL is too large. About 128 is
            right; a longer one is too stale, and units overshoot. From batches of 256 on there is no difference.
        average: the former spelling, for one release: "moving" is window=128, "batch" is window=None.

    Raises:
        ValueError: an argument out of range, or activations of several replicas of tf.distribute, which do not know
            each other's mean.

    Reference: CS294A lecture notes, section 3; UFLDL, "Autoencoders and Sparsity".
    """

    def __init__(
        self,
        rho: float = 0.1,
        beta: float | None = 3.0,
        inactive: float = 0.0,
        window: float | None = None,
        average: str | None = None,
    ):
        if average is not None:
            if average not in ("batch", "moving"):
                raise ValueError(f'`average` must be "batch" or "moving". Received: average={average!r}')
            warnings.warn("KLSparsity(average=...) is now window=128 or None", DeprecationWarning, stacklevel=2)
            window = 128 if average == "moving" else None
        for name, value in {"rho": rho, "beta": beta, "inactive": inactive, "window": window}.items():
            check(name, value)
        self.rho, self.inactive, self.window = float(rho), float(inactive), window
        self.beta = None if beta is None else float(beta)

    def for_activation(self, activation: Any) -> "KLSparsity":
        """Return the same penalty for units with this activation: of Keras' own, the value at rest is looked up.

        Raises: ValueError if it is one of Keras' that is not bounded by 1. Others are taken as they are.
        """
        name = _name_in_keras(activation)
        if name is None:
            return self
        if name not in INACTIVE:
            raise ValueError(
                "KLSparsity compares mean activations with a probability, so it needs units bounded by 1: "
                f"{', '.join(INACTIVE)}. For other units use an L1 penalty, sparsity=keras.regularizers.L1(1e-3), or "
                f"none. Received: activation={name!r}"
            )
        penalty = copy.copy(self)
        penalty.inactive = INACTIVE[name]
        return penalty

    def for_features(self, features: int) -> "KLSparsity":
        """Return the same penalty for units that describe so many features: `beta` becomes a number, if it is None."""
        penalty = copy.copy(self)
        penalty.beta = in_proportion(3.0, features) if self.beta is None else self.beta
        return penalty

    def check_layer(self, layer: Any) -> None:
        """Raise ValueError if a layer has an activation of Keras whose means are no probabilities for this penalty."""
        activation = getattr(layer, "activation", None)
        expected = self if activation is None else self.for_activation(activation)
        if expected.inactive != self.inactive:
            raise ValueError(
                f"Expected KLSparsity(inactive={expected.inactive:g}) on the layer {layer.name!r}: its units rest "
                f"there. Received: inactive={self.inactive:g}. keras_sae.layers.SparseDense sets it."
            )

    def check_domain(self, rho_hat: Any) -> None:
        """Raise ValueError if mean activations, an array, lie outside [0, 1], where KL is not defined."""
        low, high = rho_hat.min(), rho_hat.max()
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            raise ValueError(
                "KLSparsity compares mean activations with a probability. Expected means between 0 (at rest) and 1. "
                f"Received: {low:.4g} to {high:.4g}. Use units bounded by 1, such as sigmoid's, with `inactive` as "
                "their value at rest (-1 for tanh), or an L1 penalty."
            )

    def penalty(self, rho_hat: Any, dtype: str | None = None) -> Any:
        """Return beta * sum_j KL(rho || rho_hat_j), a scalar, for rho_hat of shape (units,), each between 0 and 1.

        It is computed in float32 at least. A rounding unit is added inside the logarithms (its square at 0, where
        floats are denser), so that units which are never or always active keep value and gradient finite.

        dtype: of the activations, whose gradient must not overflow.
        """
        if self.beta is None:
            raise ValueError("KLSparsity(beta=None) is for SparseDense and SparseAutoencoder. Expected a number here.")
        rho_hat = ops.convert_to_tensor(rho_hat)
        wide = keras.backend.standardize_dtype(rho_hat.dtype) == "float64"
        if not wide:
            rho_hat = ops.cast(rho_hat, "float32")
        epsilon = 2.0**-52 if wide else 2.0**-23
        if dtype is not None and keras.backend.standardize_dtype(dtype) == "float16":
            rho_hat = 2.0**-10 + (1 - 2.0**-9) * rho_hat  # the gradient, up to beta * 2^10, must stay below 65,504
        active = self.rho * (math.log(self.rho) - ops.log(rho_hat + epsilon**2))
        inactive = (1 - self.rho) * (math.log1p(-self.rho) - ops.log(1 - rho_hat + epsilon))
        return self.beta * ops.sum(active + inactive)

    def normalize(self, activations: Any) -> Any:
        """Return activations on the scale from 0 (at rest) to 1 (fully active), whose mean is rho_hat."""
        if self.inactive == 0:
            return activations
        return (activations - self.inactive) / (1 - self.inactive)

    def rho_hat(self, activations: Any) -> Any:
        """Return the mean normalised activation of each unit, (units,), of activations (examples, ..., units).

        If examples have weights (`weighted_examples`), it is the weighted mean.
        """
        total = self.sum_over_rows(activations)
        rho_hat = total / ops.cast(ops.shape(activations)[0], total.dtype)
        observe("rho_hat", rho_hat)
        return rho_hat

    def sum_over_rows(self, activations: Any) -> Any:
        """Return the number of examples times their rho_hat, (units,), in float32 at least: what passes add up."""
        normalized = weigh(self.normalize(backend.wide(activations)))
        shape = ops.shape(normalized)
        total = ops.sum(normalized, axis=tuple(range(len(shape) - 1)))
        # Not ops.mean over positions, which rounds float64 to float32 under JAX.
        return total / ops.cast(math.prod(shape[1:-1]), total.dtype)

    def record(self, activations: Any) -> bool:
        """Hand the activations to `recorded_activations`, if a pass is being recorded. Return whether it is."""
        recorded = _recorded.get()
        if recorded is not None:
            recorded.append((self, activations))
        return recorded is not None

    def of_batch(self, activations: Any) -> Any:
        """Return the penalty of the mean activations of one batch, a scalar; 0 while a pass is recorded."""
        if self.record(activations):
            return ops.zeros((), dtype=activations.dtype)
        backend.refuse_replicas("KLSparsity")
        return self.penalty(self.rho_hat(activations), activations.dtype)

    def __call__(self, activations: Any) -> Any:
        """Return batch size times the penalty: Keras (3.14 and later) divides activity losses by the batch size."""
        # Keras tells a regularizer nothing of the layer, which is the caller.
        self.check_layer(sys._getframe(1).f_locals.get("self"))
        if self.window is not None:
            raise ValueError(
                "A moving average needs a layer that keeps it. Expected KLSparsity(window=...) as the `sparsity` of "
                "keras_sae.layers.SparseDense, SparsityRegularization or a SparseAutoencoder. Received: an "
                "activity_regularizer. Use one of these layers, or window=None."
            )
        penalty = self.of_batch(activations)  # float32 at least: times the batch, it would pass 65,504
        return ops.cast(ops.shape(activations)[0], penalty.dtype) * penalty

    def __repr__(self) -> str:
        more = f", inactive={self.inactive:g}" if self.inactive else ""
        more += "" if self.window is None else f", window={self.window:g}"
        beta = None if self.beta is None else f"{self.beta:g}"
        return f"KLSparsity(rho={self.rho:g}, beta={beta}{more})"

    def get_config(self) -> dict[str, Any]:
        return {"rho": self.rho, "beta": self.beta, "inactive": self.inactive, "window": self.window}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "KLSparsity":
        if "average" in config:  # of a model saved by an earlier version
            config = {**config, "window": 128 if config["average"] == "moving" else None}
            del config["average"]
        return cls(**config)


def in_proportion(weight: float, features: int) -> float:
    """Return the weight of a penalty beside the error of so many features, if `weight` suits 784.

    The error grows with their number: a table of 13 columns that is weighed as 784 pixels are leaves all units alike.
    """
    return weight * features / FEATURES


def _name_in_keras(activation: Any) -> str | None:
    """Return the name of an activation, given as a function, name or layer, or None if it is none of Keras' own."""
    if isinstance(activation, keras.layers.Activation):
        activation = activation.activation
    activation = keras.activations.get(activation)
    name = getattr(activation, "__name__", "")
    return name if getattr(keras.activations, name, None) is activation else None
