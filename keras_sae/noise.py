"""Random numbers for noise, at the cost of a few operations on integers each, which compilers vectorise.

Each is a hash of its place, mixed with two words of a seed generator. XLA computes a random number anew for each of
its uses; Keras' own, by the Philox generator, then take most of the time of a step on a CPU.
"""

import math
from typing import Any

import keras
from keras import ops


def uniform(shape: tuple, seed: keras.random.SeedGenerator) -> Any:
    """Return 2**23 different numbers between 0 and 1, both excluded, all as likely: float32 of this shape."""
    first, second = (_mixed(ops.cast(word, "int32")) for word in ops.unstack(seed.next(), 2))
    words = _mixed(ops.arange(math.prod(shape), dtype="int32") + first)
    words = _mixed(ops.bitwise_xor(words, second))
    return ops.reshape((ops.cast(_shifted(words, 9), "float32") + 0.5) * 2.0**-23, shape)


def normal(shape: tuple, dtype: str, seed: keras.random.SeedGenerator) -> Any:
    """Return standard normals of this shape, of 5.3 at most in size, by the inverse of their distribution."""
    return ops.cast(math.sqrt(2) * ops.erfinv(2 * uniform(shape, seed) - 1), dtype)


def _mixed(words: Any) -> Any:
    """Return for each of all 2**32 integers another one that looks random: Wellons 2018, the hash "lowbias32"."""
    words = ops.bitwise_xor(words, _shifted(words, 16)) * 0x7FEB352D
    words = ops.bitwise_xor(words, _shifted(words, 15)) * (0x846CA68B - 2**32)  # as a signed integer
    return ops.bitwise_xor(words, _shifted(words, 16))


def _shifted(words: Any, bits: int) -> Any:
    """Return integers without their last bits; as if they had no sign, which those of all backends have."""
    return ops.bitwise_and(ops.right_shift(words, bits), 2 ** (32 - bits) - 1)
