"""Keras' compile, fit and evaluate for models that learn to return their input."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from . import backend
from .data.batches import Chunks, inputs_of
from .data.containers import as_array, is_array
from .example_weights import weighted_examples
from .losses import HalfSquaredError, check_reconstruction, warn_of_range
from .sparsity import KLSparsity, SparsityMethod
from .terms import NAMES, Terms, observed_activations


class WeightedSteps(keras.Model):
    """A keras.Model whose penalties of activations get the weights of examples; Keras hands them to the loss alone."""

    def train_step(self, *args: Any) -> Any:
        with weighted_examples(_weights(args[-1])):
            return super().train_step(*args)

    def test_step(self, *args: Any) -> Any:
        with weighted_examples(_weights(args[-1])):
            return super().test_step(*args)


class InputsAsTargets(WeightedSteps):
    """A keras.Model whose targets are its inputs: `fit(x)`, and `targets` tells what it learns to return for them.

    The terms of its loss, and rho_hat, are in the History of `fit` beside "loss", by the names that L-BFGS gives them.
    """

    _terms: Terms | None = None
    _hides_penalties = False

    @property
    def sparsities(self) -> list:
        """The penalties on its features, one for each layer of them, which a subclass defines."""
        return []

    def targets(self, x: Any) -> Any:
        """Return what the model learns to return for x: x itself, (examples, features)."""
        return x

    def compile(self, optimizer: Any = "adam", loss: Any = None, **kwargs: Any) -> None:
        """As keras.Model.compile; the loss defaults to HalfSquaredError, the optimizer to Adam."""
        super().compile(optimizer=optimizer, loss=HalfSquaredError() if loss is None else loss, **kwargs)
        kinds = self.sparsities
        units = sum(method.units or 0 for method in kinds if isinstance(method, SparsityMethod))
        self._terms = Terms(any(isinstance(kind, KLSparsity) for kind in kinds), units)

    @property
    def metrics(self) -> list:
        return super().metrics + ([] if self._terms is None else self._terms.metrics)

    def _flatten_metrics_in_order(self, logs: dict[str, Any]) -> Any:
        """Return what `evaluate` does without return_dict=True: the loss and compiled metrics, no terms."""
        return super()._flatten_metrics_in_order({name: logs[name] for name in logs if name not in NAMES})

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return the arguments of `compile`, and whether the optimizer has state that belongs to the saved model."""
        config = super().get_compile_config()
        return config and {**config, "optimizer_built": self.optimizer.built}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile again after loading: Keras asks models with a `compile` of their own for this."""
        config = keras.saving.deserialize_keras_object(config)
        optimizer_built = config.pop("optimizer_built")
        self.compile(**config)
        if optimizer_built:
            self.optimizer.build(self.trainable_variables)  # so that its state can be loaded

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As keras.Model.fit, with the inputs as targets; compiles with the defaults if need be.

        Weights of examples count in every mean over the examples of a batch, rho_hat too.
        """
        if not self.compiled:
            self.compile()
        x = args[0] if args else kwargs.get("x")
        return self._run(super().fit, args, kwargs, lambda: self.trained_on(x))

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As keras.Model.evaluate, with the inputs as targets."""
        return self._run(super().evaluate, args, kwargs)

    def trained_on(self, x: Any, y: Any = None) -> contextlib.AbstractContextManager:
        """Return what is done around a training on x, which a subclass defines."""
        return contextlib.nullcontext()

    def _run(
        self, method: Callable, args: tuple, kwargs: dict[str, Any], around: Callable = contextlib.nullcontext
    ) -> Any:
        """Call a method of Keras with targets where there are weights of examples, which Keras drops otherwise.

        An error in its first step, wrong targets for one, leaves the model as it was.
        """
        arguments = inspect.signature(method).bind(*args, **kwargs).arguments
        arguments |= arguments.pop("kwargs", {})
        if not self.built and arguments.get("x") is not None and not isinstance(arguments["x"], Iterator):
            with backend.placement(self):  # not in the first step: an error there leaves weights without values
                self.build((None, Chunks(arguments["x"]).num_features()))
        if is_array(arguments.get("x")):
            some = np.asarray(as_array(arguments["x"])[:1000], self.compute_dtype)
            warn_of_range(self, self.targets(some) if arguments.get("y") is None else arguments["y"][:1000])
        if arguments.get("class_weight") is not None and arguments.get("y") is None:
            raise ValueError("`class_weight` needs labels, which an autoencoder has none of. Use `sample_weight`.")
        if arguments.get("sample_weight") is not None and arguments.get("y") is None:
            arguments["y"] = self._target_rows(arguments["x"])
        held_out = arguments.get("validation_data")
        if isinstance(held_out, (tuple, list)) and len(held_out) == 3 and held_out[1] is None:
            arguments["validation_data"] = held_out[0], self._target_rows(held_out[0]), held_out[2]
        try:
            with around():
                return method(**arguments)
        except Exception:
            self.train_function = None  # what failed to compile once may not create the optimizer's variables later
            raise

    def _target_rows(self, x: Any) -> Any:
        """Return the targets of all rows of x, an array."""
        if type(self).targets is InputsAsTargets.targets:
            return x
        chunks = Chunks(x, **inputs_of(self)).read()
        return np.concatenate([ops.convert_to_numpy(self.targets(chunk.x)) for chunk in chunks])

    def train_step(self, *args: Any) -> Any:
        with observed_activations():
            return super().train_step(*args)

    def test_step(self, *args: Any) -> Any:
        with observed_activations():
            return super().test_step(*args)

    @property
    def losses(self) -> list:
        """The penalties, in one dtype: Keras adds them to the loss, which has that of keras.config.floatx()."""
        return [] if self._hides_penalties else [ops.cast(loss, keras.config.floatx()) for loss in super().losses]

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        y = self.targets(x) if y is None else y
        check_reconstruction(y.shape, y_pred.shape)
        penalties = self.losses
        self._hides_penalties = True  # the rounded difference of the sum and its terms would not be their data loss
        try:
            data_loss = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        finally:
            self._hides_penalties = False
        replicas = backend.replicas()  # of which Keras gives each its share of the loss
        if self._terms is not None:
            regularized = sum(variable.regularizer is not None for variable in self.trainable_variables)
            self._terms.update(data_loss * replicas, penalties, regularized, ops.shape(y_pred)[0])
        return ops.sum([data_loss, *(penalty / replicas for penalty in penalties)])

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        return super().compute_metrics(x, self.targets(x) if y is None else y, y_pred, sample_weight)


def _weights(data: Any) -> Any:
    """Return the weights of the examples of a batch as Keras hands it to a step, scaled to a mean of 1; or None."""
    weights = keras.utils.unpack_x_y_sample_weight(data)[2]
    if weights is None:
        return None
    backend.refuse_replicas("A weighted loss")
    weights = ops.convert_to_tensor(weights, dtype=keras.config.floatx())
    total = ops.sum(weights)
    return weights * ops.divide_no_nan(ops.cast(ops.shape(weights)[0], total.dtype), total)
