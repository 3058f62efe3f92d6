"""The k largest units of each example."""

import operator
from typing import Any

import keras
from keras import ops

from ..constraints import check
from .keeps_largest import KeepsLargest
from .method import Conventions


@keras.saving.register_keras_serializable("keras_sae")
class TopK(KeepsLargest):
    """Keep the k largest pre-activations of each example, and set the others to 0: a k-sparse autoencoder.

        a_j = max(pre_j, 0) if pre_j is among the k largest, else 0

    It adds no term to the loss. Units that are equal to the k-th largest are kept as well. The gradient goes through
    the units that are kept.

    Args:
        k: active units of an example, while training.
        k_inference: the same afterwards; None for k. Makhzani & Frey gain from a few more, about 3 k.
        relu: whether negative ones among the k are 0; False is the k-sparse autoencoder as published.
        window: as of `SparsityMethod`.
        k_start, anneal: training begins with k_start active units, 4 k say, which fall to k over the first `anneal`
            examples, a third of rows times epochs say, so that few units die. The loss rises meanwhile.

    Reference: Makhzani & Frey 2013, "k-Sparse Autoencoders", sections 2.1 and 4.2.1; Gao et al. 2024, "Scaling and
    Evaluating Sparse Autoencoders", equation 4.

    >>> ae = keras_sae.SparseAutoencoder(1000, keras_sae.sparsity.TopK(25, k_start=100, anneal=10 * len(x)))
    >>> history = keras_sae.fit(ae, x, optimizer="adam", iterations=30)
    """

    conventions = Conventions()
    no_lbfgs = "its objective jumps if units change places among the k largest"

    def __init__(
        self,
        k: int,
        k_inference: int | None = None,
        relu: bool = True,
        window: float = 100_000,
        k_start: int | None = None,
        anneal: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(k, k_start, anneal, window, **kwargs)
        check("k", k if k_inference is None else k_inference, "`k_inference`")
        self.k_inference = None if k_inference is None else operator.index(k_inference)
        self.relu = relu

    def _numbers(self) -> dict[str, int | None]:
        return {**super()._numbers(), "k_inference": self.k_inference}

    def codes(self, pre: Any, training: bool) -> Any:
        pre = ops.relu(pre) if self.relu else pre
        if training and self.k_start is not None:
            return largest_of_each(pre, self.k_start, self.k_now(training))
        return largest_of_each(pre, self.k if training or self.k_inference is None else self.k_inference)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k_inference": self.k_inference, "relu": self.relu}


def largest_of_each(values: Any, k: int, fewer: Any = None) -> Any:
    """Return values (..., units) with all but the k largest of the last axis set to 0, and those equal to the k-th.

    fewer: an integer tensor of at most k, which replaces it.
    """
    largest = ops.top_k(ops.stop_gradient(values), k)[0]
    if fewer is not None:
        largest = ops.where(ops.arange(k) < fewer, largest, float("inf"))
    # The least of the k, not the k-th: XLA sorts all values if it sees that one alone is asked for.
    least = ops.min(largest, axis=-1, keepdims=True)
    return ops.where(values >= least, values, ops.zeros_like(values))
