"""The sparse autoencoder as a keras.Model."""

import keras
from keras import ops

from .layers import MaskingNoise, MovingAverage, TiedDense
from .losses import HalfSquaredError
from .regularizers import KLSparsity, WeightDecay


class Autoencoder(keras.Model):
    """Base of models that learn to return their input: `fit(x)` uses x as the target as well.

    Subclasses give `encode` and `decode`; `encoder` is the keras.Model x -> features.
    """

    @property
    def encoder(self):
        """The encoder alone, a keras.Model: (examples, features) -> (examples, units). It shares its weights."""
        encoder = getattr(self, "_encoder", None)  # no class attribute: in PyTorch it would hide the layer
        if encoder is None:
            raise ValueError(
                f"The {type(self).__name__} has no weights yet, because the number of input features is unknown. "
                "Call it on data, fit it, or call build((None, features)) first."
            )
        return encoder

    def encode(self, x, training=False):
        """Features of x, a tensor: (examples, features) -> (examples, units)."""
        if not self.built:
            self.build(ops.shape(x))
        return self.encoder(x, training=training)

    def call(self, inputs, training=False):
        return self.decode(self.encode(inputs, training=training))

    def targets(self, x):
        """What the model learns to return for x: x itself, (examples, features)."""
        return x

    def compute_output_shape(self, input_shape):
        return input_shape

    def compile(self, optimizer="adam", loss=None, **kwargs):
        """As keras.Model.compile; the loss defaults to HalfSquaredError, the optimizer to Adam."""
        super().compile(optimizer=optimizer, loss=HalfSquaredError() if loss is None else loss, **kwargs)

    def get_compile_config(self):
        """The arguments of `compile`, and whether the optimizer has state that belongs to the saved model."""
        config = super().get_compile_config()
        return config and {**config, "optimizer_built": self.optimizer.built}

    def compile_from_config(self, config):
        """Keras asks models with a `compile` of their own for this, to compile them again after loading."""
        config = keras.saving.deserialize_keras_object(config)
        optimizer_built = config.pop("optimizer_built")
        self.compile(**config)
        if optimizer_built:
            self.optimizer.build(self.trainable_variables)  # so that its state can be loaded

    def fit(self, *args, **kwargs):
        """As keras.Model.fit, with the inputs as targets; compiles with the defaults if need be."""
        if not self.compiled:
            self.compile()
        return super().fit(*args, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        y = self.targets(x) if y is None else y
        return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, self.targets(x) if y is None else y, y_pred, sample_weight)


@keras.saving.register_keras_serializable("keras_sae")
class SparseAutoencoder(Autoencoder):
    """One hidden layer trained to return its input with sparse activations.

        a    = activation(x W1 + b1)                      x (examples, features), W1 (features, units)
        xhat = output_activation(a W2 + b2)               W2 (units, features); tied: W2 = W1^T
        J    = loss(x, xhat) + weight_decay/2 (||W1||^2 + ||W2||^2) + sparsity penalty on a

    Weights, as in `get_weights()`: [W1, b1, W2, b2], or [W, b1, b2] when tied. Kernels start uniform in
    +-sqrt(6 / (inputs + outputs)) (Glorot), biases at 0.

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

        dtype: as of keras.Model. `fit_lbfgs` and `objective` take "float64"; Keras' `fit` adds losses of two types then
            and fails, unless keras.config.set_floatx("float64") came first.

    Raises:
        ValueError: an argument out of range; the message says what was expected.

    Reference: CS294A lecture notes, sections 2 and 3; UFLDL tutorial, "Autoencoders and Sparsity".

    >>> ae = SparseAutoencoder(units=196, sparsity=KLSparsity(rho=0.1, beta=3.0), weight_decay=3e-3)
    >>> history = fit_lbfgs(ae, x, max_iterations=400)
    >>> features = ae.encode(x)
    """

    def __init__(
        self,
        units,
        sparsity="kl",
        weight_decay=1e-4,
        activation="sigmoid",
        output_activation="sigmoid",
        tied=False,
        corruption=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(units, int) or units < 1:
            raise ValueError(
                f"`units`, the number of hidden units, must be a positive integer. Received: units={units}"
            )
        sparsity = KLSparsity() if sparsity == "kl" else keras.regularizers.get(sparsity)
        if isinstance(sparsity, KLSparsity):
            sparsity = sparsity.for_activation(activation)
        self.units = units
        self.sparsity = sparsity
        self.weight_decay = WeightDecay(weight_decay).weight_decay
        self.activation = keras.activations.get(activation)
        self.output_activation = keras.activations.get(output_activation)
        self.tied = tied
        if isinstance(corruption, dict):  # from a saved configuration
            corruption = keras.saving.deserialize_keras_object(corruption)
        self.corruption = corruption
        self.corrupt = None
        if isinstance(corruption, keras.layers.Layer):
            self.corrupt = corruption
        elif corruption != 0:
            self.corrupt = MaskingNoise(corruption, name="corrupt", dtype=self.dtype_policy)

    def build(self, input_shape):
        features = input_shape[-1]
        if features is None or len(input_shape) != 2:
            raise ValueError(f"Expected data of shape (examples, features). Received shape: {tuple(input_shape)}")
        decay = WeightDecay(self.weight_decay)
        moving = getattr(self.sparsity, "average", None) == "moving"
        hidden = keras.layers.Dense(
            self.units,
            activation=self.activation,
            kernel_regularizer=decay,
            activity_regularizer=None if moving else self.sparsity,
            dtype=self.dtype_policy,
            name="hidden",
        )
        inputs = keras.Input((features,), name="inputs", dtype=self.compute_dtype)
        activations = hidden(inputs)
        if moving:
            activations = MovingAverage(self.sparsity, dtype=self.dtype_policy, name="average")(activations)
        self._encoder = keras.Model(inputs, activations, name=f"{self.name}_encoder")
        if self.tied:
            self.output_layer = TiedDense(features, self.output_activation, dtype=self.dtype_policy, name="output")
        else:
            self.output_layer = keras.layers.Dense(
                features, self.output_activation, kernel_regularizer=decay, dtype=self.dtype_policy, name="output"
            )
        self.output_layer.build((None, self.units))

    @property
    def kernel(self):
        """The encoder's kernel W1, (features, units)."""
        return self.encoder.get_layer("hidden").kernel

    def decode(self, h):
        """Reconstruction from features, a tensor: (examples, units) -> (examples, features)."""
        return self.output_layer(h, kernel=self.kernel) if self.tied else self.output_layer(h)

    def call(self, inputs, training=False):
        if self.corrupt is not None:
            inputs = self.corrupt(inputs, training=training)
        return super().call(inputs, training=training)

    def get_config(self):
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
