"""What every autoencoder of this library is: a keras.Model that returns its input."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import keras
import numpy as np
from keras import ops

from .backend import single
from .conventions import DictionaryDecoder
from .data.batches import CHUNK_SIZE, Chunks, inputs_of
from .data.containers import is_distributed
from .inputs_as_targets import InputsAsTargets
from .sparsity import SparsityMethod
from .sparsity.batch_top_k import finish_layers

Trainer = TypeVar("Trainer", bound=Callable)


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
        start, finish     what begins with the data before a training, and follows from the weights after it
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.corrupt: keras.layers.Layer | None = None
        self.sparsity: Any = None
        self._in_training = False

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
        noisy = inputs if self.corrupt is None else self.corrupt(inputs, training=training)
        return self.decode(self.encode_and_penalize(noisy, inputs, training))

    def encode_and_penalize(self, inputs: Any, clean: Any, training: bool = False) -> Any:
        """Return the features of inputs, and add what a method of sparsity has to add to the losses.

        clean: the inputs without noise, which such terms compare reconstructions with.
        """
        return self.encode(inputs, training=training)

    def set_weights(self, weights: list) -> None:
        """As of keras.Model; a training goes on from these weights: it does not begin anew with its data."""
        super().set_weights(weights)
        self._keep_weights()

    def load_weights(self, *args: Any, **kwargs: Any) -> None:
        """As of keras.Model; a training goes on from these weights, as of `set_weights`."""
        super().load_weights(*args, **kwargs)
        self._keep_weights()

    def _keep_weights(self) -> None:
        for model in getattr(self, "autoencoders", [self]):
            model.started = True

    def start(self, x: Any) -> None:
        """Set what begins with the data, before a training on x."""

    def finish(self, x: Any) -> None:
        """Set what follows from the trained weights, after a training on x."""

    @contextlib.contextmanager
    def trained_on(self, x: Any, y: Any = None) -> Iterator[None]:
        """Do what comes before and after a training on x, once if one trainer calls another."""
        if self._in_training:
            yield
            return
        self._in_training = True
        try:
            self.start(x)
            yield
            self.finish(x)
        finally:
            self._in_training = False

    def uncut(self, x: Any) -> Any:
        """Return `targets(x)` without what its preprocessing cuts off, on the same scale."""
        return self.targets(x)

    def unscaled(self, reconstruction: Any) -> np.ndarray | None:
        """Return what the model gave back in the units of its inputs, (examples, features) float64."""
        return as_single(reconstruction).astype("float64")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


def around_training(trainer: Trainer) -> Trainer:
    """Return a function `trainer(model, x, y, ...)` that does what comes before and after a training on x as well."""

    @functools.wraps(trainer)
    def train(model: keras.Model, x: Any, y: Any = None, *arguments: Any, **options: Any) -> Any:
        if not hasattr(model, "trained_on"):
            history = trainer(model, x, y, *arguments, **options)
            if not is_distributed(x):
                finish_layers(model, x)
            return history
        with model.trained_on(x, y):
            return trainer(model, x, y, *arguments, **options)

    return cast(Trainer, train)


def draw_weights(model: keras.Model, random: np.random.RandomState) -> None:
    """Draw the weights that a training begins with: kernels uniform as Keras does by default (Glorot), biases 0."""
    for variable in model.trainable_variables:
        if len(variable.shape) == 2:
            limit = (6 / sum(variable.shape)) ** 0.5
            variable.assign(random.uniform(-limit, limit, variable.shape))
        elif variable.name == "bias":
            variable.assign(np.zeros(variable.shape))
    for layer in model._flatten_layers():
        if isinstance(layer, (DictionaryDecoder, SparsityMethod)):
            layer.start()


def as_single(tensor: Any) -> np.ndarray:
    """Return a tensor as an array; half precision, of which NumPy knows but one kind, as float32."""
    array = ops.convert_to_numpy(tensor)
    return array.astype(single(array.dtype.name), copy=False)
