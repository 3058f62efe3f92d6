"""The sum of the activations of each example."""

from typing import Any

import keras
import numpy as np
from keras import ops

from ..backend import wide
from ..constraints import check
from ..example_weights import mean
from .method import Conventions, SparsityMethod


@keras.saving.register_keras_serializable("keras_sae")
class L1(SparsityMethod):
    """Penalise the sum of the activations of each example: the sparse autoencoder of "Towards Monosemanticity".

        weight * mean over examples of sum_j |a_j|                        rows of W2 have length 1
        weight * mean over examples of sum_j |a_j| ||W2_j||               decoder_norms=True

    Summed over units, not divided by their number. W2_j is row j of the decoder: were it free to grow, the penalty
    would go down without sparser codes. So its rows are of length 1 by default; or their lengths are in the penalty,
    and the rows are free by default. The activation is that of the Dense layer, relu by default, and this layer returns
    it as it is. It shrinks all activations, by `weight` for a unit that is active alone.

    In a `SparseAutoencoder` activations are those of scaled inputs, so `weight` with input_scale=True means the same
    for data of any scale; beside the loss, which is in the units of the data, the term is divided by scale^2.

    Args:
        weight: of the penalty in the objective, 0 or more.
        decoder_norms: whether activations count times the length of what they add to the reconstruction.
        window: as of `SparsityMethod`.

    Reference: Bricken et al. 2023, "Towards Monosemanticity", appendix "Sparse Autoencoder Setup"; decoder_norms:
    Conerly et al. 2024, "Circuits Updates - April 2024".

    >>> ae = keras_sae.SparseAutoencoder(1000, keras_sae.sparsity.L1(0.1))
    >>> history = keras_sae.fit(ae, x, iterations=400)
    """

    def __init__(self, weight: float, decoder_norms: bool = False, window: float = 100_000, **kwargs: Any):
        super().__init__(window, **kwargs)
        check("penalty", weight, "`weight`")
        self.weight, self.decoder_norms = float(weight), bool(decoder_norms)
        self.conventions = Conventions("relu", unit_norm=not self.decoder_norms)

    def codes(self, pre: Any, training: bool) -> Any:
        return pre

    def terms(self, autoencoder: Any, x: Any, pre: Any, codes: Any, training: bool) -> list:
        sizes = ops.abs(wide(codes))
        if self.decoder_norms:
            sizes *= ops.cast(_lengths(wide(autoencoder.output_layer.kernel)), sizes.dtype)
        return [self.weight * mean(ops.sum(sizes, axis=-1))]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.weight, "decoder_norms": self.decoder_norms}


def _lengths(rows: Any) -> Any:
    """Return the length of each row, whose gradient at a row of zeros is 0."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(rows), axis=-1), float(np.finfo("float32").tiny)))
