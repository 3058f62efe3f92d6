"""The terms of the objective as metrics of a model, for the History of Keras' `fit`."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

_observed: contextvars.ContextVar[list | None] = contextvars.ContextVar("observed", default=None)

NAMES = ("reconstruction", "weight_decay", "sparsity", "rho_hat")


@contextlib.contextmanager
def observed_rho_hat() -> Iterator[None]:
    """Let `Terms.update` know the rho_hat that the penalties of a step compute anyway."""
    token = _observed.set([])
    try:
        yield
    finally:
        _observed.reset(token)


def observe(rho_hat: Any) -> None:
    """Take the rho_hat of a batch, (units,), if a step is observed."""
    observed = _observed.get()
    if observed is not None:
        observed.append(rho_hat)


class Terms:
    """Means over the examples of an epoch: of the terms of the loss, and of rho_hat over all units.

    Their names are those of the History of L-BFGS. It is no object that Keras tracks, so that files of models and
    models that hold this one have none of it.
    """

    def __init__(self, rho_hat: bool):
        self.means = [keras.metrics.Mean(name=name) for name in (NAMES if rho_hat else NAMES[:-1])]

    def update(self, data_loss: Any, penalties: list, regularized: int, examples: Any) -> None:
        """Count one batch.

        Args:
            data_loss: the loss without penalties.
            penalties: those of activations, then those of so many regularized weights, as Keras orders them.
            regularized: how many weights have a regularizer.
            examples: in the batch.
        """
        activations = len(penalties) - regularized
        values = [data_loss, _sum(penalties[activations:]), _sum(penalties[:activations])]
        rho_hat = _observed.get()
        values += [ops.mean(ops.concatenate(rho_hat))] if rho_hat else []
        for mean, value in zip(self.means, values, strict=False):
            mean.update_state(value, sample_weight=examples)


def _sum(values: list) -> Any:
    return sum(values, start=ops.zeros(()))
