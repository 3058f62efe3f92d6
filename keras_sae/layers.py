"""Layers for any Keras model: a sparse Dense layer, its penalty alone, a tied decoder, masking noise."""

import operator
from typing import Any

import keras
from keras import ops

from . import backend
from .constraints import check
from .example_weights import mean_over_examples
from .noise import uniform
from .sparsity import KLSparsity


def penalty_of(sparsity: Any, activation: Any) -> Any:
    """Return the regularizer that a `sparsity` argument means for units with this activation, or None.

    sparsity: "kl" for KLSparsity(beta=None), a KLSparsity, any Keras regularizer, or None.
    """
    sparsity = (
        KLSparsity(beta=None) if isinstance(sparsity, str) and sparsity == "kl" else keras.regularizers.get(sparsity)
    )
    return sparsity.for_activation(activation) if isinstance(sparsity, KLSparsity) else sparsity


@keras.saving.register_keras_serializable("keras_sae")
class SparsityRegularization(keras.layers.Layer):
    """Return the input as it is, and add a penalty on these activations to the losses of the model.

        KLSparsity    beta * sum_j KL(rho || rho_hat_j), rho_hat over the batch or a moving average, see its `window`
        any other     sparsity(activations) / number of examples: with L1, the sum over units averaged over examples

    The penalty goes through `add_loss`, which Keras never divides. Shapes: (examples, ..., units), in and out; a mean
    is over all axes but the last.

    With KLSparsity(window=...), training keeps

        rho_hat = sum_b w_b mean_b / sum_b w_b      mean_b: KLSparsity's rho_hat of batch b alone, of n_b examples
        w_b     = (1 - exp(-n_b / window)) exp(-(examples after batch b) / window)

    in the non-trainable weights `rho_hat` (units,) and `weight_sum` (), which tends to 1. The penalty has the value at
    rho_hat and the gradient of the present batch's mean at full strength, so in expectation the gradient of the whole
    set. Only training moves the average; evaluation uses it, and before any training the mean of the batch.

    Args:
        sparsity: a KLSparsity or another Keras regularizer.

    >>> inputs = keras.Input((784,))
    >>> features = keras.layers.Dense(196, "sigmoid")(inputs)
    >>> features = SparsityRegularization(KLSparsity(0.1, 3.0))(features)
    """

    def __init__(self, sparsity: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True  # refused by `call`, where Keras would warn and go on
        self.sparsity = keras.regularizers.get(sparsity)
        if not callable(self.sparsity):
            raise ValueError(f"Expected a KLSparsity or another Keras regularizer. Received: sparsity={sparsity!r}")

    def build(self, input_shape: tuple) -> None:
        if getattr(self.sparsity, "window", None) is not None:
            dtype = "float64" if self.variable_dtype == "float64" else "float32"  # half precision would lose the steps
            options = {"initializer": "zeros", "trainable": False, "autocast": False, "dtype": dtype}
            self.rho_hat = self.add_weight(name="rho_hat", shape=input_shape[-1:], **options)
            self.weight_sum = self.add_weight(name="weight_sum", shape=(), **options)

    def call(self, activations: Any, training: bool = False, mask: Any = None) -> Any:
        if mask is not None:
            raise ValueError(
                "A mean activation is over every position of an example. Expected inputs without a mask. Received: "
                "masked inputs. Leave out the masking (Masking, mask_zero=True)."
            )
        if not isinstance(self.sparsity, KLSparsity):
            self.add_loss(mean_over_examples(self.sparsity, activations))
        elif self.sparsity.window is None:
            self.add_loss(self.sparsity.of_batch(activations))
        elif not self.sparsity.record(activations):
            backend.refuse_replicas("KLSparsity")
            self.add_loss(self.sparsity.penalty(self._moving_average(activations, training), activations.dtype))
        return activations

    def _moving_average(self, activations: Any, training: bool) -> Any:
        """Return rho_hat, with the gradient of the mean of the present batch; training adds this batch to it first."""
        batch_mean = ops.cast(self.sparsity.rho_hat(activations), self.rho_hat.dtype)
        constant = ops.stop_gradient(batch_mean)
        if training:
            number = ops.cast(ops.shape(activations)[0], self.rho_hat.dtype)
            share = -ops.expm1(-number / self.sparsity.window)
            self.weight_sum.assign_add(share * (1 - self.weight_sum))
            self.rho_hat.assign_add(share / self.weight_sum * (constant - self.rho_hat))
        average, weight_sum = ops.convert_to_tensor(self.rho_hat), ops.convert_to_tensor(self.weight_sum)
        return ops.where(weight_sum > 0, average, constant) + (batch_mean - constant)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sparsity": keras.regularizers.serialize(self.sparsity)}


@keras.saving.register_keras_serializable("keras_sae")
class SparseDense(keras.layers.Dense):
    """A Dense layer whose mean activations are pulled to a small value: activation(x W + b), with a penalty.

    The penalty is that of `SparsityRegularization`, by default beta * sum_j KL(rho || rho_hat_j) with rho 0.1 and beta
    3 for 784 features, in proportion to their number.

    Args:
        units: number of hidden units.
        activation: a Keras activation; KLSparsity needs one that is bounded by 1, such as "sigmoid" or "tanh".
        sparsity: "kl" for the default, a KLSparsity, any Keras regularizer, or None for none.
        **kwargs: of keras.layers.Dense: use_bias, kernel_initializer, kernel_regularizer, dtype, name, ...

    Shapes: (examples, ..., features) -> (examples, ..., units).
    Reference: CS294A lecture notes, section 3.

    >>> model = keras.Sequential([SparseDense(196, sparsity=KLSparsity(0.1, 3.0)), keras.layers.Dense(784, "sigmoid")])
    """

    def __init__(self, units: int, activation: Any = "sigmoid", sparsity: Any = "kl", **kwargs: Any):
        # Keras refuses an integer of NumPy.
        super().__init__(operator.index(units), activation=activation, **kwargs)
        self.sparsity = penalty_of(sparsity, self.activation)
        self.regularization: SparsityRegularization | None = None

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        if isinstance(self.sparsity, KLSparsity):
            self.sparsity = self.sparsity.for_features(input_shape[-1])
        if self.sparsity is not None:
            self.regularization = SparsityRegularization(self.sparsity, dtype=self.dtype_policy, name="sparsity")
            self.regularization.build(self.compute_output_shape(input_shape))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        activations = super().call(inputs, training=training)
        if self.regularization is None:
            return activations
        return self.regularization(activations, training=training, mask=mask)

    def get_config(self) -> dict[str, Any]:
        sparsity = None if self.sparsity is None else keras.regularizers.serialize(self.sparsity)
        return {**super().get_config(), "sparsity": sparsity}


@keras.saving.register_keras_serializable("keras_sae")
class DenseTranspose(keras.layers.Layer):
    """The decoder of a tied autoencoder: activation(h W^T + b), where W is the kernel of another Dense layer.

    It owns the bias alone: the shared kernel is saved, counted and decayed once, by the Dense layer, and gets the
    gradient of both uses. A model that is built anew from its configuration (a .keras file, `clone_model`) takes the
    layer of the same name that the input of this one comes from, so it stays tied.

    Args:
        dense: the Dense layer (or SparseDense) whose kernel it shares.
        activation, use_bias, bias_initializer: as of keras.layers.Dense.

    Shapes: h (examples, ..., hidden), kernel W (features, hidden), output (examples, ..., features).

    >>> hidden = SparseDense(196)
    >>> model = keras.Sequential([keras.Input((784,)), hidden, DenseTranspose(hidden, "sigmoid")])
    """

    def __init__(
        self, dense: Any, activation: Any = None, use_bias: bool = True, bias_initializer: Any = "zeros", **kwargs: Any
    ):
        super().__init__(**kwargs)
        if not isinstance(dense, (keras.layers.Dense, str)):
            raise ValueError(f"Expected the Dense layer whose kernel is shared. Received: dense={dense!r}")
        # Past Keras' tracking, which would count, save and freeze the other layer's weights with this one's.
        object.__setattr__(self, "dense", dense)  # a name, until a model that is built from its configuration binds it
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self.dense, str):
            object.__setattr__(self, "dense", _layer_before(inputs, self.dense))
        return super().__call__(inputs, *args, **kwargs)

    def build(self, input_shape: tuple) -> None:
        if not self.dense.built:
            raise ValueError(f"Expected a Dense layer that was built. Received: {self.dense.name!r}. Call it first.")
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=self.dense.kernel.shape[:1], initializer=self.bias_initializer
            )

    def call(self, inputs: Any) -> Any:
        outputs = ops.matmul(inputs, ops.transpose(self.dense.kernel))
        return self.activation(ops.add(outputs, self.bias) if self.use_bias else outputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.dense.kernel.shape[0])

    def get_build_config(self) -> None:
        """Return None: a copy is built when it is called, because only then it knows the layer that it shares."""

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dense": self.dense if isinstance(self.dense, str) else self.dense.name,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


def _layer_before(inputs: Any, name: str) -> keras.layers.Dense:
    """Return the Dense layer of this name among those that a symbolic tensor comes from, nested models included."""
    waiting, seen = list(keras.tree.flatten(inputs)), set()
    while waiting:
        operation = getattr(getattr(waiting.pop(), "_keras_history", None), "operation", None)
        if operation is None or id(operation) in seen:
            continue
        seen.add(id(operation))
        nested = operation._flatten_layers() if isinstance(operation, keras.layers.Layer) else []
        for layer in nested:
            if layer.name == name and isinstance(layer, keras.layers.Dense):
                return layer
        waiting += [tensor for node in operation._inbound_nodes for tensor in node.input_tensors]
    raise ValueError(
        f"A DenseTranspose shares the kernel of the Dense layer {name!r}. Expected its input to come from that layer. "
        "Received: an input that does not. Build it in the same model, or pass the layer itself: DenseTranspose(dense)."
    )


@keras.saving.register_keras_serializable("keras_sae")
class MaskingNoise(keras.layers.Layer):
    """Set each input to 0 with probability `rate` while training; unlike Dropout it does not scale up the rest.

    Reference: Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders".
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        check("corruption", rate)
        self.rate, self.seed = float(rate), None if seed is None else operator.index(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        kept = uniform(ops.shape(inputs), self.seed_generator) >= self.rate
        return inputs * ops.cast(kept, inputs.dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
