"""A threshold that leaves so many activations of a whole data set, exactly, whatever its size."""

from collections.abc import Callable, Iterable

import numpy as np

HALF = 2**16  # values of half the bits of a float32


def threshold_of(passes: Callable[[], Iterable[np.ndarray]], mean_active: float) -> float:
    """Return the least number that `mean_active` activations of a row exceed, as a mean over all rows; 0 or more.

    It is the activation of rank n + 1, if n is mean_active * rows, rounded. It is found in two passes that count: the
    upper halves of the bits of all positive activations, whose order is that of the numbers, then the lower halves of
    those that share the upper half of rank n + 1. Memory does not grow with the number of rows.

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
    lower = np.zeros(HALF, "int64")
    for activations in passes():
        bits = _positive_bits(activations)
        lower += np.bincount(bits[bits >> 16 == half] & (HALF - 1), minlength=HALF)
    return float(np.uint32(half << 16 | _rank(lower, above)[0]).view("float32"))


def _positive_bits(activations: np.ndarray) -> np.ndarray:
    """Return the bits of the positive activations as float32 numbers, (any number,) uint32."""
    activations = activations.astype("float32", copy=False)
    return activations[activations > 0].view("uint32")


def _rank(counts: np.ndarray, above: int) -> tuple[int, int]:
    """Return (the number whose count, added up from the largest, first exceeds `above`; what is left of `above`)."""
    total = np.cumsum(counts[::-1])
    place = int(np.searchsorted(total, above, side="right"))
    return len(counts) - 1 - place, int(above - (total[place] - counts[::-1][place]))
