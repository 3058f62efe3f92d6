"""The k largest units of an example on average: as many as k of each, taken from the whole batch."""

from typing import Any

import keras
from keras import ops

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
    exactly (if no two activations are the same): the next one below the k m largest of m rows, without a running mean.
    So encoders, exports and evaluation need no batch.

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
        self.threshold.assign(threshold_of(pre_activations_of(autoencoder, x), self.k))
