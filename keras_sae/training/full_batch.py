"""The exact objective and its gradient over a whole data set, of any size, in two passes."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from ..autoencoder import Autoencoder
from ..backend import PRECISIONS, at, compile_function, compile_gradients, matmul_precision, single, widest_float
from ..data.batches import CHUNK_SIZE, Chunk, Chunks, inputs_of, mean_over_rows
from ..example_weights import weighted_examples
from ..losses import warn_of_range
from ..sparsity.kl import recorded_activations
from ..sparsity.method import check_methods
from ..sums import Sums
from .data_loss import DataLoss


@dataclasses.dataclass(frozen=True, repr=False)
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

    def _numbers(self) -> dict[str, float]:
        """Return what tells the objective in a few numbers, by name: rho_hat is the mean over all units."""
        means = {"rho_hat": float(np.concatenate(self.rho_hat).mean())} if self.rho_hat else {}
        return {"value": self.value, **self.parts, **means}

    def __repr__(self) -> str:
        return f"Objective({', '.join(f'{name}={number:.6g}' for name, number in self._numbers().items())})"

    def _repr_html_(self) -> str:
        rows = (f"<tr><th>{name}</th><td>{number:.6g}</td></tr>" for name, number in self._numbers().items())
        return f"<table>{''.join(rows)}</table>"


def objective(
    model: keras.Model,
    x: Any,
    y: Any = None,
    chunk_size: int = CHUNK_SIZE,
    sample_weight: Any = None,
    precision: str = PRECISIONS[0],
) -> Objective:
    """Return J and its gradient over all of x, exactly as the notes write it: rho_hat is the mean over the whole set.

        J = 1/m sum_i loss(y_i, model(x_i)) + sum of weight penalties + sum_layers beta sum_j KL(rho || rho_hat_j)

    Pass 1 streams the activations and sums them; pass 2 streams again and adds up the gradient with rho_hat known.
    Sums over examples are in float32 at least within a chunk, whatever the model's policy, and in float64 across
    chunks. The result does not depend on `chunk_size` beyond rounding, and equals `model.evaluate` on one full batch.
    The model runs in inference mode, so a denoising autoencoder sees x as it is; pass the corrupted copy as x and
    the clean one as y to have its training objective. Losses that layers add themselves (L1 activity regularizers,
    `add_loss`) are averaged over examples, so they have to be means over examples, as Keras' are.

    Weights of examples: an autoencoder of this library takes all means over examples as weighted means, rho_hat too, so
    that an example of weight 2 counts as two. In other Keras models weights count in the loss alone, as Keras has it.

    Args:
        model: a compiled keras.Model of one output, or an autoencoder of this library (compiled or not).
        x: (examples, features): an array (memory-mapped is fine), a table, a SciPy sparse matrix, a batched
            tf.data.Dataset or a keras.utils.PyDataset, of inputs, (inputs, targets) or (inputs, targets, weights).
        y: targets, an array. Autoencoders take x.
        chunk_size: rows at a time, for arrays.
        sample_weight: weights of examples, (examples,), 0 or more.
        precision: in which float32 matrices are multiplied; sums stay in float32. "float32" is exact. "bfloat16" saves
            time on GPUs and on CPUs with AVX512-BF16 or AMX, and errs by some thousandths of a gradient.
            "tensorfloat32" is for GPUs. Where the hardware or the backend has neither, products stay in float32.

    Returns:
        An `Objective` with `.value`, `.gradients`, `.parts`, `.rho_hat`.

    Raises:
        ValueError: there are no rows; shapes, targets or weights do not fit; or the model has no loss, or terms that
            cannot be taken: several outputs, masks, a loss of its own, penalties that are no means over examples, mean
            activations that KLSparsity cannot compare with a probability.

    Reference: CS294A lecture notes, section 3 ("you'll need to compute rho_hat over the training set first").
    """
    return ObjectiveFunction(model, x, y, chunk_size, sample_weight)(precision=precision)


class ObjectiveFunction:
    """The objective of one model on one data set, compiled once, for repeated evaluation at many weights."""

    def __init__(
        self, model: keras.Model, x: Any, y: Any = None, chunk_size: int = CHUNK_SIZE, sample_weight: Any = None
    ):
        self.model = model
        self.chunks = Chunks(x, y, chunk_size, **inputs_of(model), weights=sample_weight)
        if not model.built:
            model.build((None, self.chunks.num_features()))
        check_methods(model, "no_objective")
        self.loss = DataLoss(model)
        if self.chunks.is_array:
            self.loss.check_targets(self.chunks.y, model)
        self.data_term = "reconstruction" if isinstance(model, Autoencoder) else "data_loss"
        self.variables = model.trainable_variables
        if not self.variables:
            raise ValueError("The model has no trainable weights. Set `trainable = True` on a layer to train it.")
        self.penalised = [v for v in self.variables if v.regularizer is not None]
        self.mean_weight = self.chunks.mean_weight()
        self.loss_scale = self._loss_scale()
        self._batch_rho_hat = compile_function(self._chunk_rho_hat)
        self._batch_losses = compile_function(self._chunk_total)
        self._batch_gradients = compile_gradients(self._chunk_total)
        self._weight_gradients = compile_gradients(self._weight_total)
        self.sparsities: list | None = None  # in the order of the forward pass, which finds them
        self.warned = False
        self.adds_losses = False  # whether layers do, which the forward pass finds
        self.additive: bool | None = None  # whether these losses are means over examples

    def _loss_scale(self) -> float:
        """Return what the mean over examples of weighted losses is to be multiplied with, as Keras reduces the loss."""
        if self.loss.reduction == "sum":
            return float(self.chunks.num_rows())
        weighted_mean = self.loss.reduction == "mean_with_sample_weight"
        return 1 / self.mean_weight if weighted_mean and self.mean_weight else 1.0

    def __call__(
        self,
        values: list | None = None,
        gradients: bool = True,
        precision: str = PRECISIONS[0],
        there: bool = False,
    ) -> Objective:
        """Return the Objective at these weight values (an array for each trainable variable), or at the model's own.

        gradients: whether to compute the gradient; without it the call takes about half the time.
        precision: of the products, see `objective`.
        there: whether gradients stay where they are computed, see `backend.has_float64_on_gpu`.
        """
        with matmul_precision(precision):
            return self._evaluate(values, gradients, there)

    def _evaluate(self, values: list | None, gradients: bool, there: bool) -> Objective:
        if values is None:
            values = [ops.convert_to_numpy(v.value) for v in self.variables]
        tensors = [ops.convert_to_tensor(a, single(v.dtype)) for a, v in zip(values, self.variables, strict=True)]
        rho_hat = self._rho_hat(tensors)
        means = [ops.convert_to_tensor(r, dtype=widest_float()) for r in rho_hat]
        sums, rows = Sums(), 0
        for chunk in self.chunks:
            chunk = self._with_targets(chunk)
            if not self.warned:
                warn_of_range(self.model, chunk.y)
                self.warned = True
            if gradients:
                found, parts = self._batch_gradients(tensors, *chunk, means)
            else:
                (_, found), parts = self._batch_losses(tensors, *chunk, means), []
            sums.add([*found, *parts])
            if self.adds_losses and self.additive is None:
                self._check_additive(tensors, chunk, means)
            rows += len(chunk.x)
        loss, additive, *totals = (total / rows for total in sums.read(there))
        decay = 0.0
        if self.penalised:
            decay, parts = self._weight_gradients(tensors)
            if totals:
                parts = parts if there else map(ops.convert_to_numpy, parts)
                totals = [total + part for total, part in zip(totals, parts, strict=True)]
        kl = sum(float(s.penalty(r)) for s, r in zip(self.sparsities or [], means, strict=True))
        terms = {self.data_term: float(loss), "weight_decay": float(decay), "sparsity": kl + float(additive)}
        return Objective(sum(terms.values()), totals, terms, rho_hat)

    def _with_targets(self, chunk: Chunk) -> Chunk:
        """Return the chunk with what the model is to give for x, if no y is given."""
        if chunk.y is None:
            return chunk._replace(y=self.model.targets(chunk.x) if isinstance(self.model, Autoencoder) else chunk.x)
        if not self.chunks.is_array:
            self.loss.check_targets(ops.convert_to_numpy(chunk.y), self.model)
        return chunk

    def _rho_hat(self, values: list) -> list[np.ndarray]:
        """Pass 1: return the rho_hat of every layer with a KLSparsity, float64."""
        if self.sparsities == []:
            return []
        means = mean_over_rows(self.chunks, lambda x, y, weights: self._batch_rho_hat(values, x, weights))
        for sparsity, mean in zip(self.sparsities or [], means, strict=True):
            sparsity.check_domain(mean)
        return means

    def _chunk_rho_hat(self, values: list, x: Any, weights: Any) -> list:
        _, recorded, _ = self._forward(values, x, weights)
        self.sparsities = [sparsity for sparsity, *_ in recorded]
        return [sums for _, sums, _ in recorded]

    def _chunk_total(self, values: list, x: Any, y: Any, weights: Any, rho_hat: list) -> tuple:
        """Return (a scalar whose gradient is this chunk's share of that of m J, weight penalties aside; its terms)."""
        outputs, recorded, added = self._forward(values, x, weights)
        losses = self.loss_scale * ops.cast(self.loss(y, outputs), widest_float())
        if weights is not None:
            losses *= ops.cast(weights, losses.dtype)
        loss = total = ops.sum(losses)
        for (sparsity, own, dtype), whole_set in zip(recorded, rho_hat, strict=True):
            # rho_hat has the value of the whole set; m times its gradient is the gradient of this chunk's sum.
            rho_hat_j = whole_set + (own - ops.stop_gradient(own))
            total += ops.cast(sparsity.penalty(rho_hat_j, dtype), total.dtype)
        additive = ops.zeros((), dtype=total.dtype)
        self.adds_losses = bool(added)
        for mean in added:
            additive += ops.cast(ops.shape(x)[0], total.dtype) * ops.cast(mean, total.dtype)
        return total + additive, (loss, additive)

    def _forward(self, values: list, x: Any, weights: Any) -> tuple[Any, list, list]:
        """Return the outputs in inference mode, (KLSparsity, rows times rho_hat, dtype) of each, losses added."""
        if weights is not None:
            weights = weights / self.mean_weight if isinstance(self.model, Autoencoder) else None
        with at(self.variables, values) as scope, recorded_activations() as recorded, weighted_examples(weights):
            outputs = self.model(x, training=False)
            sums = [(sparsity, sparsity.sum_over_rows(a), a.dtype) for sparsity, a in recorded]
            return outputs, sums, scope.losses

    def _check_additive(self, values: list, chunk: Chunk, means: list) -> None:
        """Raise ValueError if layers add losses that are no means over examples, which no chunk alone can tell.

        A sample of rows is compared, together and each alone, to within the rounding of half precision.
        """
        rows = np.unique(np.linspace(0, len(chunk.x) - 1, 8).astype(int))
        whole_set_in_one = self.chunks.is_array and len(chunk.x) == len(self.chunks.x) and chunk.weights is None
        self.additive = True
        if whole_set_in_one or len(rows) < 2:
            return
        parts = [[row] for row in rows]
        half = any(single(layer.compute_dtype) != layer.compute_dtype for layer in self.model._flatten_layers())
        tolerance = 0.02 if half else 1e-4
        together, *each = (self._added(values, ops.take(chunk.x, part, axis=0)) for part in [rows, *parts])
        for mean, *alone in zip(together, *each, strict=True):
            if abs(mean - np.mean(alone)) > tolerance * np.abs([mean, *alone]).max():
                raise ValueError(
                    "Expected losses added by layers to be means over examples, which add up over chunks. Received: "
                    f"{mean:.4g} for {len(rows)} rows together, {np.mean(alone):.4g} as the mean of each alone. Take "
                    "all rows at once, as an array with chunk_size=len(x), or use KLSparsity for means of activations."
                )

    def _added(self, values: list, x: Any) -> list[float]:
        """Return the losses that layers add for these rows."""
        return [float(loss) for loss in self._forward(values, x, None)[2]]

    def _weight_total(self, values: list) -> tuple:
        total = ops.zeros((), dtype=widest_float())
        for variable, value in zip(self.variables, values, strict=True):
            if variable.regularizer is not None:
                total += variable.regularizer(ops.cast(value, widest_float()))
        return total, total
