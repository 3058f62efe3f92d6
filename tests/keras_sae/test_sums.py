"""Sums over batches: in float64, and as exact where there is none."""

import numpy as np
import pytest
from keras import ops

from keras_sae.backend import sums


@pytest.mark.parametrize("widest", ["float64", "float32"])
def test_what_single_precision_would_lose_is_kept(widest, monkeypatch):
    monkeypatch.setattr(sums, "widest_float", lambda: widest)
    total = sums.Sums()
    for number in [1e8, *[1.0] * 50, -1e8]:  # in float32, 1e8 + 1 is 1e8
        total.add([ops.convert_to_tensor([number, 2 * number]), ops.convert_to_tensor(0.5)])
    first, second = total.read()
    assert first.tolist() == [50, 100]
    assert first.dtype == second.dtype == "float64"
    assert second == 26


def test_lists_of_other_lengths_are_refused():
    total = sums.Sums()
    total.add([ops.ones(2)])
    with pytest.raises(ValueError, match="shorter"):
        total.add([])


def test_a_sum_is_rounded_at_the_end_only(monkeypatch):
    monkeypatch.setattr(sums, "widest_float", lambda: "float32")
    numbers = np.random.default_rng(0).random((500, 3)).astype("float32") * 10.0 ** np.arange(-3, 3, 2)
    total = sums.Sums()
    for row in numbers.astype("float32"):
        total.add([row])
    np.testing.assert_allclose(total.read()[0], numbers.astype("float32").astype("float64").sum(axis=0), rtol=1e-13)
