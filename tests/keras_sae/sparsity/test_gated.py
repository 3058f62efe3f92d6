"""Gated: numbers by hand, its two terms and whom they train, and what goes wrong with it elsewhere."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_sae
from keras_sae.backend import at
from keras_sae.sparsity import Gated
from tests.dictionary_twin import as_float64, twin_of
from tests.gradients import compare, differences, loss_and_gradients, with_gradients
from tests.keras_sae.conftest import dictionary, raises

MODELS = [
    {},
    {"input_scale": True},
    {"pre_bias": False, "unit_norm": False},
    {"tied": True},
    {"pre_bias": False, "input_scale": True, "units": 9},
]


def gated(method=None, **options):
    """An autoencoder for `x` with random weights, half of whose gates are open."""
    ae = dictionary(method or Gated(0.4), **options)
    ae.sparsity.gate_bias.assign(np.linspace(-0.5, 0.5, ae.units))
    return ae


def gradients_of_terms(ae, x):
    """Return the two terms, and for each {path of a weight: gradient}."""
    found = []
    for number in range(2):

        def term(values, number=number):
            with at(ae.trainable_variables, values) as scope:
                ae(x, training=True)
                return scope.losses[number], scope.losses[number]

        value, gradients = with_gradients(term, ae.trainable_variables)
        paths = [variable.path for variable in ae.trainable_variables]
        found.append((float(value), dict(zip(paths, map(np.asarray, gradients), strict=True))))
    return found


# Numbers by hand


def by_hand():
    """One feature, two units: pi = (2, -1) x, gates open for pi > 0.5 and pi > -1.5, magnitudes 2 pi + 1 and pi + 3."""
    ae = keras_sae.SparseAutoencoder(2, Gated(0.5), pre_bias=False, unit_norm=False, dtype="float64")
    ae.build((None, 1))
    weights = {"kernel": [[2.0, -1.0]], "gate_bias": [-0.5, 1.5], "log_scale": [np.log(2), 0], "magnitude_bias": [1, 3]}
    for name, value in weights.items():
        [variable] = [v for v in ae.encoder.weights if v.name == name]
        variable.assign(value)
    ae.output_layer.own_kernel.assign([[3.0], [0.5]])
    ae.output_layer.own_bias.assign([0.25])
    return ae


ROWS = np.array([[1.0], [0.2], [2.0], [-0.1]])
CODES = [[5, 2], [0, 2.8], [9, 0], [0, 3.1]]  # x = 2: pi_2 = -2 is below -1.5; x = 0.2: pi_1 = 0.4 is below 0.5


@pytest.mark.parametrize("training", [False, True])
def test_codes_by_hand(training):
    np.testing.assert_allclose(np.asarray(by_hand().encode(ROWS, training=training)), CODES)


def test_a_magnitude_below_0_is_0():
    method = Gated(dtype="float64")
    method.build((None, 2))
    method.gate_bias.assign([5.0, 5.0])
    method.magnitude_bias.assign([1.0, -1.0])
    np.testing.assert_array_equal(
        np.asarray(method(np.array([[-2.0, -3.0], [0.5, 0.5], [2, 2]]))), [[0, 0], [1.5, 0], [3, 1]]
    )


def test_terms_by_hand():
    gates = np.array([[1.5, 0.5], [0, 1.3], [3.5, 0], [0, 1.6]])
    reconstruction = gates @ [3, 0.5] + 0.25
    expected = [0.5 * gates.sum(axis=1).mean(), 0.5 * ((reconstruction - ROWS[:, 0]) ** 2).mean()]
    assert [value for value, _ in gradients_of_terms(by_hand(), ROWS)] == pytest.approx(expected)


def test_with_gates_that_agree_with_magnitudes_both_errors_are_the_same(x):
    """The second error counts as that of the codes: 1/2 ||e||^2, where the paper has ||e||^2 for both."""
    ae = dictionary(Gated(0.0))
    for variable in (ae.sparsity.gate_bias, ae.sparsity.log_scale, ae.sparsity.magnitude_bias):
        variable.assign(ops.zeros_like(variable))
    (l1, _), (second, _) = gradients_of_terms(ae, x)
    assert l1 == 0
    assert second == pytest.approx(ae.reconstruction_error(x).mean())


def test_the_weight_of_l1_without_one(x):
    """0.1 beside whole squares and inputs of length 1 is 0.1 sqrt(features) / 2 beside halves and sqrt(features)."""
    (usual, _), _ = gradients_of_terms(gated(Gated(), input_scale=True), x)
    (one, _), _ = gradients_of_terms(gated(Gated(1.0), input_scale=True), x)
    assert usual == pytest.approx(6**0.5 / 20 * one)


# The whole autoencoder


@pytest.mark.parametrize(("l1", "options"), [*((0.4, options) for options in MODELS), (None, MODELS[1])], ids=str)
def test_the_loss_and_every_gradient_are_those_of_the_numpy_version(l1, options, x):
    w = np.linspace(0, 2, len(x)) if options else None
    compare(gated(Gated(l1), **options), x, w)


@pytest.mark.parametrize("options", MODELS[1:4], ids=str)
def test_the_gradients_of_the_numpy_version_are_central_differences(options, x):
    """With the decoder of the terms held fixed."""
    twin = twin_of(gated(**options), x)
    expected = twin.gradients(twin.start)
    for name in twin.start:
        np.testing.assert_allclose(differences(twin, name), expected[name], rtol=1e-6, atol=1e-7)


def test_a_step_of_training_is_that_of_the_numpy_version(x):
    ae = gated(dtype="float32", input_scale=True)
    w = np.linspace(0, 2, len(x))
    twin = twin_of(ae, x, w)
    gradients = twin.gradients(twin.start)
    ae.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    assert ae.train_on_batch(x, x, sample_weight=w) == pytest.approx(twin.loss(twin.start), rel=1e-5)
    for name in set(twin.start) - {"W2"}:
        expected = twin.start[name] - 0.01 * gradients[name]
        np.testing.assert_allclose(as_float64(twin.variables[name]), expected, atol=1e-5)
    rows = twin.start["W2"] - 0.01 * gradients["W2"]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(as_float64(twin.variables["W2"]), rows, atol=1e-5)


# What goes wrong with it elsewhere


def test_the_terms_give_the_decoder_no_gradient(x):
    ae = gated(pre_bias=False)
    for _, gradients in gradients_of_terms(ae, x):
        for variable in (ae.output_layer.own_kernel, ae.output_layer.own_bias):
            np.testing.assert_array_equal(gradients[variable.path], 0)
        for variable in (ae.kernel, ae.sparsity.gate_bias):
            assert np.abs(gradients[variable.path]).max() > 0
        for variable in (ae.sparsity.log_scale, ae.sparsity.magnitude_bias):
            np.testing.assert_array_equal(gradients[variable.path], 0)


def test_the_terms_move_the_pre_bias_through_the_encoder_alone(x):
    """As b2 in x - b2, not as that of the reconstruction."""
    ae = gated(tied=True)
    for _, gradients in gradients_of_terms(ae, x):
        of_gate_bias = gradients[ae.sparsity.gate_bias.path]
        expected = -of_gate_bias @ ops.convert_to_numpy(ae.kernel).T
        np.testing.assert_allclose(gradients[ae.output_layer.bias.path], expected, rtol=1e-10)


def test_the_error_of_codes_gives_the_gates_no_gradient(x):
    ae = gated()
    twin = twin_of(ae, x)
    _, whole = loss_and_gradients(ae, x)
    terms = sum(gradients[ae.sparsity.gate_bias.path] for _, gradients in gradients_of_terms(ae, x))
    np.testing.assert_allclose(whole[ae.sparsity.gate_bias.path], terms, rtol=1e-10)
    assert np.abs(twin.gradients(twin.start)["magnitude_bias"]).max() > 0


def test_l1_does_not_depend_on_the_lengths_of_rows(x):
    ae = gated(unit_norm=False)
    (before, _), (error, _) = gradients_of_terms(ae, x)
    ae.output_layer.own_kernel.assign(3 * ae.output_layer.own_kernel)
    (after, _), (longer, _) = gradients_of_terms(ae, x)
    assert after == before
    assert longer > error
    assert dictionary(Gated()).unit_norm


def test_the_second_error_has_the_activation_of_the_outputs(x):
    ae = gated(output_activation="sigmoid", pre_bias=False)
    gates = np.maximum(np.asarray(ops.matmul(x, ae.kernel) + ae.sparsity.gate_bias), 0)
    expected = np.square(np.asarray(ae.decode(gates)) - x).sum(axis=1).mean() / 2
    assert gradients_of_terms(ae, x)[1][0] == pytest.approx(expected)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_terms_are_sums_in_single_precision_at_least(dtype):
    rows = np.full((600, 6), 200.0)  # of which the squares add up to more than 65,504
    ae = keras_sae.SparseAutoencoder(4, Gated(1.0), dtype=dtype, pre_bias=False)
    ae.build((None, 6))
    ae.sparsity.gate_bias.assign([100.0] * 4)
    ae.kernel.assign(np.zeros((6, 4)))
    ae.output_layer.own_kernel.assign(np.eye(4, 6))
    ae(ops.cast(rows, ae.compute_dtype))
    l1, error = ae.losses
    assert float(l1) == 400
    assert float(error) == 0.5 * (4 * 100**2 + 2 * 200**2)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [((-1.0,), ("`l1` expects", "Received: -1.0")), ((0.1, 0), ("`window` expects", "Received: 0"))],
)
def test_what_it_does_not_take_is_refused(arguments, parts):
    with raises(ValueError, *parts):
        Gated(*arguments)


def test_the_dense_layer_before_it_has_no_bias():
    ae = dictionary(Gated())
    assert not ae.encoder.get_layer("hidden").use_bias


@pytest.mark.slow
def test_it_learns_sparse_codes_of_digits(compiled):
    """More l1, fewer units: an answer that an L1 penalty gives as well, here without its shrinkage."""
    x = keras_sae.sample_digits().x_train
    l0, bias = [], []
    for l1 in (0.5, 1.5, 4.0):
        keras.utils.set_random_seed(0)
        ae = keras_sae.SparseAutoencoder(200, Gated(l1), input_scale=True)
        options = {"optimizer": keras.optimizers.Adam(0.003), "iterations": 40, "batch_size": 100, "verbose": 0}
        keras_sae.fit(ae, x, **options)
        l0.append((ae.transform(x) != 0).sum(axis=1).mean())
        centred, back = (rows - x.mean(axis=0) for rows in (x, ae.reconstruct(x)))
        bias.append((back**2).sum() / (back * centred).sum())
    assert l0[0] > 1.3 * l0[1] > 1.6 * l0[2] > 1
    np.testing.assert_allclose(bias, 1, atol=0.06)
