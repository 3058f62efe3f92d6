import keras
import numpy as np
import pytest

import keras_sae
from keras_sae import objective
from keras_sae.sparsity import Contractive
from keras_sae.sparsity.contractive import DERIVATIVES
from tests.gradients import compare, compare_objective
from tests.keras_sae.conftest import SCALE, dictionary, raises

LINEAR = {"output_activation": "linear", "pre_bias": True}


def test_by_hand():
    # Columns of W1 of squared length 5 and 4. Activations at the row of zeros: 1/2 and, at b1 = -1.0986 = -ln 3, 1/4.
    # h'^2 is 1/16 and (3/16)^2 = 9/256: 5/16 + 36/256 = 116/256.
    ae = dictionary(Contractive(2.0), units=2, features=2)
    for variable, value in zip(ae.trainable_variables[:2], [[[1, 0], [2, 2]], [0, -np.log(3)]], strict=True):
        variable.assign(value)
    found = objective(ae, np.zeros((1, 2)))
    assert found.parts["sparsity"] == pytest.approx(2 * 116 / 256, rel=1e-14)


CASES = [
    {},
    {"tied": True},
    {"activation": "tanh"},
    {"activation": "relu", **LINEAR},
    {"activation": "tanh", "tied": True, "input_scale": True, **LINEAR},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_objective_and_its_gradients_are_those_of_the_numpy_version(case, x):
    compare_objective(dictionary(Contractive(0.3), **case), x, np.arange(len(x)) / 5 if case else None)


def test_the_loss_in_training_and_every_gradient_are_those_of_the_numpy_version(x):
    compare(dictionary(Contractive(0.3), **CASES[-1]), x, np.linspace(0, 2, len(x)))


def test_gradients_agree_with_central_differences(x):
    assert keras_sae.check_gradients(dictionary(Contractive(0.3), **CASES[-1]), x, samples=2) < 1e-7


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_the_jacobian_of_the_encoder_by_finite_differences(case, x):
    """With respect to the inputs as the Dense layer takes them: scaled ones, if there is a scale."""
    ae, step = dictionary(Contractive(0.3), **case), 1e-6
    scale = SCALE if ae.input_scale else 1.0
    squares = 0.0
    for feature in np.eye(x.shape[1]):
        up, down = (np.asarray(ae.encode(x + sign * step / scale * feature)) for sign in (1, -1))
        squares += (((up - down) / (2 * step)) ** 2).sum(axis=1).mean()
    assert objective(ae, x).parts["sparsity"] * scale**2 == pytest.approx(0.3 * squares, rel=1e-7)


def test_more_weight_gives_codes_that_change_less(x):
    changes = []
    for weight in (0.0, 3.0):
        ae = dictionary(Contractive(weight), units=8, dtype="float32", tied=True)
        losses = keras_sae.fit(ae, x, iterations=8, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        changes.append(np.square(ae.transform(x + 0.01) - ae.transform(x)).sum())
    assert changes[1] < changes[0] / 2


def test_half_precision_adds_up_in_single(x):
    """2,000 columns of squared length 600 and slopes 1/4 make 75,000, which no float16 holds."""
    ae = dictionary(Contractive(1.0), units=2000, dtype="mixed_float16")
    zeros = [np.zeros(w.shape) for w in ae.get_weights()]
    ae.set_weights([np.full(w.shape, 10.0) if w.shape == (6, 2000) else w for w in zeros])
    ae(0 * x)
    assert float(sum(ae.losses)) == pytest.approx(75_000, rel=1e-3)


@pytest.mark.parametrize("activation", DERIVATIVES)
def test_the_derivatives_are_those_of_keras(activation):
    z, step = np.array([-2.0, -0.3, 0.4, 3.0]), 1e-6
    function = keras.activations.get(activation)
    up, at, down = (np.asarray(function(keras.ops.convert_to_tensor(z + d, "float64"))) for d in (step, 0, -step))
    found = DERIVATIVES[activation](keras.ops.convert_to_tensor(at))
    np.testing.assert_allclose(found, (up - down) / (2 * step), rtol=1e-8, atol=1e-9)


def test_no_unit_with_a_bounded_activation_is_dead(x):
    ae = dictionary(Contractive(0.1, window=10))
    ae(x, training=True)
    assert np.asarray(ae.sparsity.silent).max() == 0
    np.testing.assert_array_equal(ae.sparsity.dead(), np.zeros(4))


@pytest.mark.parametrize("activation", ["linear", "gelu", lambda z: z])
def test_other_activations_are_refused(activation):
    name = activation if isinstance(activation, str) else "<lambda>"
    with raises(ValueError, "Expected one of sigmoid, tanh, relu", f"Received: activation={name!r}", "Use one of"):
        keras_sae.SparseAutoencoder(4, Contractive(0.1), activation=activation)


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_out_of_range(weight):
    with raises(ValueError, "`weight` expects a finite weight of 0 or more", f"Received: {weight}"):
        Contractive(weight)
