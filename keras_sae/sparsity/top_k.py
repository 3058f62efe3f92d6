"""The k largest units of each example."""

import operator
from typing import Any

import keras
from keras import ops

from ..constraints import check
from .method import Conventions, SparsityMethod


@keras.saving.register_keras_serializable("keras_sae")
class TopK(SparsityMethod):
    """Keep the k largest pre-activations of each example, and set the others to 0: a k-sparse autoencoder.

        a_j = max(pre_j, 0) if pre_j is among the k largest, else 0

    It adds no term to the loss. Units that are equal to the k-th largest are kept as well. The gradient goes through
    the units that are kept.

    Args:
        k: active units of an example, while training.
        k_inference: the same afterwards; None for k. Makhzani & Frey gain from a few more, about 3 k.
        relu: whether negative ones among the k are 0; False is the k-sparse autoencoder as published.
        window: as of `SparsityMethod`.

    Reference: Makhzani & Frey 2013, "k-Sparse Autoencoders", section 2.1; Gao et al. 2024, "Scaling and Evaluating
    Sparse Autoencoders", equation 4.

    >>> ae = keras_sae.SparseAutoencoder(1000, keras_sae.sparsity.TopK(25))
    >>> history = keras_sae.fit(ae, x, optimizer="adam", iterations=30)
    """

    conventions = Conventions()
    no_lbfgs = "its objective jumps if units change places among the k largest"

    def __init__(
        self, k: int, k_inference: int | None = None, relu: bool = True, window: float = 100_000, **kwargs: Any
    ):
        super().__init__(window, **kwargs)
        check("k", k)
        check("k", k if k_inference is None else k_inference, "`k_inference`")
        self.k = operator.index(k)
        self.k_inference = None if k_inference is None else operator.index(k_inference)
        self.relu = relu

    def build(self, input_shape: tuple) -> None:
        self.check_k(max(self.k, self.k_inference or 0), input_shape[-1])
        super().build(input_shape)

    def codes(self, pre: Any, training: bool) -> Any:
        pre = ops.relu(pre) if self.relu else pre
        return largest_of_each(pre, self.k if training or self.k_inference is None else self.k_inference)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k, "k_inference": self.k_inference, "relu": self.relu}


def largest_of_each(values: Any, k: int) -> Any:
    """Return values (..., units) with all but the k largest of the last axis set to 0, and those equal to the k-th."""
    # The least of the k, not the k-th: XLA sorts all values if it sees that one alone is asked for.
    least = ops.min(ops.top_k(ops.stop_gradient(values), k)[0], axis=-1, keepdims=True)
    return ops.where(values >= least, values, ops.zeros_like(values))
