"""The minibatches of arrays, in an order that can be taken up again."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ..constraints import check
from ..files import forget

FORGET_EVERY = 16  # batches between clearing the pages of a memory-mapped array, which takes some microseconds


def order_of(rows: int, seed: int, epoch: int) -> np.ndarray:
    """Return the numbers of so many rows in the order of an epoch, uint32."""
    return np.random.default_rng((seed, epoch)).permutation(np.arange(rows, dtype="uint32"))


def rows_of_batch(order: np.ndarray, index: int, batch_size: int) -> np.ndarray:
    """Return the row numbers of a batch, sorted."""
    return np.sort(order[index * batch_size : (index + 1) * batch_size])


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
        self.order = order_of(len(self.x), self.seed, epoch)

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def rows(self, index: int) -> np.ndarray:
        """Return the row numbers of a batch, sorted, so that they are read in one sweep."""
        return rows_of_batch(self.order, index, self.batch_size)

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
