"""Weights of examples in the penalties of activations, to which Keras does not hand them."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

from keras import ops

from .backend import wide

_weights: contextvars.ContextVar[Any] = contextvars.ContextVar("weights", default=None)


@contextlib.contextmanager
def weighted_examples(weights: Any) -> Iterator[None]:
    """Let examples count by these weights in the penalties of activations: a tensor (examples,), of mean 1, or None.

    Keras hands weights to the loss alone. An example of weight 2 is to count as two, in rho_hat as well.
    """
    token = _weights.set(weights)
    try:
        yield
    finally:
        _weights.reset(token)


def weigh(values: Any) -> Any:
    """Return values (examples, ...) times the weights of their examples, if there are any."""
    weights = _weights.get()
    if weights is None:
        return values
    return values * ops.reshape(ops.cast(weights, values.dtype), (-1, *[1] * (len(values.shape) - 1)))


def mean(values: Any) -> Any:
    """Return the mean of values (examples,), in single precision at least; the weighted one, if there are weights."""
    values = weigh(wide(values))
    return ops.sum(values) / ops.cast(ops.shape(values)[0], values.dtype)  # not ops.mean: float32 under JAX


def mean_over_examples(regularizer: Any, activations: Any) -> Any:
    """Return the penalty of a regularizer that adds up over examples, per example; of their weights, if they have any.

    activations: (examples, ..., units).
    """
    activations = wide(activations)
    if _weights.get() is None:
        penalty = regularizer(activations)
    else:
        each = ops.vectorized_map(lambda example: regularizer(example[None]), activations)
        penalty = ops.sum(weigh(each))
    return penalty / ops.cast(ops.shape(activations)[0], penalty.dtype)
