"""The exact objective and its gradient over a whole data set, of any size, in two passes."""

import contextlib
import dataclasses
import math

import keras
import numpy as np
from keras import ops

from ..backend import compile_function, compile_gradients, widest_float
from ..data.batches import CHUNK_SIZE, Chunks, inputs_of
from ..losses import HalfSquaredError
from ..regularizers import KLSparsity


@dataclasses.dataclass(frozen=True)
class Objective:
    """The objective at the model's present weights.

    value: J, a float.  gradients: float64 arrays, one for each of `model.trainable_variables`.
    parts: the terms that add up to J: "error" (the mean loss of an example), "weight_decay", "sparsity".
    rho_hat: the mean activation of each unit on the scale 0 (at rest) to 1, one (units,) array for each layer with
    a KLSparsity, in the order of the forward pass.
    """

    value: float
    gradients: list
    parts: dict
    rho_hat: list


def objective(model, x, y=None, chunk_size=CHUNK_SIZE):
    """J and its gradient over all of x, exactly as the notes write it: rho_hat is the mean over the whole set.

        J = 1/m sum_i loss(y_i, model(x_i)) + sum of weight penalties + sum_layers beta sum_j KL(rho || rho_hat_j)

    Pass 1 streams the activations and sums them; pass 2 streams again and adds up the gradient with rho_hat known.
    Sums over examples are kept in float64. The result does not depend on `chunk_size` beyond rounding.
    The model runs in inference mode, so a denoising autoencoder sees x as it is; pass the corrupted copy as x and
    the clean one as y to have its training objective.

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
        ValueError: no rows, no loss, shapes that do not fit.

    Reference: CS294A lecture notes, section 3 ("you'll need to compute rho_hat over the training set first").
    """
    return ObjectiveFunction(model, x, y, chunk_size)()


class ObjectiveFunction:
    """The objective of one model on one data set, compiled once, for repeated evaluation at many weights."""

    def __init__(self, model, x, y=None, chunk_size=CHUNK_SIZE):
        self.model = model
        self.chunks = Chunks(x, y, chunk_size, **inputs_of(model))
        if not model.built:
            model.build((None, self.chunks.num_features()))
        self.loss = per_example_loss(model)
        self.targets = getattr(model, "targets", lambda x: x)  # what the model is to return, where no y is given
        self.variables = model.trainable_variables
        if not self.variables:
            raise ValueError("The model has no trainable weights. Set `trainable = True` on a layer to train it.")
        self.penalised = [v for v in self.variables if v.regularizer is not None]
        self._sum_activations = compile_function(self._chunk_activations, self.variables)
        self._sum_gradients = compile_gradients(self._chunk_total, self.variables)
        self._weight_gradients = compile_gradients(self._weight_total, self.variables)
        self.sparsities = None  # of the layers, in the order of the forward pass; the first pass finds them

    def __call__(self, values=None):
        """The Objective at these weight values (arrays, one for each trainable variable), or at the model's own."""
        if values is None:
            values = [v.value for v in self.variables]
        else:
            values = [ops.convert_to_tensor(a, v.dtype) for a, v in zip(values, self.variables, strict=True)]
        rho_hat = self._rho_hat(values)
        means = [ops.convert_to_tensor(r, dtype=widest_float()) for r in rho_hat]

        loss, additive, rows = 0.0, 0.0, 0
        gradients = [np.zeros(tuple(v.shape)) for v in self.variables]
        for x, y in self.chunks:
            y = self.targets(x) if y is None else y
            (chunk_loss, chunk_additive), chunk_gradients = self._sum_gradients(values, x, y, means)
            loss += float(ops.convert_to_numpy(chunk_loss).sum(dtype="float64"))
            additive += float(chunk_additive)
            rows += len(x)
            for total, part in zip(gradients, chunk_gradients, strict=True):
                total += ops.convert_to_numpy(part)

        for total in gradients:
            total /= rows
        decay = 0.0
        if self.penalised:
            decay, decay_gradients = self._weight_gradients(values)
            for total, part in zip(gradients, decay_gradients, strict=True):
                total += ops.convert_to_numpy(part)
        kl = sum(float(s.penalty(r)) for s, r in zip(self.sparsities, means, strict=True))
        parts = {"error": loss / rows, "weight_decay": float(decay), "sparsity": kl + additive / rows}
        return Objective(sum(parts.values()), gradients, parts, rho_hat)

    def _rho_hat(self, values):
        """Pass 1: the rho_hat of every layer with a KLSparsity, float64, a list."""
        if self.sparsities == []:
            return []
        sums, rows = None, 0
        for x, _ in self.chunks:
            chunk_sums = [ops.convert_to_numpy(s).astype("float64") for s in self._sum_activations(values, x)]
            sums = chunk_sums if sums is None else [a + b for a, b in zip(sums, chunk_sums, strict=True)]
            rows += len(x)
        return [s / rows for s in sums]

    def _chunk_activations(self, x):
        _, activities = outputs_and_activities(self.model, x)
        whole_set = [(r, a) for r, a in activities if isinstance(r, KLSparsity)]
        self.sparsities = [r for r, _ in whole_set]
        return [_sum_rows(r.rate(a)) for r, a in whole_set]

    def _chunk_total(self, x, y, rho_hat):
        """A scalar whose gradient is this chunk's share of the gradient of m J, weight penalties aside."""
        outputs, activities = outputs_and_activities(self.model, x)
        losses = ops.cast(self.loss(y, outputs), widest_float())
        total = ops.sum(losses)
        additive = ops.zeros((), dtype=losses.dtype)
        whole_set = iter(rho_hat)
        for regularizer, activations in activities:
            if isinstance(regularizer, KLSparsity):
                # The value of rho_hat is that of the whole set; m times its gradient, that of this chunk's sum.
                own = _sum_rows(regularizer.rate(activations))
                rho_hat_j = next(whole_set) + (own - ops.stop_gradient(own))
                total += ops.cast(regularizer.penalty(rho_hat_j, activations.dtype), total.dtype)
            else:
                additive += ops.cast(regularizer(_wide(activations)), additive.dtype)
        return total + additive, (losses, additive)

    def _weight_total(self):
        total = ops.zeros((), dtype=widest_float())
        for variable in self.penalised:
            total += variable.regularizer(ops.cast(variable, widest_float()))
        return total, total


def _wide(activations):
    """Half precision in float32: a sum over many rows would pass its range."""
    half = keras.backend.standardize_dtype(activations.dtype) in ("float16", "bfloat16")
    return ops.cast(activations, "float32") if half else activations


def _sum_rows(activations):
    """Sum over examples, (units,), of activations (examples, ..., units) averaged over the axes between."""
    shape = ops.shape(activations)
    positions = math.prod(shape[1:-1])  # not ops.mean, which under JAX rounds float64 to float32
    return ops.sum(ops.cast(activations, widest_float()), axis=tuple(range(len(shape) - 1))) / positions


def per_example_loss(model):
    """The model's loss as a function (y_true, y_pred) -> (examples,), before Keras averages it over examples."""
    loss = getattr(model, "loss", None)
    if loss is None and hasattr(model, "decode"):
        loss = HalfSquaredError()
    if loss is None:
        raise ValueError(f"The objective needs the model's loss: call {model.name}.compile(loss=...) first.")
    loss = keras.losses.get(loss)
    return loss.call if isinstance(loss, keras.losses.Loss) else loss


def outputs_and_activities(model, x):
    """The model's output in inference mode, and (activity regularizer, activations) of each layer that has one.

    Keras calls a layer's activity regularizer with its activations; for one forward pass a recorder stands in its
    place, which works in any model, however its layers are nested.
    """
    activities = []
    with contextlib.ExitStack() as stack:
        for layer in model._flatten_layers():  # private, but the walk that Keras' own `losses` takes
            if layer.activity_regularizer is not None:
                stack.enter_context(_recorded(layer, activities))
        return model(x, training=False), activities


@contextlib.contextmanager
def _recorded(layer, activities):
    regularizer = layer.activity_regularizer

    def record(activations):
        activities.append((regularizer, activations))
        return ops.zeros((), dtype=activations.dtype)

    layer.activity_regularizer = record
    try:
        yield
    finally:
        layer.activity_regularizer = regularizer
