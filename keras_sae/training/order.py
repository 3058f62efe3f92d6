"""The order in which minibatches train: by one call of Keras for each, or many in one compiled loop."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from ..backend.train_loops import can_loop, compile_train_loop
from ..constraints import check
from ..data.containers import in_memory
from ..files import forget

FORGET_EVERY = 16  # batches between clearing the pages of a memory-mapped array, which takes some microseconds
STEPS = 32  # in one compiled loop: about a tenth of a second of an ordinary autoencoder
LARGEST_BYTES = 2**31  # of arrays that are copied to where the loop computes
PAYS = 500  # steps from which on compiling the loop, which takes a second or two, is worth it


class Minibatches(keras.utils.PyDataset):
    """Rows of arrays in random order, which depends on the seed and on the epoch that was begun last.

    (Keras' `fit` copies the entire array into a tensor, and takes its order from the global random state, which a run
    that resumes after a kill does not have.)

    weights: of the examples, or None.  targets: x -> what the model is to give, where there are weights but no y,
    because Keras drops weights without targets; None for x itself.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 256,
        seed: int = 0,
        dtype: str = "float32",
        weights: Any = None,
        targets: Callable | None = None,
    ):
        super().__init__()
        check("batch_size", batch_size)
        self.x, self.y, self.batch_size, self.seed, self.dtype = x, y, batch_size, seed, dtype
        self.weights, self.targets = weights, targets
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Draw the order of this epoch. (Keras' own signals to a PyDataset also come before the first epoch.)"""
        self.order = np.random.default_rng((self.seed, epoch)).permutation(np.arange(len(self.x), dtype="uint32"))

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def rows(self, index: int) -> np.ndarray:
        """Return the row numbers of a batch, sorted, so that they are read in one sweep."""
        return np.sort(self.order[index * self.batch_size : (index + 1) * self.batch_size])

    def __getitem__(self, index: int) -> tuple:
        rows = self.rows(index)
        x = np.asarray(self.x[rows], self.dtype)
        if index % FORGET_EVERY == 0:
            forget(self.x)
        y = None if self.y is None else self.y[rows]
        if self.weights is None:
            return (x,) if y is None else (x, y)
        if y is None:  # Keras drops weights without targets
            y = x if self.targets is None else keras.ops.convert_to_numpy(self.targets(x))
        return x, y, self.weights[rows]


class Blocks:
    """The minibatches of arrays in memory as blocks of many, each for one call of a compiled loop.

    All of an epoch are of one shape, for which the loop is compiled once, but for the last minibatch, if it has fewer
    rows.
    """

    def __init__(self, minibatches: Minibatches):
        self.minibatches, rows, size = minibatches, len(minibatches.x), minibatches.batch_size
        self.full, self.has_rest = rows // size, rows % size > 0
        self.steps = max(1, min(STEPS, self.full))
        self.arrays = [
            None if array is None else ops.convert_to_tensor(np.asarray(array))
            for array in (minibatches.x, minibatches.y, minibatches.weights)
        ]

    def __len__(self) -> int:
        return -(-self.full // self.steps) + self.has_rest

    def __getitem__(self, index: int) -> tuple[list, Any]:
        """Return ([x, y or None, weights or None], how many minibatches their rows are)."""
        first = min(index * self.steps, self.full)
        steps = max(1, min(self.steps, self.full - first))  # 1: the last minibatch, which has fewer rows
        rows = np.concatenate([self.minibatches.rows(first + step) for step in range(steps)]).astype("int32")
        if first < self.full:
            rows = np.pad(rows, (0, self.steps * self.minibatches.batch_size - len(rows)))
        rows, steps = ops.convert_to_tensor(rows), ops.convert_to_tensor(steps, "int32")
        # XLA would copy rows one number at a time, so it is not in the loop.
        return [None if array is None else ops.take(array, rows, axis=0) for array in self.arrays], steps

    def batch(self, block: list, step: Any) -> tuple:
        """Return the data of one step, as Keras has them, of the arrays of a block."""
        size = min(self.minibatches.batch_size, block[0].shape[0])
        x, y, weights = (None if array is None else _rows(array, step * size, size) for array in block)
        x = ops.cast(x, self.minibatches.dtype)
        if weights is None:
            return (x,) if y is None else (x, y)
        if y is None:
            y = x if self.minibatches.targets is None else self.minibatches.targets(x)
        return x, y, weights


def _rows(array: Any, start: Any, number: int) -> Any:
    """Return so many rows of a tensor. (JAX takes no numbers of several types for where they start.)"""
    return ops.slice(array, (start, *[0 * start] * (len(array.shape) - 1)), (number, *array.shape[1:]))


@contextlib.contextmanager
def in_one_loop(model: keras.Model, data: Any, epochs: int, callbacks: list) -> Iterator[dict[str, Any]]:
    """Yield the arguments of Keras' `fit` that are the data: numbers of blocks, if that pays.

    The model has a `train_function` that takes these. Otherwise the data are as they are: if they are no Minibatches of
    arrays in memory, or too large to be copied, if the backend or the model do without XLA, if a callback is to be
    called for each batch, or for few steps.

    (Blocks as a data set, which TensorFlow would take from Python by a generator in a thread, made the loop slower by
    half in all trials.)
    """
    pays = isinstance(data, Minibatches) and in_memory(data.x) and epochs * len(data) >= PAYS
    if (
        not pays
        or math.prod(data.x.shape) * data.x.dtype.itemsize > LARGEST_BYTES
        or not can_loop(model)
        or any(map(_watches_batches, callbacks))
    ):
        yield {"x": data}
        return
    blocks, before = Blocks(data), model.train_function
    model._symbolic_build(data_batch=data[0])  # metrics; Keras would take a block for a batch
    model.train_function = compile_train_loop(model, blocks)
    try:
        yield {"x": np.arange(len(blocks)), "batch_size": 1}
    finally:
        model.train_function = before


def _watches_batches(callback: keras.callbacks.Callback) -> bool:
    """Return whether a callback that is none of Keras' own or of this library is called for each batch."""
    methods = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    owners = {getattr(type(callback), name).__module__.partition(".")[0] for name in methods}
    return not owners <= {"keras", "keras_sae"}
