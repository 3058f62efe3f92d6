"""The sparse autoencoder as a keras.Model."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from . import backend
from .constraints import check
from .data.batches import Chunks, inputs_of
from .data.containers import as_array, is_array
from .layers import DenseTranspose, MaskingNoise, SparsityRegularization, penalty_of
from .losses import HalfSquaredError, check_reconstruction, warn_of_range
from .regularizers import WeightDecay, weighted_examples


class Autoencoder(keras.Model):
    """Base of models that learn to return their input: `fit(x)` uses x as the target as well.

    The contract, which training, export and pictures build on:
        encoder     the keras.Model x -> features, which a subclass sets as `_encoder` when it is built
        encode      x -> features, a tensor
        decode      features -> reconstruction, a tensor, which a subclass defines
        targets     x -> what the model learns to return for x
        uncut       x -> the same if its preprocessing did not cut off: what the error of a single row is measured on
        corrupt     a layer that adds noise to the inputs while training, or None
        sparsity    the penalty on the features, or None
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.corrupt: keras.layers.Layer | None = None
        self.sparsity: Any = None

    @property
    def encoder(self) -> keras.Model:
        """The encoder alone, a keras.Model: (examples, features) -> (examples, units). It shares its weights."""
        encoder = getattr(self, "_encoder", None)  # no class attribute: in PyTorch it would hide the layer
        if encoder is None:
            raise ValueError(
                f"The {type(self).__name__} has no weights yet, because the number of input features is unknown. "
                "Call it on data, fit it, or call build((None, features)) first."
            )
        return encoder

    @property
    def inputs(self) -> list | None:
        """The symbolic inputs of the encoder, as of a functional model; None before the model is built."""
        encoder = getattr(self, "_encoder", None)
        return None if encoder is None else encoder.inputs

    def encode(self, x: Any, training: bool = False) -> Any:
        """Return the features of x, a tensor: (examples, features) -> (examples, units)."""
        if isinstance(x, list):
            x = ops.convert_to_tensor(x)
        if not self.built:
            self.build(ops.shape(x))
        return self.encoder(x, training=training)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if self.corrupt is not None:
            inputs = self.corrupt(inputs, training=training)
        return self.decode(self.encode(inputs, training=training))

    def targets(self, x: Any) -> Any:
        """Return what the model learns to return for x: x itself, (examples, features)."""
        return x

    def uncut(self, x: Any) -> Any:
        """Return `targets(x)` without what its preprocessing cuts off, on the same scale."""
        return self.targets(x)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def compile(self, optimizer: Any = "adam", loss: Any = None, **kwargs: Any) -> None:
        """As keras.Model.compile; the loss defaults to HalfSquaredError, the optimizer to Adam."""
        super().compile(optimizer=optimizer, loss=HalfSquaredError() if loss is None else loss, **kwargs)

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
        return self._run(super().fit, args, kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As keras.Model.evaluate, with the inputs as targets."""
        return self._run(super().evaluate, args, kwargs)

    def _run(self, method: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
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
            return method(**arguments)
        except Exception:
            self.train_function = None  # what failed to compile once may not create the optimizer's variables later
            raise

    def _target_rows(self, x: Any) -> Any:
        """Return the targets of all rows of x, an array."""
        if type(self).targets is Autoencoder.targets:
            return x
        chunks = Chunks(x, **inputs_of(self)).read()
        return np.concatenate([ops.convert_to_numpy(self.targets(chunk.x)) for chunk in chunks])

    def train_step(self, *args: Any) -> Any:
        with weighted_examples(_weights(args[-1])):
            return super().train_step(*args)

    def test_step(self, *args: Any) -> Any:
        with weighted_examples(_weights(args[-1])):
            return super().test_step(*args)

    @property
    def losses(self) -> list:
        """The penalties, in one dtype: Keras adds them to the loss, which has that of keras.config.floatx()."""
        return [ops.cast(loss, keras.config.floatx()) for loss in super().losses]

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        y = self.targets(x) if y is None else y
        check_reconstruction(y.shape, y_pred.shape)
        return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)

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


@keras.saving.register_keras_serializable("keras_sae")
class SparseAutoencoder(Autoencoder):
    """One hidden layer trained to return its input with sparse activations.

        a    = activation(x W1 + b1)                      x (examples, features), W1 (features, units)
        xhat = output_activation(a W2 + b2)               W2 (units, features); tied: W2 = W1^T
        J    = loss(x, xhat) + weight_decay/2 (||W1||^2 + ||W2||^2) + sparsity penalty on a

    It is made of ordinary layers: `hidden` (Dense) and `sparsity` (SparsityRegularization) in the encoder,
    `output_layer` (Dense, or DenseTranspose when tied), and `corrupt` (MaskingNoise).

    Weights, as in `get_weights()`: [W1, b1, W2, b2], or [W, b1, b2] when tied; with KLSparsity(window=...) the moving
    average and its sum of weights come after b1. Kernels start uniform in +-sqrt(6 / (inputs + outputs)) (Glorot),
    biases at 0.

    Args:
        units: number of hidden units.
        sparsity: "kl" for KLSparsity(rho=0.05, beta=3.0), a KLSparsity, any Keras regularizer (L1: the sum over units,
            averaged over examples), or None.
        weight_decay: lambda. The penalty is lambda/2 times the sum of squares of the kernels, never of the biases;
            a tied kernel counts once.
        activation: of the hidden units, a Keras activation. KLSparsity needs a bounded one.
        output_activation: of the output; "sigmoid" suits data in [0, 1], "linear" unbounded data.
        tied: decode with the transposed encoder kernel.
        corruption: denoising: fraction of inputs set to 0 while training, or a Keras layer of another noise, such as
            keras.layers.GaussianNoise(0.3). The target stays clean.
        dtype: as of keras.Model: "float32", "float64", "mixed_bfloat16", ... In Keras' `fit` the loss itself has the
            dtype of keras.config.floatx().

    Raises:
        ValueError: an argument out of range; the message says what was expected.

    Reference: CS294A lecture notes, sections 2 and 3; UFLDL tutorial, "Autoencoders and Sparsity".

    >>> ae = SparseAutoencoder(units=196, sparsity=KLSparsity(rho=0.1, beta=3.0), weight_decay=3e-3)
    >>> history = keras_sae.fit(ae, x, iterations=400)
    >>> features = ae.encode(x)
    """

    def __init__(
        self,
        units: int,
        sparsity: Any = "kl",
        weight_decay: float = 1e-4,
        activation: Any = "sigmoid",
        output_activation: Any = "sigmoid",
        tied: bool = False,
        corruption: Any = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not isinstance(units, (int, np.integer)) or units < 1:
            raise ValueError(
                f"`units`, the number of hidden units, must be a positive integer. Received: units={units}"
            )
        self.units = int(units)
        self.sparsity = penalty_of(sparsity, activation)
        check("weight_decay", weight_decay)
        self.weight_decay = float(weight_decay)
        self.activation = keras.activations.get(activation)
        self.output_activation = keras.activations.get(output_activation)
        self.tied = tied
        if isinstance(corruption, dict):  # from a saved configuration
            corruption = keras.saving.deserialize_keras_object(corruption)
        self.corruption = corruption
        if isinstance(corruption, keras.layers.Layer):
            self.corrupt = corruption
        elif corruption != 0:
            self.corrupt = MaskingNoise(corruption, name="corrupt", dtype=self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        features = input_shape[-1]
        if features is None or len(input_shape) != 2:
            raise ValueError(f"Expected data of shape (examples, features). Received shape: {tuple(input_shape)}")
        shared = {"kernel_regularizer": WeightDecay(self.weight_decay), "dtype": self.dtype_policy}
        hidden = keras.layers.Dense(self.units, self.activation, name="hidden", **shared)
        inputs = keras.Input((features,), name="inputs", dtype=self.compute_dtype)
        activations = hidden(inputs)
        if self.sparsity is not None:
            penalty = SparsityRegularization(self.sparsity, dtype=self.dtype_policy, name="sparsity")
            activations = penalty(activations)
        self._encoder = keras.Model(inputs, activations, name=f"{self.name}_encoder")
        if self.tied:
            self.output_layer = DenseTranspose(hidden, self.output_activation, dtype=self.dtype_policy, name="output")
        else:
            self.output_layer = keras.layers.Dense(features, self.output_activation, name="output", **shared)
        self.output_layer.build((None, self.units))

    @property
    def kernel(self) -> keras.Variable:
        """The encoder's kernel W1, (features, units)."""
        return self.encoder.get_layer("hidden").kernel

    def decode(self, h: Any) -> Any:
        """Return the reconstruction from features, a tensor: (examples, units) -> (examples, features)."""
        return self.output_layer(h)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "sparsity": keras.regularizers.serialize(self.sparsity) if self.sparsity else None,
            "weight_decay": self.weight_decay,
            "activation": keras.activations.serialize(self.activation),
            "output_activation": keras.activations.serialize(self.output_activation),
            "tied": self.tied,
            "corruption": keras.saving.serialize_keras_object(self.corruption),
        }
