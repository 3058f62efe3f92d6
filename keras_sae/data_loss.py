"""The loss of a model on its data, before Keras reduces it over examples, and the targets that it can take."""

from typing import Any

import keras
import numpy as np
from keras import ops

from .autoencoder import Autoencoder
from .backend import wide
from .losses import HalfSquaredError, check_reconstruction, refuse_mask

SPARSE = "sparse_categorical_crossentropy"  # takes numbers of classes rather than numbers for each output


class DataLoss:
    """The compiled loss of a model as `loss(y, outputs)` -> (examples,), before it is reduced over examples.

    reduction: of Keras, "sum_over_batch_size" (the mean of weighted losses), "mean_with_sample_weight" or "sum".
    It is computed in float32 at least, whatever the policy of the model, and includes `loss_weights`.
    """

    def __init__(self, model: keras.Model):
        loss = _compiled_loss(model)
        self.is_autoencoder = isinstance(model, Autoencoder)
        self.is_sparse = SPARSE in (getattr(loss, "name", None), getattr(loss, "__name__", None))
        self.reduction = getattr(loss, "reduction", "sum_over_batch_size")
        self.reduction = "sum_over_batch_size" if self.reduction == "mean" else self.reduction
        if self.reduction in (None, "none"):
            raise ValueError(
                f"Expected a loss that is a mean or a sum over examples. Received: {loss.name} with reduction=None. "
                'Give it reduction="sum_over_batch_size".'
            )
        self.function = loss.call if isinstance(loss, keras.losses.Loss) else loss
        self.factor = _loss_weight(model)

    def __call__(self, y: Any, outputs: Any) -> Any:
        if isinstance(outputs, (list, tuple, dict)):
            raise ValueError(f"Expected a model with one output. Received: {len(outputs)} outputs.")
        refuse_mask(outputs)
        outputs = wide(outputs)
        if self.is_autoencoder:
            check_reconstruction(y.shape, outputs.shape)
        elif not self.is_sparse:
            _check_no_broadcasting(y.shape, outputs.shape)
        losses = self.function(y if self.is_sparse else ops.cast(y, outputs.dtype), outputs)
        if len(losses.shape) > 1:  # one for each position; Keras takes the mean of all
            reduce = ops.sum if self.reduction == "sum" else ops.mean
            losses = reduce(losses, axis=tuple(range(1, len(losses.shape))))
        return losses if self.factor == 1 else self.factor * losses

    def check_targets(self, y: Any, model: keras.Model) -> None:
        """Raise ValueError unless the array y, or None, holds targets that the loss can take."""
        if self.is_sparse:
            check_labels(y, model.output_shape[-1])
        elif y is not None and y.dtype.kind not in "biufV":  # V: bfloat16
            raise ValueError(f"Expected targets that are numbers. Received: {_kind(y)}.")


def check_labels(y: Any, classes: int) -> None:
    """Raise ValueError unless the array y holds one class number, from 0, for each example."""
    expected = f"Expected labels from 0 to {classes - 1}, one number for each example"
    if y is None:
        raise ValueError(f"{expected}. Received: none. A classifier needs them: (model, x, labels).")
    if y.dtype.kind not in "biuf":
        raise ValueError(f"{expected}. Received: {_kind(y)}. Number them: np.unique(labels, return_inverse=True)[1].")
    if y.ndim > 1 and y.shape[1:] != (1,):
        cure = " If they are one-hot: labels.argmax(axis=-1)." if y.shape[-1] == classes else ""
        raise ValueError(f"{expected}. Received shape: {y.shape}.{cure}")
    wrong = np.flatnonzero(~((y >= 0) & (y < classes) & (y == np.floor(y))).reshape(-1))
    if len(wrong):
        raise ValueError(
            f"{expected}. Received: {y.reshape(-1)[wrong[0]]} for example {wrong[0]}. Number the classes from 0: "
            "np.unique(labels, return_inverse=True)[1]."
        )


def _kind(y: Any) -> str:
    return "text" if y.dtype.kind in "OUS" else str(y.dtype)


def _check_no_broadcasting(targets: Any, outputs: Any) -> None:
    """Raise ValueError if the loss would compare one target with many outputs, or the reverse."""
    pairs = list(zip(targets, outputs, strict=False))
    if len(targets) == len(outputs) and any(a != b and 1 in (a, b) for a, b in pairs if None not in (a, b)):
        check_reconstruction(targets, outputs)


def computes_own_loss(model: keras.Model) -> bool:
    """Return whether the loss is not just what the model is compiled with and its penalties."""
    return type(model).compute_loss not in (keras.Model.compute_loss, Autoencoder.compute_loss)


def _compiled_loss(model: keras.Model) -> Any:
    """Return the one loss that a model is compiled with, an object or a function."""
    if computes_own_loss(model):
        raise ValueError(
            f"Expected a model whose loss is the one that it is compiled with. Received: {type(model).__name__}, which "
            "computes its own (compute_loss). Give the loss to `compile`, or terms of it to `add_loss` of a layer."
        )
    loss = getattr(model, "loss", None)  # Keras models have none before they are compiled
    if loss is None and isinstance(model, Autoencoder):
        loss = HalfSquaredError()
    if isinstance(loss, (list, tuple, dict)):
        if len(loss) != 1:
            raise ValueError(f"Expected one loss, of one output. Received: {len(loss)} losses.")
        [loss] = loss.values() if isinstance(loss, dict) else loss
    if loss is None:
        raise ValueError(f"The objective needs the model's loss: call {model.name}.compile(loss=...) first.")
    return keras.losses.get(loss)


def _loss_weight(model: keras.Model) -> float:
    """Return the factor of the loss that the model is compiled with, 1 by default."""
    factor = (model.get_compile_config() or {}).get("loss_weights") if model.compiled else None
    if isinstance(factor, (list, tuple, dict)):
        [factor] = factor.values() if isinstance(factor, dict) else factor
    return 1.0 if factor is None else float(factor)
