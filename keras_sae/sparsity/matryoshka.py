"""BatchTopK whose first units alone reconstruct the data as well as they can."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from .batch_top_k import BatchTopK
from .method import mean_error


@keras.saving.register_keras_serializable("keras_sae")
class MatryoshkaBatchTopK(BatchTopK):
    """Keep the k B largest activations of a batch, as BatchTopK, and let each prefix of the units reconstruct x alone.

        J = sum over prefixes p of  1/m sum_i 1/2 ||xhat_i^(p) - x_i||^2          xhat^(p) = s2(a_1..p W2_1..p + b2)

    s2 is the activation of the outputs. So the first units learn what is general, and later ones cannot take it apart.
    The choice of the k B largest is one, for all prefixes. The terms are not weighted, and each is normalised as the
    reconstruction error, which is that of the whole; the others are in the History as "sparsity".

    Args:
        k: active units of an example, on average.
        prefixes: numbers of units, ascending, less than all; by default an 8th, a 4th and half of them.
        window, k_start, anneal: as of `TopK`.

    Reference: Bussmann, Nabeshima, Karvonen & Nanda 2025, "Learning Multi-Level Features with Matryoshka Sparse
    Autoencoders", equation 3.

    >>> ae = keras_sae.SparseAutoencoder(1024, keras_sae.sparsity.MatryoshkaBatchTopK(25))
    """

    def __init__(
        self,
        k: int,
        prefixes: Sequence[int] | None = None,
        window: float = 100_000,
        k_start: int | None = None,
        anneal: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(k, window, k_start, anneal, **kwargs)
        self.prefixes = None if prefixes is None else tuple(map(int, prefixes))
        if self.prefixes is not None and not all(
            a < b for a, b in zip((0, *self.prefixes), self.prefixes, strict=False)
        ):
            raise ValueError(f"Expected `prefixes` as ascending numbers of units, from 1. Received: {prefixes}")

    def build(self, input_shape: tuple) -> None:
        units = input_shape[-1]
        self.ends = (units // 8, units // 4, units // 2) if self.prefixes is None else self.prefixes
        self.ends = tuple(sorted({end for end in self.ends if end}))
        if self.ends and self.ends[-1] >= units:
            raise ValueError(f"Expected `prefixes` of less than all {units} units. Received: {self.ends[-1]}")
        super().build(input_shape)

    def terms(self, autoencoder: Any, x: Any, pre: Any, codes: Any, training: bool) -> list:
        decoder = autoencoder.output_layer
        kernel, reconstruction, terms, start = decoder.kernel, decoder.bias, [], 0
        for end in self.ends:  # each block of units adds to the reconstruction of those before it
            reconstruction = reconstruction + ops.matmul(codes[:, start:end], kernel[start:end])
            terms.append(mean_error(decoder.activation(reconstruction), x))
            start = end
        return terms

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "prefixes": self.prefixes}
