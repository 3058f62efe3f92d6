"""The sparse autoencoder as a keras.Model."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from .backend import single
from .constraints import check
from .data.batches import CHUNK_SIZE, Chunks, inputs_of
from .inputs_as_targets import InputsAsTargets
from .layers import DenseTranspose, MaskingNoise, SparsityRegularization, penalty_of
from .regularizers import KLSparsity, WeightDecay, in_proportion


class Autoencoder(InputsAsTargets):
    """Base of models that learn to return their input: `fit(x)` uses x as the target as well.

    The contract, which training, export and pictures build on:
        encoder     the keras.Model x -> features, which a subclass sets as `_encoder` when it is built
        encode      x -> features, a tensor
        decode      features -> reconstruction, a tensor, which a subclass defines
        transform, reconstruct, reconstruction_error     rows of any kind -> arrays
        targets     x -> what the model learns to return for x
        uncut       x -> the same if its preprocessing did not cut off: what the error of a single row is measured on
        unscaled    reconstruction -> the same in the units of x, an array, or None if its preprocessing hides them
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
    def sparsities(self) -> list:
        """The penalties on its features, one for each layer of them."""
        return [self.sparsity]

    @property
    def decoder(self) -> keras.Model:
        """The decoder alone, a new keras.Model at each access that shares the weights: features -> reconstruction."""
        features = keras.Input(self.encoder.output_shape[1:], name="features", dtype=self.compute_dtype)
        return keras.Model(features, self.decode(features), name=f"{self.name}_decoder")

    def __dir__(self) -> Iterable[str]:
        # Keras saves what `dir` lists, each layer by the first name that leads to it: files keep their layout.
        return [name for name in super().__dir__() if name != "decoder"]

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

    def transform(self, x: Any, batch_size: int = CHUNK_SIZE) -> np.ndarray:
        """Return the features of all rows of x, an array (examples, units), which is computed some rows at a time.

        x: (examples, features): an array, in memory or memory-mapped, a table, a list, a SciPy sparse matrix, or a data
            set of batches, of which x of (x, y) counts.
        """
        return self._in_chunks(self.encoder, x, batch_size)

    def reconstruct(self, x: Any, batch_size: int = CHUNK_SIZE) -> np.ndarray:
        """Return what the model gives back for all rows of x, an array (examples, features); x as of `transform`.

        Of a stack with preprocessing these are rows as preprocessed.
        """
        return self._in_chunks(self, x, batch_size)

    def reconstruction_error(self, x: Any, per_feature: bool = False, batch_size: int = CHUNK_SIZE) -> np.ndarray:
        """Return 1/2 ||xhat_i - x_i||^2 of each row of x, (examples,) float64, whose mean is `HalfSquaredError`.

        Of a stack with preprocessing the error is that of rows as preprocessed, but not cut off (`uncut`).

        per_feature: whether to return its terms, one for each feature, (examples, features).
        x: as of `transform`.
        """

        def errors(chunk: Any, training: bool) -> np.ndarray:
            xhat, target = (as_single(tensor).astype("float64") for tensor in (self(chunk), self.uncut(chunk)))
            terms = 0.5 * (xhat - target) ** 2
            return terms if per_feature else terms.sum(axis=1)

        return self._in_chunks(errors, x, batch_size)

    def _in_chunks(self, function: Callable, x: Any, batch_size: int) -> np.ndarray:
        """Return the results of a model, layer or function for all rows of x, an array in single precision at least."""
        chunks = Chunks(x, chunk_size=batch_size, **inputs_of(self.encoder)).read()
        return np.concatenate([as_single(function(chunk.x, training=False)) for chunk in chunks])

    def call(self, inputs: Any, training: bool = False) -> Any:
        if self.corrupt is not None:
            inputs = self.corrupt(inputs, training=training)
        return self.decode(self.encode(inputs, training=training))

    def uncut(self, x: Any) -> Any:
        """Return `targets(x)` without what its preprocessing cuts off, on the same scale."""
        return self.targets(x)

    def unscaled(self, reconstruction: Any) -> np.ndarray | None:
        """Return what the model gave back in the units of its inputs, (examples, features) float64."""
        return as_single(reconstruction).astype("float64")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


def draw_weights(model: keras.Model, random: np.random.RandomState) -> None:
    """Draw the weights that a training begins with: kernels uniform as Keras does by default (Glorot), biases 0."""
    for variable in model.trainable_variables:
        limit = (6 / sum(variable.shape)) ** 0.5 if len(variable.shape) == 2 else 0.0
        variable.assign(random.uniform(-limit, limit, variable.shape))


def as_single(tensor: Any) -> np.ndarray:
    """Return a tensor as an array; half precision, of which NumPy knows but one kind, as float32."""
    array = ops.convert_to_numpy(tensor)
    return array.astype(single(array.dtype.name), copy=False)


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
        sparsity: "kl" for KLSparsity(rho=0.1, beta=None), another KLSparsity, any Keras regularizer (L1: the sum over
            units, averaged over examples), or None.
        weight_decay: lambda. The penalty is lambda/2 times the sum of squares of the kernels, never of the biases;
            a tied kernel counts once. None is 3e-3 for 784 features, in proportion to their number, as beta=None is:
            the notes' settings for digits, which leave all units of a small table alike.
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
        weight_decay: float | None = None,
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
        self.weight_decay = None if weight_decay is None else float(weight_decay)
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
        if self.weight_decay is None:
            self.weight_decay = in_proportion(3e-3, features)
        if isinstance(self.sparsity, KLSparsity):
            self.sparsity = self.sparsity.for_features(features)
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
