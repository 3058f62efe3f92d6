"""The examples of a batch that activate a unit most."""

from typing import Any

import keras
from keras import ops

from ..constraints import check
from .largest import nth_largest
from .method import SparsityMethod


@keras.saving.register_keras_serializable("keras_sae")
class WinnerTakeAll(SparsityMethod):
    """Keep the largest activations of each unit over a batch, and set the others to 0: sparsity over a lifetime.

        a_ij = max(pre_ij, 0) if example i is among the n of the batch that activate unit j most, else 0
        n    = rate * examples of the batch, rounded, at least 1

    So every unit learns from some examples of each batch, and none dies. After training it is an ordinary ReLU, as
    published: codes then have more active units than in training. It adds no term to the loss. Activations that are
    equal to the n-th largest are kept as well. The gradient goes through what is kept. Under tf.distribute each replica
    takes its part of a batch for the batch.

    Args:
        rate: the share of the examples for which a unit is active, above 0, at most 1.
        window: as of `SparsityMethod`.

    Reference: Makhzani & Frey 2015, "Winner-Take-All Autoencoders", section 2.

    >>> ae = keras_sae.SparseAutoencoder(1000, keras_sae.sparsity.WinnerTakeAll(0.05))
    >>> history = keras_sae.fit(ae, x, optimizer="adam", iterations=30)
    """

    no_objective = "its codes depend on the other examples of a batch"

    def __init__(self, rate: float, window: float = 100_000, **kwargs: Any):
        super().__init__(window, **kwargs)
        check("rate", rate)
        self.rate = float(rate)

    def codes(self, pre: Any, training: bool) -> Any:
        active = ops.relu(pre)
        if not training:
            return active
        rows = ops.reshape(active, (-1, active.shape[-1]))
        n = ops.maximum(ops.round(self.rate * ops.cast(ops.shape(rows)[0], "float32")), 1.0)
        least = ops.cast(nth_largest(rows, n, axis=0)[0], active.dtype)
        return ops.where(active >= least, active, ops.zeros_like(active))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}
