"""A model whose every number can be worked out by hand."""

import keras
import numpy as np
import pytest

import keras_sae

ROWS = np.array([[1, 0], [2, 0], [0, 1], [0, 0]], "float32")
LABELS = np.array(["a", "a", "b", "b"])


@pytest.fixture
def by_hand():
    """Two ReLU units, the first of which copies column 0, the second twice column 1; the decoder undoes that.

    Activations on ROWS: (1, 0), (2, 0), (0, 2), (0, 0).
    """
    ae = keras_sae.SparseAutoencoder(2, None, 0.0, activation="relu", output_activation="linear")
    ae.build((None, 2))
    ae.set_weights([np.diag([1.0, 2.0]), np.zeros(2), np.diag([1.0, 0.5]), np.zeros(2)])
    return ae


@pytest.fixture
def judge():
    """A softmax on two inputs: the class of the larger one, with a probability of sigmoid(3 times their difference)."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "softmax")])
    model.set_weights([3 * np.eye(2), np.zeros(2)])
    return model
