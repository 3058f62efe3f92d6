"""Small data, models with random weights and a check of messages, shared by the library's tests."""

import re

import keras
import numpy as np
import pytest

import keras_sae

FEATURES, UNITS = 6, 4


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture
def x():
    """23 rows, a prime number, so that chunks of 7 end with a shorter one."""
    return np.random.default_rng(0).uniform(0.05, 0.95, (23, FEATURES))


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, 3, 23)


def randomise(model, seed=2, scale=0.5):
    """Give the model random weights, biases too, so that nothing vanishes by symmetry. Returns the model."""
    rng = np.random.default_rng(seed)
    model.set_weights([scale * rng.standard_normal(w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def autoencoder(units=UNITS, seed=2, **options):
    """A SparseAutoencoder for `x` with random weights, in float64 unless told otherwise."""
    ae = keras_sae.SparseAutoencoder(units, **{"dtype": "float64", **options})
    ae.build((None, FEATURES))
    return randomise(ae, seed)


def two_layers(**options):
    """A stack 6-4-3 for `x` with random weights, in float64 unless told otherwise."""
    options = {"dtype": "float64", **options}
    layers = [keras_sae.SparseAutoencoder(units, **options) for units in (UNITS, 3)]
    stack = keras_sae.StackedAutoencoder(layers, dtype=options["dtype"])
    stack.build((None, FEATURES))
    return randomise(stack)


def raises(error, *parts):
    """pytest.raises for a message that holds these parts in this order."""
    return pytest.raises(error, match="(?s)" + ".*".join(re.escape(part) for part in parts))


def relative(found, expected):
    """||found - expected|| / ||expected||"""
    return np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected)


def same_weights(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
