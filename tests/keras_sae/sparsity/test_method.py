"""What all methods have in common: silent units, their numbers in the History."""

import numpy as np
import pytest

import keras_sae
from keras_sae.sparsity import SparsityMethod, TopK
from tests.keras_sae.conftest import raises


def test_silent_units_are_counted_in_examples():
    method = TopK(1, window=4)
    method(np.array([[1.0, 0.0, 0.0], [2.0, 1.0, 0.0]], "float32"), training=True)
    np.testing.assert_array_equal(method.silent, [0, 2, 2])
    method(np.array([[1.0, 5.0, 0.0]], "float32"))  # no training
    np.testing.assert_array_equal(method.silent, [0, 2, 2])
    method(np.array([[1.0, 5.0, 0.0]] * 3, "float32"), training=True)
    np.testing.assert_array_equal(method.silent, [3, 0, 5])
    np.testing.assert_array_equal(method.dead(), [0, 0, 1])


def test_it_says_how_it_is_set():
    assert repr(TopK(2, window=50)) == "TopK(k=2, relu=True)"


def test_the_window_has_bounds():
    with raises(ValueError, "`window` expects None, or a number of examples above 0. Received: 0"):
        TopK(1, window=0)


@pytest.mark.parametrize("fit", ["minibatches", pytest.param("own", marks=pytest.mark.slow)])
def test_the_history_has_l0_and_dead_units(fit):
    x = np.abs(np.random.default_rng(0).normal(size=(40, 5))).astype("float32")
    ae = keras_sae.SparseAutoencoder(6, TopK(2, window=60))
    ae.build((None, 5))
    hidden = ae.encoder.get_layer("hidden")
    hidden.bias.assign([0, 0, 0, 0, 0, -99])
    hidden.kernel.assign(np.eye(5, 6) * 1e-3)
    ae.compile("sgd")
    ae.optimizer.learning_rate = 1e-6
    options = {"verbose": 0, "validation_data": x[:10], "batch_size": 20}
    history = (
        ae.fit(x, epochs=3, **options)
        if fit == "own"
        else keras_sae.fit(ae, x, optimizer=None, iterations=3, **options)
    ).history
    assert history["dead_units"] == [0, 0, 1]  # after 60 examples, in all batches of an epoch
    assert history["l0"] == pytest.approx([2, 2, 2], abs=0.5)
    assert history["val_l0"] == pytest.approx([2, 2, 2], abs=0.5)
    used = np.count_nonzero(np.asarray(ae.encode(x[:10])).any(axis=0))
    assert history["val_dead_units"][-1] == 6 - used  # never active on the held-out rows


def test_a_method_has_to_say_what_its_codes_are():
    with pytest.raises(NotImplementedError):
        SparsityMethod().codes(np.ones((1, 2)), training=False)
