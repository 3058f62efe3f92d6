"""The two passes of the objective over rows: sums of activations, then of losses and gradients at a known rho_hat."""

from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from ..autoencoder import Autoencoder
from ..backend import at, compile_function, compile_gradients, single, widest_float
from ..backend.precision import matmul_precision
from ..backend.sums import Sums
from ..data.batches import Chunk, Chunks
from ..data_loss import DataLoss
from ..example_weights import weighted_examples
from ..losses import warn_of_range
from ..sparsity.kl import recorded_activations


class Rounds(Protocol):
    """What sums over all rows at some weights: in this process, or in many.

    values: a tensor for each trainable variable.  Each list of sums begins with the number of rows.
    """

    def activations(self, values: list, precision: str) -> list:
        """Return the sums over rows of the activations of each KLSparsity, [rows, (units,), ...], float64."""

    def losses(self, values: list, rho_hat: list[np.ndarray], gradients: bool, precision: str, there: bool) -> list:
        """Return [rows, loss, losses that layers add, and of each variable m times its gradient, if wanted], float64.

        there: whether the sums stay where they are computed.
        """


class Passes:
    """The two passes of one model, compiled once, over any rows.

    Args:
        model: built, with a loss.
        mean_weight: of all examples, or None if they have no weights.
        num_rows: returns the number of all examples, which is asked for only by losses that are sums.
        variables: the trainable ones, by default those of the model.
        fused: as of `compile_function`.
    """

    def __init__(
        self,
        model: keras.Model,
        mean_weight: float | None,
        num_rows: Callable[[], int],
        variables: list[keras.Variable] | None = None,
        fused: bool = False,
    ):
        self.model, self.mean_weight, self.num_rows, self.fused = model, mean_weight, num_rows, fused
        self.variables = model.trainable_variables if variables is None else variables
        self.loss = DataLoss(model)
        self.loss_scale = self._loss_scale()
        self._batch_activations = compile_function(self._chunk_activations, fused)
        self._batch_losses = compile_function(self._chunk_total, fused)
        self._batch_gradients = compile_gradients(self._chunk_total, fused)
        self.sparsities: list | None = None  # in the order of the forward pass, which finds them
        self.warned = False
        self.adds_losses = False  # whether layers do, which the forward pass finds
        self.additive: bool | None = None  # whether these losses are means over examples

    def _loss_scale(self) -> float:
        """Return what the mean over examples of weighted losses is to be multiplied with, as Keras reduces the loss."""
        if self.loss.reduction == "sum":
            return float(self.num_rows())
        weighted_mean = self.loss.reduction == "mean_with_sample_weight"
        return 1 / self.mean_weight if weighted_mean and self.mean_weight else 1.0

    def find_sparsities(self, features: int) -> None:
        """Find the penalties without a pass over rows, by the forward pass of a row of zeros."""
        row = ops.zeros((1, features), self.model.compute_dtype)
        values = [ops.convert_to_tensor(variable.value, single(variable.dtype)) for variable in self.variables]
        self._chunk_activations(values, row, None)

    def activations(self, chunks: Chunks, values: list, precision: str) -> list:
        """Pass 1 over these rows, as of `Rounds`."""
        if self.sparsities == []:
            return [0]
        sums, rows = Sums(), 0
        with matmul_precision(precision):
            for chunk in chunks:
                sums.add(self._batch_activations(values, chunk.x, chunk.weights))
                rows += len(chunk.x)
        return [rows, *sums.read()]

    def losses(
        self,
        chunks: Chunks,
        values: list,
        rho_hat: list[np.ndarray],
        gradients: bool,
        precision: str,
        there: bool = False,
    ) -> list:
        """Pass 2 over these rows, as of `Rounds`."""
        means = [ops.convert_to_tensor(mean, dtype=widest_float()) for mean in rho_hat]
        sums, rows = Sums(), 0
        with matmul_precision(precision):
            for chunk in chunks:
                chunk = self._with_targets(chunks, chunk)
                if not self.warned:
                    warn_of_range(self.model, chunk.y)
                    self.warned = True
                if gradients:
                    found, parts = self._batch_gradients(values, *chunk, means)
                else:
                    (_, found), parts = self._batch_losses(values, *chunk, means), []
                sums.add([*found, *parts])
                if self.adds_losses and self.additive is None:
                    self._check_additive(chunks, values, chunk)
                rows += len(chunk.x)
        return [rows, *sums.read(there)]

    def _with_targets(self, chunks: Chunks, chunk: Chunk) -> Chunk:
        """Return the chunk with what the model is to give for x, if no y is given."""
        if chunk.y is None:
            return chunk._replace(y=self.model.targets(chunk.x) if isinstance(self.model, Autoencoder) else chunk.x)
        if not chunks.is_array:
            self.loss.check_targets(ops.convert_to_numpy(chunk.y), self.model)
        return chunk

    def _chunk_activations(self, values: list, x: Any, weights: Any) -> list:
        _, recorded, _ = self._forward(values, x, weights, widest_float())
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
            rho_hat_j = whole_set + ops.cast(own - ops.stop_gradient(own), whole_set.dtype)
            total += ops.cast(sparsity.penalty(rho_hat_j, dtype), total.dtype)
        additive = ops.zeros((), dtype=total.dtype)
        self.adds_losses = bool(added)
        for mean in added:
            additive += ops.cast(ops.shape(x)[0], total.dtype) * ops.cast(mean, total.dtype)
        return total + additive, (loss, additive)

    def _forward(self, values: list, x: Any, weights: Any, dtype: str | None = None) -> tuple[Any, list, list]:
        """Return the outputs in inference mode, (KLSparsity, rows times rho_hat, dtype) of each, losses added.

        dtype: of the sums over rows, by default that of the activations: enough for a gradient.
        """
        if weights is not None:
            weights = weights / self.mean_weight if isinstance(self.model, Autoencoder) else None
        with at(self.variables, values) as scope, recorded_activations() as recorded, weighted_examples(weights):
            outputs = self.model(x, training=False)
            sums = [
                (sparsity, sparsity.sum_over_rows(ops.cast(a, dtype or a.dtype)), a.dtype) for sparsity, a in recorded
            ]
            return outputs, sums, scope.losses

    def _check_additive(self, chunks: Chunks, values: list, chunk: Chunk) -> None:
        """Raise ValueError if layers add losses that are no means over examples, which no chunk alone can tell.

        A sample of rows is compared, together and each alone, to within the rounding of half precision.
        """
        rows = np.unique(np.linspace(0, len(chunk.x) - 1, 8).astype(int))
        whole_set_in_one = chunks.is_array and len(chunk.x) == self.num_rows() and chunk.weights is None
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


class RowsHere:
    """The rounds over rows of this process."""

    def __init__(self, passes: Passes, chunks: Chunks):
        self.passes, self.chunks = passes, chunks
        if chunks.is_array:
            passes.loss.check_targets(chunks.y, passes.model)

    def activations(self, values: list, precision: str) -> list:
        """Pass 1 over all rows."""
        return self.passes.activations(self.chunks, values, precision)

    def losses(self, values: list, rho_hat: list[np.ndarray], gradients: bool, precision: str, there: bool) -> list:
        """Pass 2 over all rows."""
        return self.passes.losses(self.chunks, values, rho_hat, gradients, precision, there)
