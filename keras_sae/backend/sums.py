"""Sums over many batches, as exact as float64 has them on every backend."""

from typing import Any

from keras import ops

from . import widest_float


class Sums:
    """Sums of lists of tensors, each over all calls of `add`, kept where they are computed until they are read.

    They are in float64. JAX without it has two float32 numbers for each: the sum, and what its additions have lost.

    Reference: Neumaier 1974; here the loss of an addition is by Knuth's TwoSum, without a comparison.
    """

    def __init__(self) -> None:
        self._sums: list = []
        self._lost: list = []

    def add(self, parts: list) -> None:
        """Add one tensor to each sum; their number and shapes are those of the first call."""
        parts = [ops.cast(part, widest_float()) for part in parts]
        if not self._sums:
            self._sums, self._lost = parts, [0.0] * len(parts)
        elif widest_float() == "float64":
            self._sums = [total + part for total, part in zip(self._sums, parts, strict=True)]
        else:
            added = [_two_sum(total, part) for total, part in zip(self._sums, parts, strict=True)]
            self._sums = [total for total, _ in added]
            self._lost = [before + lost for before, (_, lost) in zip(self._lost, added, strict=True)]

    def read(self, there: bool = False) -> list[Any]:
        """Return the sums as float64 arrays; `there`, where they are computed, which then has float64."""
        if there:
            return self._sums
        return [_float64(total) + _float64(lost) for total, lost in zip(self._sums, self._lost, strict=True)]


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Return a + b as rounded, and exactly what rounding took away."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _float64(tensor: Any) -> Any:
    return tensor if isinstance(tensor, float) else ops.convert_to_numpy(tensor).astype("float64")
