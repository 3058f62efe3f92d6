"""Reconstruction losses: summed over features and averaged over examples, as in the notes."""

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

# The values between which units of an activation lie.
RANGES = {"sigmoid": (0, 1), "hard_sigmoid": (0, 1), "softmax": (0, 1), "tanh": (-1, 1), "hard_tanh": (-1, 1)}


class _Summed(keras.losses.Loss):
    """A loss of each number of a reconstruction, summed over all axes but the first, averaged over examples."""

    def __init__(self, reduction: str | None = "mean_with_sample_weight", name: str | None = None, dtype: Any = None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def each(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each number, in the shape of y_pred."""
        raise NotImplementedError

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = ops.cast(y_true, y_pred.dtype)
        check_reconstruction(y_true.shape, y_pred.shape)
        losses = self.each(y_true, y_pred)
        return ops.sum(losses, axis=tuple(range(1, len(losses.shape))))

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        refuse_mask(y_pred)
        return super().__call__(y_true, y_pred, sample_weight)


@keras.saving.register_keras_serializable("keras_sae")
class HalfSquaredError(_Summed):
    """Half the squared error: mean over examples of 1/2 ||y_pred - y_true||^2.

    The square is SUMMED over features. Keras' "mse" averages over features instead, which divides the loss by
    half the number of features (392 for MNIST) and so changes what weight_decay and beta mean. If examples have
    weights, the mean is the weighted one, sum_i w_i l_i / sum_i w_i.

    Shapes: y_true, y_pred (examples, ..., features), the sum is over all axes but the first; `call` returns
    (examples,).
    Raises: ValueError if the targets have another shape than the outputs, or if the outputs carry a mask.
    Reference: CS294A lecture notes, section 2, J(W, b; x, y); UFLDL, "Backpropagation Algorithm".
    """

    def each(self, y_true: Any, y_pred: Any) -> Any:
        return 0.5 * ops.square(y_pred - y_true)


@keras.saving.register_keras_serializable("keras_sae")
class SummedBinaryCrossentropy(_Summed):
    """Cross-entropy of independent Bernoulli features: mean over examples of -sum_k [y_k log p_k + (1-y_k) log(1-p_k)].

    SUMMED over features (Keras' "binary_crossentropy" averages), for targets in [0, 1] and sigmoid outputs.
    If Keras cannot recover the logits, it clips p to [1e-7, 1 - 1e-7].

    Weights of examples, shapes and errors: as of `HalfSquaredError`.
    Reference: Vincent et al. 2010, "Stacked Denoising Autoencoders", section 2.2.
    """

    def each(self, y_true: Any, y_pred: Any) -> Any:
        return ops.binary_crossentropy(y_true, y_pred)


def check_reconstruction(targets: Any, outputs: Any) -> None:
    """Raise ValueError unless targets of this shape can be compared with outputs of that one, number by number.

    Without it labels (examples, 1) would be compared with each of the outputs (examples, features). None in a shape,
    as in compiled functions, matches any size.
    """
    targets, outputs = tuple(targets), tuple(outputs)
    if len(targets) != len(outputs) or not all(None in (a, b) or a == b for a, b in zip(targets, outputs, strict=True)):
        raise ValueError(
            f"Expected targets of the shape of the outputs, {outputs}, or none: an autoencoder learns to return its "
            f"inputs. Received: targets of shape {targets}. If these are labels, drop them: fit(x), or of a data set "
            "ds.map(lambda x, y: x)."
        )


def refuse_mask(outputs: Any) -> None:
    """Raise ValueError if the outputs of a model carry a mask: all its positions would count in means."""
    if any(getattr(output, "_keras_mask", None) is not None for output in keras.tree.flatten(outputs)):
        raise ValueError(
            "Expected outputs without a mask: penalties and losses here count every position of an example. Received: "
            "masked outputs. Leave out the masking (Masking, mask_zero=True), and give examples that are all data."
        )


def warn_of_range(model: keras.Model, targets: Any) -> None:
    """Warn if output units cannot give a hundredth or more of the targets, a tensor of some rows: pixels 0 to 255, say.

    Such a model trains, and learns nothing.
    """
    name = getattr(getattr(model, "output_activation", None), "__name__", "")
    if name not in RANGES or tuple(targets.shape[1:]) != tuple(model.inputs[0].shape[1:]):  # which training refuses
        return
    low, high = RANGES[name]
    values = ops.convert_to_numpy(ops.cast(targets, "float32"))
    outside = np.mean((values < low - 0.01) | (values > high + 0.01))
    if outside >= 0.01:
        warnings.warn(
            f"The {name} outputs of {model.name} lie between {low} and {high}, but {outside:.0%} of what they are to "
            f"give does not: it goes from {values.min():.4g} to {values.max():.4g}. Scale the data (x / 255 for "
            f'pixels; keras_sae.data.preprocessing.fit_preprocessing), or take output_activation="linear".',
            stacklevel=4,
        )
