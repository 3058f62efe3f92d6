"""The exact objective and its gradient over a whole data set, of any size, in two passes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from ..autoencoder import Autoencoder
from ..backend import at, compile_function, compile_gradients, widest_float
from ..data.batches import CHUNK_SIZE, Chunks, inputs_of, mean_over_rows
from ..losses import HalfSquaredError
from ..regularizers import recorded_activations


@dataclasses.dataclass(frozen=True)
class Objective:
    """The objective at one set of weights.

    value: J, a float.  gradients: float64 arrays, one for each of `model.trainable_variables`; empty if not asked for.
    parts: the terms that add up to J: "reconstruction" (of other models than autoencoders "data_loss"; the mean loss of
    an example), "weight_decay", "sparsity".
    rho_hat: the mean activation of each unit on the scale 0 (at rest) to 1, one (units,) array for each layer with
    a KLSparsity, in the order of the forward pass.
    """

    value: float
    gradients: list[np.ndarray]
    parts: dict[str, float]
    rho_hat: list[np.ndarray]


def objective(model: keras.Model, x: Any, y: Any = None, chunk_size: int = CHUNK_SIZE) -> Objective:
    """Return J and its gradient over all of x, exactly as the notes write it: rho_hat is the mean over the whole set.

        J = 1/m sum_i loss(y_i, model(x_i)) + sum of weight penalties + sum_layers beta sum_j KL(rho || rho_hat_j)

    Pass 1 streams the activations and sums them; pass 2 streams again and adds up the gradient with rho_hat known.
    Sums over examples are kept in float64. The result does not depend on `chunk_size` beyond rounding.
    The model runs in inference mode, so a denoising autoencoder sees x as it is; pass the corrupted copy as x and
    the clean one as y to have its training objective. Losses that layers add themselves (L1 activity regularizers,
    `add_loss`) are averaged over examples, so they should be means over examples, as Keras' are.

    Args:
        model: a compiled keras.Model, or an autoencoder of this library (compiled or not). Its loss is averaged over
            examples whatever the loss's `reduction`.
        x: (examples, features): an array (memory-mapped is fine), a batched tf.data.Dataset or a
            keras.utils.PyDataset, of inputs or (inputs, targets).
        y: targets, an array. Autoencoders take x.
        chunk_size: rows at a time, for arrays.

    Returns:
        An `Objective` with `.value`, `.gradients`, `.parts`, `.rho_hat`.

    Raises:
        ValueError: there are no rows, the model has no loss, or shapes do not fit.

    Reference: CS294A lecture notes, section 3 ("you'll need to compute rho_hat over the training set first").
    """
    return ObjectiveFunction(model, x, y, chunk_size)()


class ObjectiveFunction:
    """The objective of one model on one data set, compiled once, for repeated evaluation at many weights."""

    def __init__(self, model: keras.Model, x: Any, y: Any = None, chunk_size: int = CHUNK_SIZE):
        self.model = model
        self.chunks = Chunks(x, y, chunk_size, **inputs_of(model))
        if not model.built:
            model.build((None, self.chunks.num_features()))
        self.loss = per_example_loss(model)
        self.data_term = "reconstruction" if isinstance(model, Autoencoder) else "data_loss"
        self.variables = model.trainable_variables
        if not self.variables:
            raise ValueError("The model has no trainable weights. Set `trainable = True` on a layer to train it.")
        self.penalised = [v for v in self.variables if v.regularizer is not None]
        self._batch_rho_hat = compile_function(self._chunk_rho_hat)
        self._batch_losses = compile_function(self._chunk_total)
        self._batch_gradients = compile_gradients(self._chunk_total)
        self._weight_gradients = compile_gradients(self._weight_total)
        self.sparsities: list | None = None  # in the order of the forward pass, which finds them

    def __call__(self, values: list | None = None, gradients: bool = True) -> Objective:
        """Return the Objective at these weight values (an array for each trainable variable), or at the model's own.

        gradients: whether to compute the gradient; without it the call takes about half the time.
        """
        if values is None:
            tensors = [v.value for v in self.variables]
        else:
            tensors = [ops.convert_to_tensor(a, v.dtype) for a, v in zip(values, self.variables, strict=True)]
        rho_hat = self._rho_hat(tensors)
        means = [ops.convert_to_tensor(r, dtype=widest_float()) for r in rho_hat]
        totals = [np.zeros(tuple(v.shape)) for v in self.variables] if gradients else []
        loss, additive, rows = 0.0, 0.0, 0
        for x, y in self.chunks:
            y = self._targets(x) if y is None else y
            if gradients:
                found, parts = self._batch_gradients(tensors, x, y, means)
                _accumulate(totals, parts)
            else:
                _, found = self._batch_losses(tensors, x, y, means)
            loss += float(ops.convert_to_numpy(found[0]).sum(dtype="float64"))
            additive += float(found[1])
            rows += len(x)
        for total in totals:
            total /= rows
        decay = 0.0
        if self.penalised:
            decay, parts = self._weight_gradients(tensors)
            _accumulate(totals, parts)
        kl = sum(float(s.penalty(r)) for s, r in zip(self.sparsities or [], means, strict=True))
        terms = {self.data_term: loss / rows, "weight_decay": float(decay), "sparsity": kl + additive / rows}
        return Objective(sum(terms.values()), totals, terms, rho_hat)

    def _targets(self, x: Any) -> Any:
        """Return what the model is to give for x, if no y is given."""
        return self.model.targets(x) if isinstance(self.model, Autoencoder) else x

    def _rho_hat(self, values: list) -> list[np.ndarray]:
        """Pass 1: return the rho_hat of every layer with a KLSparsity, float64."""
        if self.sparsities == []:
            return []
        return mean_over_rows(self.chunks, lambda x: self._batch_rho_hat(values, x))

    def _chunk_rho_hat(self, values: list, x: Any) -> list:
        _, recorded, _ = self._forward(values, x)
        self.sparsities = [sparsity for sparsity, _ in recorded]
        return [sparsity.sum_over_rows(activations) for sparsity, activations in recorded]

    def _chunk_total(self, values: list, x: Any, y: Any, rho_hat: list) -> tuple:
        """Return (a scalar whose gradient is this chunk's share of that of m J, weight penalties aside; its terms)."""
        outputs, recorded, added = self._forward(values, x)
        losses = ops.cast(self.loss(y, outputs), widest_float())
        total = ops.sum(losses)
        for (sparsity, activations), whole_set in zip(recorded, rho_hat, strict=True):
            # rho_hat has the value of the whole set; m times its gradient is the gradient of this chunk's sum.
            own = sparsity.sum_over_rows(activations)
            rho_hat_j = whole_set + (own - ops.stop_gradient(own))
            total += ops.cast(sparsity.penalty(rho_hat_j, activations.dtype), total.dtype)
        additive = ops.zeros((), dtype=total.dtype)
        for mean in added:
            additive += ops.cast(ops.shape(x)[0], total.dtype) * ops.cast(mean, total.dtype)
        return total + additive, (losses, additive)

    def _forward(self, values: list, x: Any) -> tuple[Any, list, list]:
        """Return the outputs in inference mode, (KLSparsity, activations) of each, and the losses that layers add."""
        with at(self.variables, values) as scope, recorded_activations() as recorded:
            return self.model(x, training=False), recorded, scope.losses

    def _weight_total(self, values: list) -> tuple:
        total = ops.zeros((), dtype=widest_float())
        for variable, value in zip(self.variables, values, strict=True):
            if variable.regularizer is not None:
                total += variable.regularizer(ops.cast(value, widest_float()))
        return total, total


def _accumulate(totals: list[np.ndarray], parts: list) -> None:
    for total, part in zip(totals, parts, strict=True) if totals else ():
        total += ops.convert_to_numpy(part)


def per_example_loss(model: keras.Model) -> Callable:
    """Return the model's loss as a function (y_true, y_pred) -> (examples,), before Keras averages over examples."""
    loss = getattr(model, "loss", None)  # Keras models have none before they are compiled
    if loss is None and isinstance(model, Autoencoder):
        loss = HalfSquaredError()
    if loss is None:
        raise ValueError(f"The objective needs the model's loss: call {model.name}.compile(loss=...) first.")
    loss = keras.losses.get(loss)
    return loss.call if isinstance(loss, keras.losses.Loss) else loss
