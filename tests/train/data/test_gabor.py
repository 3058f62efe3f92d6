import numpy as np
import pytest

from train.data.gabor import GABOR_LIKE, gabor_fraction_explained


def gabor(size=8, centre=(3.2, 4.1), angle=0.7, frequency=0.2, spread=1.6, phase=0.5):
    """A Gabor function, written out from its definition, as a column of weights."""
    y, x = np.mgrid[:size, :size]
    u = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
    return (np.exp(-distance / (2 * spread**2)) * np.cos(2 * np.pi * frequency * u + phase)).ravel()


@pytest.mark.parametrize("angle", [0.0, 0.7, 1.6, 2.9])
def test_a_gabor_function_is_explained_whatever_its_orientation_scale_and_offset(angle):
    weights = np.stack([-3 * gabor(angle=angle), 2 + gabor(angle=angle, frequency=0.12, phase=2.0)], axis=1)
    assert gabor_fraction_explained(weights, (8, 8)) == pytest.approx([1, 1], abs=1e-3)


def test_noise_is_not_explained():
    weights = np.random.default_rng(0).normal(size=(64, 10))
    explained = gabor_fraction_explained(weights, (8, 8))
    assert (explained > 0).all()
    assert (explained < GABOR_LIKE).all()


def test_noise_on_a_gabor_function_costs_its_share_of_the_variance():
    clean, noise = gabor(), np.random.default_rng(1).normal(size=64)
    noise *= np.sqrt(0.1 / 0.9) * clean.std() / noise.std()  # a tenth of the variance of the sum, nearly
    assert gabor_fraction_explained((clean + noise)[:, None], (8, 8))[0] == pytest.approx(0.9, abs=0.06)


def test_a_filter_without_contrast_is_not_explained():
    assert gabor_fraction_explained(np.ones((64, 1)), (8, 8)) == [0]
