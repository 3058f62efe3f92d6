"""Methods that keep so many of the largest units, and at the beginning of a training more."""

import operator
from typing import Any

from keras import ops

from ..constraints import check
from .method import SparsityMethod

ANNEAL = 300_000  # examples


class KeepsLargest(SparsityMethod):
    """Base of methods that keep k units of an example, on average at least.

        k_now = k + (k_start - k) max(0, 1 - n / anneal)      after n examples, rounded up; k without k_start

    A unit that is not among the largest of any example learns nothing, and with few active units many never are: they
    die. If training begins with more, nearly all of them learn something first.

    Args:
        k, k_start, anneal: as above; after a training, and in its validation, k.
        window: as of `SparsityMethod`.
    """

    def __init__(self, k: int, k_start: int | None, anneal: float, window: float, **kwargs: Any):
        super().__init__(window, **kwargs)
        check("k", k)
        self.k = operator.index(k)
        self.k_start = None if k_start is None else operator.index(k_start)
        if self.k_start is not None and self.k_start < self.k:
            raise ValueError(f"Expected `k_start` of at least k = {self.k}. Received: {k_start}.")
        check("anneal", anneal)
        self.anneal = float(anneal)

    def build(self, input_shape: tuple) -> None:
        self.check_k(self.most, input_shape[-1])
        super().build(input_shape)
        if self.k_start is not None:
            self.seen = self.add_weight(
                name="seen", shape=(), initializer="zeros", trainable=False, autocast=False, dtype="float32"
            )

    @property
    def most(self) -> int:
        """How many units of an example are active at most, on average."""
        return max(self.k, self.k_start or 0)

    def k_now(self, training: bool) -> Any:
        """Return how many units are to be active in this call: an int, or while they become fewer a tensor."""
        if not training or self.k_start is None:
            return self.k
        # XLA divides by multiplying with a rounded 1 / anneal: at the end the difference is 0 all the same.
        left = (self.anneal - ops.convert_to_tensor(self.seen)) / self.anneal
        more = ops.minimum(ops.ceil((self.k_start - self.k) * left), self.k_start - self.k)
        return self.k + ops.cast(more, "int32")

    def call(self, pre: Any, training: bool = False) -> Any:
        codes = super().call(pre, training)
        if training and self.k_start is not None:
            examples = ops.cast(ops.size(codes) // codes.shape[-1], "float32")
            self.seen.assign(ops.minimum(self.seen + examples, self.anneal))
        return codes

    def start(self) -> None:
        super().start()
        if self.k_start is not None:
            self.seen.assign(0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k, "k_start": self.k_start, "anneal": self.anneal}
