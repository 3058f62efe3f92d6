"""Blocks of many minibatches, each for one call of a compiled loop: of arrays in memory, or read while it computes."""

import contextlib
import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
from keras import ops

from ..backend.train_loops import block_numbers, can_loop, compile_train_loop
from ..files import forget
from .order import FORGET_EVERY, Minibatches

STEPS = 32  # in one compiled loop: about a tenth of a second of an ordinary autoencoder
LARGEST_BYTES = 2**31  # of arrays that are copied to where the loop computes
BLOCK_BYTES = 2**26  # of blocks that are read, of which there are two or three at a time; a minibatch may have more
PAYS = 500  # steps from which on compiling the loop, which takes a second or two, is worth it


class Blocks:
    """The minibatches of an epoch, many at a time.

    All blocks are of one shape, for which the loop is compiled once, but for the last minibatch, if it has fewer rows.

    steps: how many minibatches a block has at most.
    """

    def __init__(self, minibatches: Minibatches, steps: int):
        self.minibatches, rows, size = minibatches, len(minibatches.x), minibatches.batch_size
        self.full, self.has_rest = rows // size, rows % size > 0
        self.steps = max(1, min(steps, self.full))
        self.arrays = [minibatches.x, minibatches.y, minibatches.weights]

    def __len__(self) -> int:
        return -(-self.full // self.steps) + self.has_rest

    def __getitem__(self, index: int) -> tuple[list, Any]:
        """Return ([x, y or None, weights or None], how many minibatches their rows are)."""
        return self._tensors(index), ops.convert_to_tensor(len(self._rows(index)), "int32")

    def _tensors(self, index: int) -> list:
        raise NotImplementedError

    def _rows(self, index: int) -> list[np.ndarray]:
        """Return the row numbers of each minibatch of a block."""
        first = min(index * self.steps, self.full)
        last = max(first + 1, min(first + self.steps, self.full))  # + 1: the last minibatch, which has fewer rows
        return [self.minibatches.rows(step) for step in range(first, last)]

    def _room(self, index: int) -> int:
        """Return the number of rows in the tensors of a block: more than it has, if it has fewer minibatches."""
        if index * self.steps < self.full:
            return self.steps * self.minibatches.batch_size
        return len(self.minibatches.rows(self.full))

    def batch(self, block: list, step: Any) -> tuple:
        """Return the data of one step, as Keras has them, of the arrays of a block."""
        size = min(self.minibatches.batch_size, block[0].shape[0])
        x, y, weights = (None if array is None else _slice(array, step * size, size) for array in block)
        x = ops.cast(x, self.minibatches.dtype)
        if weights is None:
            return (x,) if y is None else (x, y)
        if y is None:
            y = x if self.minibatches.targets is None else self.minibatches.targets(x)
        return x, y, weights


def _slice(array: Any, start: Any, number: int) -> Any:
    """Return so many rows of a tensor. (JAX takes no numbers of several types for where they start.)"""
    return ops.slice(array, (start, *[0 * start] * (len(array.shape) - 1)), (number, *array.shape[1:]))


class CopiedBlocks(Blocks):
    """Blocks of arrays in memory, which are copied once to where the loop computes."""

    def __init__(self, minibatches: Minibatches):
        super().__init__(minibatches, STEPS)
        self.arrays = [None if array is None else ops.convert_to_tensor(np.asarray(array)) for array in self.arrays]

    def _tensors(self, index: int) -> list:
        rows = np.concatenate(self._rows(index)).astype("int32")
        rows = ops.convert_to_tensor(np.pad(rows, (0, self._room(index) - len(rows))))
        # XLA would copy rows one number at a time, so it is not in the loop.
        return [None if array is None else ops.take(array, rows, axis=0) for array in self.arrays]


class ReadBlocks(Blocks):
    """Blocks whose rows are read when they are needed, each while the loop computes the one before.

    pool: of one thread.
    """

    def __init__(self, minibatches: Minibatches, pool: ThreadPoolExecutor):
        arrays = [array for array in (minibatches.x, minibatches.y, minibatches.weights) if array is not None]
        batch_bytes = minibatches.batch_size * sum(_bytes(array) for array in arrays) // len(minibatches.x)
        super().__init__(minibatches, min(STEPS, BLOCK_BYTES // max(1, batch_bytes)))
        self.pool, self.ahead = pool, dict[int, Future]()
        dtype, wanted = minibatches.x.dtype, np.dtype(minibatches.dtype)
        # Cast here, unless the numbers are narrower: these are less to copy, and the loop casts them.
        self.x_dtype = dtype if dtype.itemsize <= wanted.itemsize and dtype.isnative else wanted

    def _tensors(self, index: int) -> list:
        reading = self.ahead.pop(index, None) or self._begin(index)
        block = reading.result()
        if index + 1 < len(self):  # the order of the next epoch is not known yet
            self.ahead[index + 1] = self._begin(index + 1)
        return [None if array is None else ops.convert_to_tensor(array) for array in block]

    def _begin(self, index: int) -> Future:
        return self.pool.submit(self._read, self._rows(index), self._room(index))

    def _read(self, minibatches: list[np.ndarray], room: int) -> list:
        """Return so many rows of each array, of which the first are those with the numbers of each minibatch."""
        dtypes = [self.x_dtype, *(None if array is None else array.dtype for array in self.arrays[1:])]
        block: list = [
            None if array is None else np.zeros((room, *array.shape[1:]), dtype)
            for array, dtype in zip(self.arrays, dtypes, strict=True)
        ]
        start = 0
        for number, rows in enumerate(minibatches, 1):
            for array, part in zip(self.arrays, block, strict=True):
                if array is not None:
                    part[start : start + len(rows)] = array[rows]
                    if number % FORGET_EVERY == 0 or number == len(minibatches):
                        forget(array)
            start += len(rows)
        return block


@contextlib.contextmanager
def in_one_loop(model: keras.Model, data: Any, epochs: int, callbacks: list, whole: bool) -> Iterator[dict[str, Any]]:
    """Yield the arguments of Keras' `fit` that are the data: numbers of blocks, if that pays.

    The model has a `train_function` that takes these. Otherwise the data are as they are: if they are no Minibatches,
    if the backend or the model do without XLA, if a callback is to be called for each batch, if an epoch is not all
    (`whole`) of the data, or for few steps.

    (Blocks as a data set, which TensorFlow would take from Python by a generator in a thread, made the loop slower by
    half in all trials.)
    """
    pays = isinstance(data, Minibatches) and whole and epochs * len(data) >= PAYS
    if not pays or not can_loop(model) or any(map(_watches_batches, callbacks)):
        yield {"x": data}
        return
    with ThreadPoolExecutor(1, "reader of minibatches") as pool:
        blocks = CopiedBlocks(data) if _can_be_copied(data) else ReadBlocks(data, pool)
        before = model.train_function
        model._symbolic_build(data_batch=data[0])  # metrics; Keras would take a block for a batch
        model.train_function = compile_train_loop(model, blocks)
        try:
            yield block_numbers(len(blocks))
        finally:
            model.train_function = before


def _can_be_copied(data: Minibatches) -> bool:
    """Return whether the arrays are in memory, and so small that they can be there twice."""
    arrays = [array for array in (data.x, data.y, data.weights) if array is not None]
    in_memory = all(isinstance(array, np.ndarray) and not isinstance(array, np.memmap) for array in arrays)
    return in_memory and data.x.dtype.isnative and sum(map(_bytes, arrays)) <= LARGEST_BYTES


def _bytes(array: Any) -> int:
    return math.prod(array.shape) * array.dtype.itemsize


def _watches_batches(callback: keras.callbacks.Callback) -> bool:
    """Return whether a callback that is none of Keras' own or of this library is called for each batch."""
    methods = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    owners = {getattr(type(callback), name).__module__.partition(".")[0] for name in methods}
    return not owners <= {"keras", "keras_sae"}
