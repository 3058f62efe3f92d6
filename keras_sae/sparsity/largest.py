"""The n-th largest of many values, if n or how many there are is known only when they are computed."""

from typing import Any

import keras
from keras import ops

_BITS = {"float32": ("int32", 31), "float64": ("int64", 63)}  # of floats of 0 or more, which sort as integers do


def nth_largest(values: Any, n: Any, axis: int) -> Any:
    """Return the n-th largest of values of 0 or more along an axis, exactly; the axis stays, with length 1.

    It finds the largest number that n values reach, bit by bit: 31 comparisons with all values in float32, 63 in
    float64, in place of a sort. `ops.top_k` takes neither an n nor, under XLA, a number of values that is not known
    beforehand. It has no gradient.

    Args:
        values: float32 or float64, or half precision, which gives float32; of any size along the axis. Bits of numbers
            below 0 do not sort, but count as 0.
        n: from 1 to the number of values along the axis, a whole number or an integer tensor that broadcasts with the
            result. NaN for an n that is too small, 0 for one that is too large.
    """
    dtype = keras.backend.standardize_dtype(values.dtype)
    dtype = "float64" if dtype == "float64" else "float32"
    integers, steps = _BITS[dtype]
    # Keras views no tensor as another type if the length of its last axis is not known; that of one more axis is.
    values = ops.expand_dims(ops.cast(ops.stop_gradient(values), dtype), -1)
    bits = ops.squeeze(ops.view(values, integers), -1)
    n = ops.cast(n, "int32")

    def set_bit(_: Any, state: tuple) -> tuple:
        found, bit = state
        reached = ops.sum(ops.cast(bits >= found + bit, "int32"), axis=axis, keepdims=True)
        return ops.where(reached >= n, found + bit, found), bit // 2

    none = ops.zeros_like(ops.max(bits, axis=axis, keepdims=True))
    found, _ = ops.fori_loop(0, steps, set_bit, (none, ops.convert_to_tensor(2 ** (steps - 1), integers)))
    return ops.squeeze(ops.view(ops.expand_dims(found, -1), dtype), -1)
