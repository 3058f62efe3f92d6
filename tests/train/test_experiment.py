"""What the training commands do alike."""

import numpy as np
import pytest

from train import experiment


@pytest.mark.parametrize(
    ("share", "number", "expected"),
    [
        (0.8, 10, (0.490162, 0.943318)),
        (1.0, 15, (15 / (15 + 1.959964**2), 1.0)),
        (0.0, 15, (0.0, 1 - 15 / (15 + 1.959964**2))),
        (0.97, 10_000, (0.966472, 0.973167)),
    ],
)
def test_the_interval_of_a_share_by_wilsons_formula(share, number, expected):
    np.testing.assert_allclose(experiment.wilson_interval(share, number), expected, atol=2e-6)


def test_adams_learning_rate_falls_at_the_end():
    rate = experiment.adam(100).learning_rate
    schedule = experiment.adam(100)._learning_rate
    assert float(rate) == pytest.approx(0.01)
    assert [float(schedule(step)) for step in (0, 80, 81, 100)] == pytest.approx([0.01, 0.01, 0.001, 0.001])
