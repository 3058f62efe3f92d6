"""The terms of the objective as metrics of a model, for the History of Keras' `fit`."""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

_observed: contextvars.ContextVar[dict[str, list] | None] = contextvars.ContextVar("observed", default=None)

LOSSES = ("reconstruction", "weight_decay", "sparsity")
OBSERVED = ("rho_hat", "l0", "dead_units")  # what layers know of their activations
NAMES = LOSSES + OBSERVED


@contextlib.contextmanager
def observed_activations() -> Iterator[None]:
    """Let `Terms.update` know what layers `observe` in a step."""
    token = _observed.set({})
    try:
        yield
    finally:
        _observed.reset(token)


def observe(name: str, value: Any) -> None:
    """Take what a layer knows of the activations of a batch, if a step is observed.

    "rho_hat": the mean activation of each unit, (units,).  "l0": active units of an example, their mean, a scalar.
    "dead_units": 1 for each unit that is dead, else 0, (units,).
    """
    observed = _observed.get()
    if observed is not None:
        observed.setdefault(name, []).append(value)


class Terms:
    """Means over the examples of an epoch: of the terms of the loss, and of rho_hat over all units.

    Of codes that are 0 in places, also L0, and the number of units that are dead in all batches of the epoch. Their
    names are those of the History of L-BFGS. It is no object that Keras tracks, so that files of models and models that
    hold this one have none of it.

    Args:
        rho_hat: whether there is a KLSparsity.
        units: how many units there are whose codes are 0 in places.
    """

    def __init__(self, rho_hat: bool, units: int):
        names = LOSSES + (("rho_hat",) if rho_hat else ()) + (("l0",) if units else ())
        self.metrics = [keras.metrics.Mean(name=name) for name in names]
        self.metrics += [DeadUnits(units)] if units else []

    def update(self, data_loss: Any, penalties: list, regularized: int, examples: Any) -> None:
        """Count one batch.

        Args:
            data_loss: the loss without penalties.
            penalties: those of activations, then those of so many regularized weights, as Keras orders them.
            regularized: how many weights have a regularizer.
            examples: in the batch.
        """
        activations = len(penalties) - regularized
        values = {
            "reconstruction": data_loss,
            "weight_decay": _sum(penalties[activations:]),
            "sparsity": _sum(penalties[:activations]),
        }
        observed = _observed.get() or {}
        if "rho_hat" in observed:
            values["rho_hat"] = ops.mean(ops.concatenate(observed["rho_hat"]))
        if "l0" in observed:
            counts = [ops.cast(count, keras.config.floatx()) for count in observed["l0"]]
            values |= {"l0": _sum(counts), "dead_units": ops.concatenate(observed["dead_units"])}
        for metric in self.metrics:
            if metric.name in values:
                metric.update_state(values[metric.name], sample_weight=examples)


class DeadUnits(keras.metrics.Metric):
    """The number of units that are dead in every batch since the last reset."""

    def __init__(self, units: int):
        super().__init__(name="dead_units")
        self.dead = self.add_variable((units,), "ones", name="dead")

    def update_state(self, dead: Sequence[float], sample_weight: Any = None) -> None:
        self.dead.assign(self.dead * ops.cast(dead, self.dtype))

    def reset_state(self) -> None:
        self.dead.assign(ops.ones(self.dead.shape))

    def result(self) -> Any:
        return ops.sum(ops.convert_to_tensor(self.dead))


def _sum(values: Sequence) -> Any:
    return sum(values, start=ops.zeros(()))
