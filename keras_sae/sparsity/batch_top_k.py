"""The k largest units of an example on average: as many as k of each, taken from the whole batch."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from ..data.batches import Chunks, inputs_of
from ..data.containers import is_repeatable
from .keeps_largest import KeepsLargest
from .largest import nth_largest
from .method import pre_activations_of
from .thresholds import threshold_of


@keras.saving.register_keras_serializable("keras_sae")
class BatchTopK(KeepsLargest):
    """Keep the k B largest activations of a batch of B examples, and set the others to 0: k of an example on average.

        a_ij = max(pre_ij, 0) if it is among the k B largest of the batch, else 0          while training
        a_ij = pre_ij if pre_ij > threshold, else 0                                        afterwards

    It adds no term to the loss. The threshold, one number for all units, is that of the last batch while training goes
    on, for `validation_data`. At its end it is set so that the mean number of active units over all training rows is k
    exactly (if no two activations are the same): halfway between the k m largest of m rows and the next one, without a
    running mean. So encoders, exports and evaluation need no batch. `keras_sae.fit` sets it in any Keras model with
    this layer, such as a classifier; Keras' own `fit` does in autoencoders and stacks alone.

    Args:
        k: active units of an example, on average.
        window, k_start, anneal: as of `TopK`. While they become fewer, `validation_data` see as many as training does.

    Reference: Bussmann, Leask & Nanda 2024, "BatchTopK Sparse Autoencoders", equations 4 to 6, with a mean of minima as
    the threshold.

    >>> ae = keras_sae.SparseAutoencoder(1000, keras_sae.sparsity.BatchTopK(25, k_start=100, anneal=10 * len(x)))
    >>> history = keras_sae.fit(ae, x, optimizer="adam", iterations=30)
    """

    no_objective = "while it trains, the codes of a row depend on the other rows of its batch"
    no_lbfgs = "its objective jumps if a unit crosses the threshold"

    def __init__(
        self, k: int, window: float = 100_000, k_start: int | None = None, anneal: float | None = None, **kwargs: Any
    ):
        super().__init__(k, k_start, anneal, window, **kwargs)

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        self.threshold = self.add_weight(
            name="threshold", shape=(), initializer="zeros", trainable=False, autocast=False, dtype="float32"
        )

    def codes(self, pre: Any, training: bool) -> Any:
        wide = ops.cast(ops.stop_gradient(pre), "float32")
        if training:
            flat = ops.reshape(ops.relu(wide), (-1,))
            least = nth_largest(flat, self.k_now(training) * (ops.size(flat) // pre.shape[-1]), axis=0)
            self.threshold.assign(ops.squeeze(least))
            kept = ops.logical_and(wide >= least, wide > 0)
        else:
            kept = wide > self.threshold
        return ops.where(kept, pre, ops.zeros_like(pre))

    def finish(self, autoencoder: Any, x: Any) -> None:
        super().finish(autoencoder, x)
        if _is_repeatable(self, x):
            self.threshold.assign(threshold_of(pre_activations_of(autoencoder, x), self.k))


def finish_layers(model: keras.Model, x: Any) -> None:
    """Set the thresholds of layers of any Keras model that was trained on x, from the lowest up."""
    for layer in model._flatten_layers():
        if isinstance(layer, BatchTopK) and layer.trainable and _is_repeatable(layer, x):
            layer.threshold.assign(threshold_of(_inputs_of_layer(model, layer, x), layer.k))


def _is_repeatable(layer: BatchTopK, x: Any) -> bool:
    if not is_repeatable(x):
        warnings.warn(
            f"The threshold of {layer.name} stays that of the last batch: the data cannot be read again, or have no "
            f"end. Received: {type(x).__name__}. Call finish(rows) of the autoencoder with some rows.",
            stacklevel=2,
        )
        return False
    return True


def _inputs_of_layer(model: keras.Model, layer: BatchTopK, x: Any) -> Callable[[], Iterator[np.ndarray]]:
    """Return a function that yields what a layer somewhere in a model is given for x, anew at each call."""
    chunks = Chunks(x, **inputs_of(model))

    def passes() -> Iterator[np.ndarray]:
        given, codes = list[Any](), layer.codes

        def listen(pre: Any, training: bool) -> Any:
            given.append(pre)
            return codes(pre, training)

        layer.codes = listen  # type: ignore[method-assign]
        try:
            for chunk in chunks.read():
                model(chunk.x, training=False)
                yield from map(ops.convert_to_numpy, given)
                given.clear()
        finally:
            del layer.codes

    return passes
