"""The penalties of the objective that are Keras regularizers: of mean activations, and of kernels."""

from typing import Any

import keras
from keras import ops

from .constraints import check
from .sparsity.kl import KLSparsity as KLSparsity  # on activations


@keras.saving.register_keras_serializable("keras_sae")
class WeightDecay(keras.regularizers.Regularizer):
    """The L2 penalty of the notes, lambda/2 times the sum of squares of a kernel; not divided by anything.

    It is a term of the loss, unlike the decoupled decay of AdamW. Keras' L2(lambda / 2) is the same to seven digits:
    it rounds the factor to float32 even in a float64 model.

    Reference: CS294A lecture notes, section 2, the second term of J(W, b).
    """

    def __init__(self, weight_decay: float):
        check("weight_decay", weight_decay)
        self.weight_decay = float(weight_decay)

    def __call__(self, kernel: Any) -> Any:
        return self.weight_decay / 2 * ops.sum(ops.square(kernel))

    def __repr__(self) -> str:
        return f"WeightDecay({self.weight_decay:g})"

    def get_config(self) -> dict[str, Any]:
        return {"weight_decay": self.weight_decay}
