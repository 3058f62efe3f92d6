"""Random numbers of keras_sae.noise: their distribution, their independence, and the hash that they come from."""

import keras
import numpy as np
import pytest
import scipy.stats
from keras import ops

from keras_sae import noise


def lowbias32(words):
    """The hash as its author writes it, in unsigned integers of 64 bits cut to 32."""
    words = words.astype("uint64")
    words = ((words ^ (words >> np.uint64(16))) * np.uint64(0x7FEB352D)) & np.uint64(2**32 - 1)
    words = ((words ^ (words >> np.uint64(15))) * np.uint64(0x846CA68B)) & np.uint64(2**32 - 1)
    return words ^ (words >> np.uint64(16))


def test_the_hash_is_lowbias32():
    words = np.concatenate([np.arange(1000), 2**32 - 1 - np.arange(1000), 2**31 + np.arange(-500, 500)])
    signed = words.astype("uint32").view("int32")
    hashed = ops.convert_to_numpy(noise._mixed(ops.convert_to_tensor(signed))).view("uint32")
    np.testing.assert_array_equal(hashed, lowbias32(words))


def test_numbers_follow_from_the_seed_and_differ_from_call_to_call():
    first, second = keras.random.SeedGenerator(3), keras.random.SeedGenerator(3)
    drawn = [ops.convert_to_numpy(noise.uniform((50, 3), first)) for _ in range(2)]
    np.testing.assert_array_equal(drawn[0], noise.uniform((50, 3), second))
    assert not np.any(drawn[0] == drawn[1])
    assert not np.array_equal(drawn[0], noise.uniform((50, 3), keras.random.SeedGenerator(4)))


@pytest.mark.parametrize("seed", [0, 1, 123456789, 2**31 - 1])
def test_numbers_are_uniform_and_normal_and_independent(seed):
    """By the test of Kolmogorov and Smirnov, between columns and calls, and at small and large distances in memory."""
    generator = keras.random.SeedGenerator(seed)
    first = ops.convert_to_numpy(noise.normal((40000, 9), "float32", generator))
    second = ops.convert_to_numpy(noise.normal((40000, 9), "float32", generator))
    for values in (first.ravel(), second.ravel(), first[:, 4], second[::64].ravel()):
        assert scipy.stats.kstest(values, "norm").pvalue > 1e-4
    columns = np.concatenate([first, second], axis=1)
    np.testing.assert_allclose(np.cov(columns.T), np.eye(18), atol=0.025)
    np.testing.assert_allclose((columns**4).mean(axis=0), 3, rtol=0.08)
    flat = first.ravel()
    for distance in (*range(1, 9), 16, 256, 1024, 65536):
        assert abs((flat[distance:] * flat[:-distance]).mean()) < 0.01
    assert np.isfinite(flat).all()


def test_the_extreme_numbers_are_inside(monkeypatch):
    """The hash as all zeros and as all ones: no infinity, no 0 that passes for less than every rate."""
    generator = keras.random.SeedGenerator(0)
    for word, end in ((0, -5.3), (-1, 5.3)):
        monkeypatch.setattr(noise, "_mixed", lambda words, word=word: words * 0 + word)
        value = ops.convert_to_numpy(noise.uniform((2,), generator))
        assert np.all((value > 0) & (value < 1))
        normal = ops.convert_to_numpy(noise.normal((2,), "float64", generator))
        np.testing.assert_allclose(normal, end, atol=0.1)
