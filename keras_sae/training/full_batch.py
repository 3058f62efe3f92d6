"""The exact objective and its gradient over a whole data set, of any size, in two passes."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from ..autoencoder import Autoencoder
from ..backend import compile_gradients, single, widest_float
from ..backend.precision import PRECISIONS, matmul_precision
from ..data.batches import CHUNK_SIZE, Chunks, inputs_of
from ..data.containers import is_distributed
from ..sparsity.method import check_methods
from .passes import Passes, Rounds, RowsHere


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

    def logs(self) -> dict[str, float]:
        """Return what a History records of it: J as "loss", its terms and the mean rho_hat of all units."""
        numbers = self._numbers()
        return {"loss": numbers.pop("value"), **numbers}

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


FUSED_FROM = 1e9  # numbers of inputs, in all evaluations, from which on compiling saves more time than it takes


class ObjectiveFunction:
    """The objective of one model on one data set, compiled once, for repeated evaluation at many weights.

    x, y, chunk_size, sample_weight: as of `objective`; or x is the rows of a cluster, which sums where they are.
    evaluations: how many are expected, about: for many of a large array the loops between products are compiled.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any = None,
        chunk_size: int = CHUNK_SIZE,
        sample_weight: Any = None,
        evaluations: int = 1,
    ):
        self.model = model
        rows: Any = x if is_distributed(x) else Chunks(x, y, chunk_size, **inputs_of(model), weights=sample_weight)
        if not model.built:
            model.build((None, rows.num_features()))
        check_methods(model, "no_objective")
        self.data_term = "reconstruction" if isinstance(model, Autoencoder) else "data_loss"
        self.variables = model.trainable_variables
        if not self.variables:
            raise ValueError("The model has no trainable weights. Set `trainable = True` on a layer to train it.")
        self.penalised = [v for v in self.variables if v.regularizer is not None]
        is_array = isinstance(rows, Chunks) and rows.is_array
        fused = is_array and evaluations * math.prod(rows.x.shape) >= FUSED_FROM
        self.passes = Passes(model, rows.mean_weight(), rows.num_rows, fused=fused)
        self.rounds: Rounds = (
            rows.rounds(self.passes, chunk_size) if is_distributed(rows) else RowsHere(self.passes, rows)
        )
        self._weight_gradients = compile_gradients(self._weight_total)

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
        if values is None:
            values = [ops.convert_to_numpy(v.value) for v in self.variables]
        tensors = [ops.convert_to_tensor(a, single(v.dtype)) for a, v in zip(values, self.variables, strict=True)]
        rho_hat = self._rho_hat(tensors, precision)
        rows, *sums = self.rounds.losses(tensors, rho_hat, gradients, precision, there)
        loss, additive, *totals = (total / rows for total in sums)
        decay = 0.0
        if self.penalised:
            with matmul_precision(precision):
                decay, parts = self._weight_gradients(tensors)
            if totals:
                parts = parts if there else map(ops.convert_to_numpy, parts)
                totals = [total + part for total, part in zip(totals, parts, strict=True)]
        means = [ops.convert_to_tensor(mean, dtype=widest_float()) for mean in rho_hat]
        kl = sum(float(s.penalty(r)) for s, r in zip(self.passes.sparsities or [], means, strict=True))
        terms = {self.data_term: float(loss), "weight_decay": float(decay), "sparsity": kl + float(additive)}
        return Objective(sum(terms.values()), totals, terms, rho_hat)

    def _rho_hat(self, values: list, precision: str) -> list[np.ndarray]:
        """Return the rho_hat of every layer with a KLSparsity, float64."""
        rows, *sums = self.rounds.activations(values, precision)
        means = [total / rows for total in sums]
        for sparsity, mean in zip(self.passes.sparsities or [], means, strict=True):
            sparsity.check_domain(mean)
        return means

    def _weight_total(self, values: list) -> tuple:
        total = ops.zeros((), dtype=widest_float())
        for variable, value in zip(self.variables, values, strict=True):
            if variable.regularizer is not None:
                total += variable.regularizer(ops.cast(value, widest_float()))
        return total, total


def held_out_objective(model: keras.Model, data: Any, chunk_size: int = CHUNK_SIZE) -> ObjectiveFunction | None:
    """Return the objective on held-out x, (x, y) or (x, y, weights), or None if there are none."""
    if data is None:
        return None
    x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
    return ObjectiveFunction(model, x, y, chunk_size, weights)
