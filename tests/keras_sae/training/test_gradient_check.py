import keras
import numpy as np
import pytest
from keras import ops

import keras_sae
from keras_sae import KLSparsity, SparseAutoencoder, SummedBinaryCrossentropy
from keras_sae.training import gradient_check
from tests.keras_sae.conftest import autoencoder, raises, randomise, same_weights, two_layers

pytestmark = pytest.mark.usefixtures("compiled")  # many evaluations of one function

VARIANTS = {
    "defaults": {},
    "tied": {"tied": True},
    "tanh": {"activation": "tanh", "output_activation": "tanh"},
    "tied tanh, linear output": {"activation": "tanh", "output_activation": "linear", "tied": True},
    "cross-entropy": {"loss": SummedBinaryCrossentropy()},
    "tied cross-entropy": {"loss": SummedBinaryCrossentropy(), "tied": True},
    "L1": {"sparsity": keras.regularizers.L1(0.01)},
    "L1 of relu": {"sparsity": keras.regularizers.L1(0.01), "activation": "relu"},
    "no sparsity": {"sparsity": None, "tied": True},
    "denoising": {"corruption": 0.5},
    "strong penalties": {"sparsity": KLSparsity(0.01, 30.0), "weight_decay": 1.0},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_of_every_variant(variant, x):
    options = dict(VARIANTS[variant])
    loss = options.pop("loss", None)
    ae = autoencoder(**options)
    ae.compile(loss=loss)
    assert keras_sae.check_gradients(ae, x, samples=6, chunk_size=10) < 1e-6


def test_gradients_of_a_classifier(x, labels):
    classifier = randomise(two_layers().classifier(3, weight_decay=0.1))
    assert keras_sae.check_gradients(classifier, x, labels, samples=6) < 1e-6


def test_gradients_of_a_stack(x):
    assert keras_sae.check_gradients(two_layers(), x, samples=6) < 1e-6


def test_a_float32_model_is_checked_in_float64_and_left_alone(x):
    ae = autoencoder(dtype="float32")
    copy = autoencoder(dtype="float32")
    assert keras_sae.check_gradients(ae, x, samples=6) < 1e-6
    assert same_weights(ae, copy)
    assert {w.dtype for w in ae.get_weights()} == {np.dtype("float32")}


def test_unbuilt_model(x):
    ae = SparseAutoencoder(4)
    assert keras_sae.check_gradients(ae, x, samples=3) < 1e-6


def test_unbuilt_model_on_a_dataset(x):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(x).batch(10)
    assert keras_sae.check_gradients(SparseAutoencoder(4), data, samples=3) < 1e-6


def test_frozen_head_is_left_out(x, labels):
    classifier = randomise(two_layers().classifier(3))
    classifier.get_layer("encoder").trainable = False
    assert keras_sae.check_gradients(classifier, x, labels, samples=6) < 1e-6


def half_the_gradient(y_true, y_pred):
    """The squared error, with a gradient that counts half."""
    return ops.sum(ops.square(0.5 * y_pred + 0.5 * ops.stop_gradient(y_pred) - y_true), axis=-1)


def test_a_wrong_gradient_is_found(x):
    ae = autoencoder(sparsity=None, weight_decay=0.0)
    ae.compile(loss=half_the_gradient)
    # ||g - g/2|| / (||g|| + ||g/2||) = 1/3
    assert keras_sae.check_gradients(ae, x, samples=6) == pytest.approx(1 / 3, abs=1e-4)


def test_seed_chooses_the_entries(x):
    ae = autoencoder()
    errors = [keras_sae.check_gradients(ae, x, samples=2, seed=seed) for seed in (0, 0, 1)]
    assert errors[0] == errors[1] != errors[2]


def test_float64_is_needed(x, monkeypatch):
    monkeypatch.setattr("keras_sae.training.gradient_check.has_float64", lambda: False)
    with raises(ValueError, "needs float64", "JAX_ENABLE_X64=1", f"Received: {keras.backend.backend()}"):
        keras_sae.check_gradients(autoencoder(), x)


def test_the_report_names_every_weight_and_what_was_checked(x):
    ae = autoencoder(name="reported")
    report = keras_sae.gradient_report(ae, x, samples=6)
    assert list(report.checked.values()) == [(6, 24), (4, 4), (6, 24), (6, 6)]  # 6-4-6: kernel, bias, kernel, bias
    assert report.largest == max(report.errors.values()) == keras_sae.check_gradients(ae, x, samples=6)
    table = str(report).splitlines()
    assert table[0].split() == ["weight", "entries", "checked", "relative", "error"]
    assert [table[1].split()[0][-13:], " ".join(table[1].split()[1:4])] == ["hidden/kernel", "6 of 24"]
    assert "look here" not in str(report)


def test_the_report_points_at_a_wrong_gradient(x, monkeypatch):
    right = gradient_check.ObjectiveFunction

    class Wrong(right):
        """An objective whose gradient of the second weight is twice what it should be."""

        def __call__(self, values=None):
            result = super().__call__(values)
            result.gradients[1] *= 2
            return result

    monkeypatch.setattr(gradient_check, "ObjectiveFunction", Wrong)
    report = keras_sae.gradient_report(autoencoder(name="wrong"), x, samples=6)
    assert report.largest == pytest.approx(1 / 3)  # ||2g - g|| / (||2g|| + ||g||)
    assert [line.endswith("look here") for line in str(report).splitlines()] == [False, False, True, False, False]
