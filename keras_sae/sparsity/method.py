"""What the methods that make codes of pre-activations have in common."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from ..backend import replicas, wide
from ..constraints import check
from ..data.batches import Chunks, inputs_of
from ..example_weights import mean
from ..terms import observe


@dataclasses.dataclass(frozen=True)
class Conventions:
    """What a `SparseAutoencoder` takes where its own arguments are None; they are explained there."""

    activation: str = "linear"
    output_activation: str = "linear"
    weight_decay: float | None = 0.0
    pre_bias: bool = True
    unit_norm: bool = True
    transposed_start: bool = True


CLASSIC = Conventions("sigmoid", "sigmoid", None, pre_bias=False, unit_norm=False, transposed_start=False)


class SparsityMethod(keras.layers.Layer):
    """Base of layers that make sparse codes of pre-activations, each a way to have few units active.

    As the `sparsity` of a `SparseAutoencoder`, which takes a copy, it gets pre-activations x W1 + b1 and may add terms
    to the loss. In any other Keras model it is an ordinary layer behind a Dense layer; there it adds no terms.

    The contract:
        conventions     what suits the method
        hidden_bias     whether the Dense layer before it has a bias
        no_objective    why `keras_sae.objective`, and with it L-BFGS, cannot take an autoencoder with the method: what
                        it learns by is more than the codes of single rows with their slopes; "" if it can
        no_lbfgs        why L-BFGS cannot train what is before the method, in whatever model: codes that jump make its
                        line search end long before a minimum; "" if it can
        codes           (examples, ..., units) -> codes of the same shape, which a subclass defines
        terms           what it adds to the loss: scalars, each a mean over examples

    While training it counts for each unit the examples since it was last active, in the weight `silent`, (units,). A
    unit is dead if they are more than `window`. With `trainable = False` it computes as after training, and counts
    nothing.

    Args:
        window: examples without activity after which a unit counts as dead.
    """

    conventions = Conventions()
    hidden_bias = True
    no_objective = ""
    no_lbfgs = ""

    def __init__(self, window: float = 100_000, **kwargs: Any):
        super().__init__(**kwargs)
        check("window", window)
        self.window = window
        self.units: int | None = None  # known to an autoencoder before the layer is built

    def build(self, input_shape: tuple) -> None:
        self.units = input_shape[-1]
        self.silent = self.add_weight(
            name="silent", shape=input_shape[-1:], initializer="zeros", trainable=False, autocast=False, dtype="float32"
        )

    def check_activation(self, activation: Any) -> None:
        """Raise ValueError unless the method can follow units with this activation."""
        expected = self.conventions.activation
        if expected == "linear" and activation is not keras.activations.linear:
            raise ValueError(
                f"{type(self).__name__} makes codes of pre-activations itself. Expected activation=None. Received: "
                f"{activation.__name__!r}."
            )

    def codes(self, pre: Any, training: bool) -> Any:
        """Return the codes of pre-activations."""
        raise NotImplementedError

    def call(self, pre: Any, training: bool = False) -> Any:
        training = training and self.trainable
        codes = self.codes(pre, training)
        self._count(codes, training)
        return codes

    def terms(self, autoencoder: Any, x: Any, pre: Any, codes: Any, training: bool) -> list:
        """Return what the method adds to the loss of the autoencoder on x, its targets: means over examples.

        pre, codes: (examples, units), what this layer was given and gave for these inputs.
        """
        return []

    def start(self) -> None:
        """Give the weights the values that they have before training."""
        self.revive(ops.ones(self.silent.shape, "bool"))

    @property
    def needs_start(self) -> bool:
        """Whether something begins with the data."""
        return False

    def start_on(self, autoencoder: Any, x: Any) -> None:
        """Set what begins with the data: x, some rows, (examples, features)."""

    def finish(self, autoencoder: Any, x: Any) -> None:
        """Set what follows from the trained autoencoder and its data."""

    def fresh(self, units: int, dtype: Any) -> "SparsityMethod":
        """Return another layer of the same settings for so many units, called "sparsity", with no weights yet."""
        copy = type(self).from_config({**self.get_config(), "name": "sparsity", "dtype": dtype})
        copy.units = units
        return copy

    def copy(self, name: str, **changes: Any) -> "SparsityMethod":
        """Return another layer of the same settings, but for changes, and of the same weights."""
        copy = type(self).from_config({**self.get_config(), "name": name, **changes})
        copy.build((None, self.units))
        weights = {weight.name: weight for weight in self.weights}
        for weight in copy.weights:
            weight.assign(ops.copy(weights[weight.name]))  # a copy: under JAX a training takes the array itself
        return copy

    def settle(self) -> None:
        """Go on as at the end of a training, if the method begins one in another way."""

    def dead(self) -> Any:
        """Return 1 for each unit that was not active for more than `window` examples, 0 for others, (units,)."""
        return ops.cast(ops.convert_to_tensor(self.silent) > self.window, "float32")

    def revive(self, units: Any) -> None:
        """Count these units, a mask (units,), as active now, and set the weights that they have here as at the start.

        A method with weights of its own extends it. Weights are assigned as a whole: parts of a copy would be lost.
        """
        self.silent.assign(ops.where(units, 0.0, ops.convert_to_tensor(self.silent)))

    def _count(self, codes: Any, training: bool) -> None:
        """Count examples without activity, and let the metrics of a step know what is active."""
        active = ops.reshape(ops.cast(codes != 0, "float32"), (-1, codes.shape[-1]))
        number = ops.cast(ops.shape(active)[0], "float32")
        resting = ops.cast(ops.max(active, axis=0) == 0, "float32")
        if training:
            self.silent.assign((self.silent + replicas() * number) * resting)
        observe("l0", ops.sum(active) / number)
        observe("dead_units", self.dead() if training else resting)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "window": self.window}

    def __repr__(self) -> str:
        own = self.get_config().keys() - keras.layers.Layer.get_config(self).keys() - {"window"}
        given = {name: getattr(self, name) for name in sorted(own) if getattr(self, name) is not None}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def pre_activations_of(autoencoder: Any, x: Any) -> Callable[[], Iterator[np.ndarray]]:
    """Return a function that yields the pre-activations of x, chunk after chunk, anew at each call."""
    chunks = Chunks(x, **inputs_of(autoencoder.encoder))
    return lambda: (ops.convert_to_numpy(autoencoder.pre_activations(chunk.x)) for chunk in chunks.read())


def mean_error(outputs: Any, targets: Any) -> Any:
    """Return 1/m sum_i 1/2 ||outputs_i - targets_i||^2, a scalar in float32 at least, with the weights of examples."""
    return mean(0.5 * ops.sum(ops.square(wide(outputs) - wide(targets)), axis=-1))


def check_methods(model: keras.Model, obstacle: str) -> None:
    """Raise ValueError if a model has a method of sparsity with this obstacle, "no_objective" or "no_lbfgs".

    A model that only encodes, such as a classifier, has no terms of its methods, and the objective computes codes as
    after training: it takes every method there. L-BFGS then takes those whose codes do not jump, and all that are
    frozen (trainable = False), whose inputs are taken to be frozen as well.
    """
    for layer in model._flatten_layers():
        for method in getattr(layer, "sparsities", []):  # of an autoencoder
            _refuse(method, getattr(method, "no_objective", "") or getattr(method, obstacle, ""), obstacle)
        if isinstance(layer, SparsityMethod) and layer.trainable and obstacle == "no_lbfgs":
            _refuse(layer, layer.no_lbfgs, obstacle, " Or freeze the layers up to it: trainable = False.")


def check_revive(model: keras.Model) -> None:
    """Raise ValueError if a model, trained without minibatches of its own, has an AuxK: its loss is of dead units."""
    for layer in model._flatten_layers():
        if hasattr(layer, "sparsities") and getattr(layer, "revive", None) is not None:  # an autoencoder
            raise ValueError(
                "Dead units are counted, and revived, in minibatches on one machine. Expected revive=None. Received: "
                f"{layer.name} with {type(layer.revive).__name__}. Leave it out, or take an optimizer of Keras there."
            )


def _refuse(method: Any, reason: str, obstacle: str, more: str = "") -> None:
    """Raise ValueError if there is a reason to."""
    if reason:
        what = "the exact objective takes" if obstacle == "no_objective" else "L-BFGS can train"
        raise ValueError(
            f"Expected a method of sparsity that {what}. Received: {type(method).__name__}: {reason}. Train it on "
            f'minibatches: keras_sae.fit(model, x, optimizer="adam").{more}'
        )
