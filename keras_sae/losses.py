"""Reconstruction losses: summed over features and averaged over examples, as in the notes."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_sae")
class HalfSquaredError(keras.losses.Loss):
    """Half the squared error: mean over examples of 1/2 ||y_pred - y_true||^2.

    The square is SUMMED over features. Keras' "mse" averages over features instead, which divides the loss by
    half the number of features (392 for MNIST) and so changes what weight_decay and beta mean.

    Shapes: y_true, y_pred (examples, features); `call` returns (examples,).
    Reference: CS294A lecture notes, section 2, J(W, b; x, y); UFLDL, "Backpropagation Algorithm".
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "half_squared_error", dtype: Any = None
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = ops.cast(y_true, y_pred.dtype)
        return 0.5 * ops.sum(ops.square(y_pred - y_true), axis=-1)


@keras.saving.register_keras_serializable("keras_sae")
class SummedBinaryCrossentropy(keras.losses.Loss):
    """Cross-entropy of independent Bernoulli features: mean over examples of -sum_k [y_k log p_k + (1-y_k) log(1-p_k)].

    SUMMED over features (Keras' "binary_crossentropy" averages), for targets in [0, 1] and sigmoid outputs.
    If Keras cannot recover the logits, it clips p to [1e-7, 1 - 1e-7].

    Shapes: y_true, y_pred (examples, features); `call` returns (examples,).
    Reference: Vincent et al. 2010, "Stacked Denoising Autoencoders", section 2.2.
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "summed_binary_crossentropy", dtype: Any = None
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = ops.cast(y_true, y_pred.dtype)
        return ops.sum(ops.binary_crossentropy(y_true, y_pred), axis=-1)
