"""Large weights are set some rows at a time, under each backend without a second copy of them in memory."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np


def assign_in_blocks(variable: keras.Variable, blocks: Iterable[np.ndarray]) -> None:
    """Give a variable the rows of blocks, one after the other."""
    start = 0
    with _WRITERS[keras.backend.backend()](variable) as write:
        for block in blocks:
            write(start, block.astype(variable.dtype, copy=False))
            start += len(block)


@contextlib.contextmanager
def _tensorflow_rows(variable: keras.Variable) -> Iterator[Any]:
    import tensorflow as tf

    def write(start: int, block: np.ndarray) -> None:
        # Not variable[a:b].assign, which reads first, and so has TensorFlow copy the whole.
        rows = tf.range(start, start + len(block))
        tf.raw_ops.ResourceScatterUpdate(resource=variable.value.handle, indices=rows, updates=block)

    yield write


@contextlib.contextmanager
def _jax_rows(variable: keras.Variable) -> Iterator[Any]:
    import jax

    update = jax.jit(jax.lax.dynamic_update_slice, donate_argnums=0)  # in the memory of the array that it is given
    value = variable.value

    def write(start: int, block: np.ndarray) -> None:
        nonlocal value
        value = update(value, block, (start, 0))

    yield write
    variable.assign(value)


@contextlib.contextmanager
def _torch_rows(variable: keras.Variable) -> Iterator[Any]:
    import torch

    def write(start: int, block: np.ndarray) -> None:
        variable.value[start : start + len(block)] = torch.tensor(block)

    with torch.no_grad():
        yield write


_WRITERS = {"tensorflow": _tensorflow_rows, "jax": _jax_rows, "torch": _torch_rows}
