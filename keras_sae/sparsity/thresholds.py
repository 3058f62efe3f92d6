"""A threshold that leaves so many activations of a whole data set, exactly, whatever its size."""

from collections.abc import Callable, Iterable

import numpy as np

HALF = 2**16  # values of half the bits of a float32
NONE = 2**32 - 1  # the bits of a NaN


def threshold_of(passes: Callable[[], Iterable[np.ndarray]], mean_active: float) -> float:
    """Return a number that `mean_active` activations of a row exceed, as a mean over all rows; 0 or more.

    It is halfway between the activations of rank n + 1 and n, if n is mean_active * rows, rounded, so that rounding
    in another program or batch moves neither past it. They are found in two passes that count: the upper halves of the
    bits of all positive activations, whose order is that of the numbers, then the lower halves of those that share the
    upper half of rank n + 1. Memory does not grow with the number of rows.

    passes: gives the activations, (rows, units) arrays, anew at each call.
    """
    upper = np.zeros(HALF, "int64")
    rows = 0
    for activations in passes():
        bits, rows = _positive_bits(activations), rows + len(activations)
        upper += np.bincount(bits >> 16, minlength=HALF)
    above = round(mean_active * rows)
    if upper.sum() <= above:
        return 0.0
    half, above = _rank(upper, above)
    lower, next_above = np.zeros(HALF, "int64"), NONE
    for activations in passes():
        bits = _positive_bits(activations)
        lower += np.bincount(bits[bits >> 16 == half] & (HALF - 1), minlength=HALF)
        next_above = min(next_above, int(bits[bits >> 16 > half].min(initial=NONE)))
    rank = _rank(lower, above)[0]
    larger = np.flatnonzero(lower[rank + 1 :])
    if len(larger):  # of the same upper half
        next_above = half << 16 | rank + 1 + int(larger[0])
    return _between(half << 16 | rank, next_above)


def _between(below: int, above: int) -> float:
    """Return the middle of two float32 numbers, given as bits, or the one below unless the other exceeds the middle."""
    low, high = np.array([below, above], "uint32").view("float32")
    middle = low + (high - low) / 2
    return float(middle if middle < high else low)  # NaN is not less


def _positive_bits(activations: np.ndarray) -> np.ndarray:
    """Return the bits of the positive activations as float32 numbers, (any number,) uint32."""
    activations = activations.astype("float32", copy=False)
    return activations[activations > 0].view("uint32")


def _rank(counts: np.ndarray, above: int) -> tuple[int, int]:
    """Return (the number whose count, added up from the largest, first exceeds `above`; what is left of `above`)."""
    total = np.cumsum(counts[::-1])
    place = int(np.searchsorted(total, above, side="right"))
    return len(counts) - 1 - place, int(above - (total[place] - counts[::-1][place]))
