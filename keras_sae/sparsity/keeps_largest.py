"""Methods that keep so many of the largest units, and at the beginning of a training more."""

import operator
import warnings
from typing import Any

from keras import ops

from ..backend import replicas
from ..constraints import check
from .method import SparsityMethod


class KeepsLargest(SparsityMethod):
    """Base of methods that keep k units of an example, on average at least.

        k_now = k + (k_start - k) max(0, 1 - n / anneal)      after n examples, rounded up; k without k_start

    A unit that is not among the largest of any example learns nothing, and with few active units many never are: they
    die. If training begins with more, nearly all of them learn something first. The loss rises while they become fewer:
    a callback that watches it is to begin afterwards.

    Args:
        k: active units of an example; after a training always.
        k_start, anneal: both, or none, as above. A third of rows times epochs is a good `anneal`.
        window: as of `SparsityMethod`.
    """

    def __init__(self, k: int, k_start: int | None, anneal: float | None, window: float, **kwargs: Any):
        super().__init__(window, **kwargs)
        check("k", k)
        self.k = operator.index(k)
        self.k_start = None if k_start is None else operator.index(k_start)
        self.anneal = anneal
        if (k_start is None) != (anneal is None):
            raise ValueError(
                "Expected `k_start` and `anneal`, the number of examples after which it has become k, or neither. "
                f"Received: k_start={k_start}, anneal={anneal}. A third of rows times epochs is a good `anneal`."
            )
        if self.k_start is not None:
            check("anneal", anneal)
            if self.k_start < self.k:
                raise ValueError(f"Expected `k_start` of at least k = {self.k}. Received: {k_start}.")

    def build(self, input_shape: tuple) -> None:
        units = input_shape[-1]
        for name, number in self._numbers().items():
            if (number or 0) > units:
                raise ValueError(f"Expected {name} of at most the {units} units. Received: {number}.")
        super().build(input_shape)
        if self.k_start is not None:
            self.seen = self.add_weight(
                name="seen", shape=(), initializer="zeros", trainable=False, autocast=False, dtype="float32"
            )

    def _numbers(self) -> dict[str, int | None]:
        """Return the numbers of active units that the units have to suffice for, by name."""
        return {"k": self.k, "k_start": self.k_start}

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
        if training and self.trainable and self.k_start is not None:
            examples = ops.cast(replicas() * (ops.size(codes) // codes.shape[-1]), "float32")
            self.seen.assign(ops.minimum(self.seen + examples, self.anneal))
        return codes

    def start(self) -> None:
        super().start()
        if self.k_start is not None:
            self.seen.assign(0.0)

    def settle(self) -> None:
        if self.k_start is not None:
            self.seen.assign(self.anneal)

    def finish(self, autoencoder: Any, x: Any) -> None:
        seen = 0 if self.k_start is None else int(ops.convert_to_numpy(self.seen))
        if seen and (now := int(self.k_now(True))) > self.k:
            warnings.warn(
                f"Training ended after {seen:,} of the `anneal` = {self.anneal:,.0f} examples over which k_start = "
                f"{self.k_start} active units of {autoencoder.name} become {self.k}: it had {now}. Set `anneal` to a "
                "third of rows times epochs.",
                stacklevel=2,
            )

    def copy(self, name: str, **changes: Any) -> SparsityMethod:
        """Return another layer with k active units from the start, also in a training: of a classifier, say."""
        return super().copy(name, k_start=None, anneal=None, **changes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k, "k_start": self.k_start, "anneal": self.anneal}
