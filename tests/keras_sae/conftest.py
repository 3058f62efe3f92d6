"""Small data, models with random weights and a check of messages, shared by the library's tests."""

import random
import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_sae

FEATURES, UNITS = 6, 4
SCALE = 1.7  # of inputs, if a model has one
SETTINGS = {"sparsity": keras_sae.KLSparsity(0.05, 3.0), "weight_decay": 1e-4, "dtype": "float64"}


@pytest.fixture(autouse=True)
def _seeded():
    """Seed what weights and noise are drawn from. Not the order of rows in Keras' own `fit` under TensorFlow:
    `keras.utils.set_random_seed` lets TensorFlow forget its kernels, to find which takes longer than most tests."""
    random.seed(0)
    np.random.seed(0)


@pytest.fixture
def compiled():
    """With graphs all the same, in a test that asks for it."""


@pytest.fixture(autouse=True)
def _without_graphs(request):
    """Without graphs, in `fit` as well: they take longer to trace and compile than a few small steps take. `--run-slow`
    runs all with graphs."""
    if "compiled" in request.fixturenames or request.config.getoption("--run-slow"):
        yield
        return
    warnings.filterwarnings("ignore", ".*does not apply to tf.data functions")  # pytest undoes it after the test
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


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
    for weight in model.trainable_variables:
        weight.assign(scale * rng.standard_normal(weight.shape).astype(weight.dtype))
    return model


def autoencoder(units=UNITS, seed=2, **options):
    """A SparseAutoencoder for `x` with random weights, in float64 unless told otherwise."""
    ae = keras_sae.SparseAutoencoder(units, **SETTINGS | options)
    ae.build((None, FEATURES))
    return randomise(ae, seed)


def dictionary(method, units=UNITS, features=FEATURES, seed=2, **options):
    """A SparseAutoencoder with a method of sparsity and random weights, in float64 unless told otherwise."""
    ae = keras_sae.SparseAutoencoder(units, method, **{"dtype": "float64", "started": True} | options)
    ae.build((None, features))
    randomise(ae, seed)
    for weight in ae.sparsity.trainable_variables:
        weight.assign(weight if weight.constraint is None else ops.abs(weight))  # thresholds
    if ae.input_scale:
        ae.centring.scale.assign(SCALE)
    return ae


def two_layers(**options):
    """A stack 6-4-3 for `x` with random weights, in float64 unless told otherwise."""
    options = SETTINGS | options
    layers = [keras_sae.SparseAutoencoder(units, **options) for units in (UNITS, 3)]
    stack = keras_sae.StackedAutoencoder(layers, dtype=options["dtype"])
    stack.build((None, FEATURES))
    return randomise(stack)


class Batches(keras.utils.PyDataset):
    """Batches of 7 rows of the arrays given, a tuple where there are two."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return -(-len(self.arrays[0]) // 7)

    def __getitem__(self, index):
        batch = tuple(a[7 * index : 7 * index + 7] for a in self.arrays)
        return batch if len(batch) > 1 else batch[0]


def raises(error, *parts):
    """pytest.raises for a message that holds these parts in this order."""
    return pytest.raises(error, match="(?s)" + ".*".join(re.escape(part) for part in parts))


def relative(found, expected):
    """||found - expected|| / ||expected||"""
    return np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected)


def same_weights(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
