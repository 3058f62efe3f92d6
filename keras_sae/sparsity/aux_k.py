"""Dead units learn what the others leave over."""

from typing import Any

import keras
from keras import ops

from ..constraints import check
from .method import mean_error
from .top_k import largest_of_each


@keras.saving.register_keras_serializable("keras_sae")
class AuxK:
    """An auxiliary loss while training: the k largest dead units of an example reconstruct the error of the others.

        e    = x - xhat, a constant: no gradient goes through it
        ehat = sum over the k largest of the dead units of pre_j W2_j          without b2, without a rectifier
        L    = weight * min(dead / k, 1) * 1/m sum_i 1/2 ||ehat_i - e_i||^2

    `dead` is the number of units that were silent for the `window` of the method. If none is, L is 0. It is normalised
    as the reconstruction error, and is in the History as part of "sparsity".

    Args:
        k: dead units of an example at most; None for half the number of features.
        weight: of the loss beside the reconstruction error.

    Reference: Gao et al. 2024, "Scaling and Evaluating Sparse Autoencoders", appendix A.2; the factor with the number
    of dead units as in SAELens.

    >>> ae = keras_sae.SparseAutoencoder(4096, keras_sae.sparsity.TopK(32), revive=keras_sae.sparsity.AuxK())
    """

    def __init__(self, k: int | None = None, weight: float = 1 / 32):
        check("k", 1 if k is None else k)
        check("weight", weight)
        self.k, self.weight = k, float(weight)

    def term(self, autoencoder: Any, x: Any, pre: Any, codes: Any) -> Any:
        """Return L, a scalar, for the targets x, pre-activations and codes, (examples, features or units)."""
        method, decoder = autoencoder.sparsity, autoencoder.output_layer
        k = min(self.k or max(1, x.shape[-1] // 2), autoencoder.units)
        dead = method.dead()
        error = ops.stop_gradient(x - decoder.reconstruction(codes))
        lowest = ops.where(dead > 0, ops.cast(ops.stop_gradient(pre), "float32"), float("-inf"))
        chosen = ops.logical_and(largest_of_each(lowest, k) != 0, dead > 0)
        alone = ops.where(chosen, pre, ops.zeros_like(pre))
        loss = mean_error(decoder.contribution(alone), error)
        return self.weight * ops.cast(ops.minimum(ops.sum(dead) / k, 1.0), loss.dtype) * loss

    def get_config(self) -> dict[str, Any]:
        return {"k": self.k, "weight": self.weight}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AuxK":
        return cls(**config)
