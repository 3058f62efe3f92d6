import numpy as np
import pytest
from keras import ops

import keras_sae
from tests.keras_sae.conftest import FEATURES, autoencoder, two_layers

pytestmark = pytest.mark.usefixtures("compiled")  # many evaluations of one function


def test_of_one_layer_it_is_the_weight_vector_of_norm_1():
    ae = autoencoder()
    kernel = ae.get_weights()[0]
    found = keras_sae.maximal_inputs(ae.encoder, iterations=5)
    np.testing.assert_allclose(found, kernel / np.linalg.norm(kernel, axis=0), atol=1e-12)


def test_of_two_layers_no_input_of_norm_1_does_better():
    stack = two_layers()
    found = keras_sae.maximal_inputs(stack.encoder)
    assert found.shape == (FEATURES, 3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1)
    reached = np.diagonal(ops.convert_to_numpy(stack.encode(found.T)))
    others = np.random.default_rng(0).normal(size=(20_000, FEATURES))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    assert (reached >= ops.convert_to_numpy(stack.encode(others)).max(axis=0)).all()


def test_more_steps_activate_more():
    stack = two_layers(activation="tanh", sparsity=None)
    stack.set_weights([4 * w for w in stack.get_weights()])  # far from linear
    few, many = (keras_sae.maximal_inputs(stack.encoder, iterations=n) for n in (1, 200))
    before, after = (np.diagonal(ops.convert_to_numpy(stack.encode(x.T))) for x in (few, many))
    assert (after >= before).all()
    assert after.sum() > before.sum() + 1e-3


def test_the_encoder_is_left_as_it_was():
    stack = two_layers()
    before = stack.get_weights()
    keras_sae.maximal_inputs(stack.encoder, iterations=3)
    assert all(np.array_equal(a, b) for a, b in zip(before, stack.get_weights(), strict=True))


def test_a_unit_that_nothing_activates_gets_zeros():
    ae = autoencoder()
    ae.set_weights([np.zeros_like(w) for w in ae.get_weights()])
    assert keras_sae.maximal_inputs(ae.encoder, iterations=2) == pytest.approx(0)
