"""JumpReLU: numbers by hand, the estimates of its gradients, its target, and what goes wrong with it elsewhere."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_sae
from keras_sae.sparsity import JumpReLU
from tests.dictionary_twin import twin_of
from tests.gradients import compare, differences, loss_and_gradients, with_gradients
from tests.keras_sae.conftest import dictionary, raises

PRE = np.array([[0.5, 0.26, -1.0], [0.24, 0.1, 0.3], [0.2, 0.7, 0.375]])  # theta 0.25, bandwidth 0.25: 0.125 to 0.375
ABOVE = np.array([[1, 1, 0], [0, 0, 1], [0, 1, 1]])
NEAR = np.array([[0, 1, 0], [1, 0, 1], [1, 0, 0]])  # not 0.375 itself


def layer(**options):
    method = JumpReLU(None, 1.0, threshold=0.25, bandwidth=0.25, dtype="float64", **options)
    method.build((None, 3))
    return method


def gradients_of(method, function, training=True):
    """Return the gradients of a scalar function(pre, codes) with respect to pre and theta."""

    def total(values):
        pre, theta = values
        with keras.StatelessScope(state_mapping=[(method.theta, theta)]):
            value = function(pre, method(pre, training=training))
        return value, value

    return [np.asarray(gradient) for gradient in with_gradients(total, [PRE, method.theta])[1]]


def with_thresholds(method, low=0.1, high=0.6, **options):
    """An autoencoder for `x` whose thresholds have pre-activations on both sides and near them."""
    ae = dictionary(method, **options)
    ae.sparsity.theta.assign(np.linspace(low, high, ae.units))
    return ae


# Numbers by hand


@pytest.mark.parametrize("training", [False, True])
def test_what_is_above_the_threshold_is_kept_as_it_is(training):
    found = np.asarray(layer()(PRE, training=training))
    np.testing.assert_array_equal(found, PRE * ABOVE)
    np.testing.assert_array_equal(np.asarray(layer()(np.full((1, 3), 0.25), training=training)), 0)


def test_gradients_of_codes_by_hand():
    of_pre, of_theta = gradients_of(layer(), lambda pre, codes: ops.sum(codes))
    np.testing.assert_array_equal(of_pre, ABOVE)
    np.testing.assert_array_equal(of_theta, -0.25 / 0.25 * NEAR.sum(axis=0))


def test_gradients_of_l0_by_hand():
    """One of a unit just below the threshold as well: counted on codes, which are 0 there, it would have none."""
    method = layer()
    rows = ops.convert_to_tensor(PRE)

    def l0(pre, codes):
        [term] = method.terms(None, rows, pre, codes, training=True)
        return term

    of_pre, of_theta = gradients_of(method, l0)
    np.testing.assert_array_equal(of_pre, 0)
    np.testing.assert_allclose(of_theta, -NEAR.sum(axis=0) / 0.25 / 3, rtol=1e-15)


def test_at_inference_the_gradients_are_the_true_ones():
    """So that the objective takes a classifier on these codes, and exports hold a comparison and nothing more."""
    of_pre, of_theta = gradients_of(layer(), lambda pre, codes: ops.sum(codes), training=False)
    np.testing.assert_array_equal(of_pre, ABOVE)
    np.testing.assert_array_equal(of_theta, 0)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (JumpReLU(None, 0.5), 0.5 * 5 / 3),
        (JumpReLU(1, 6.0), 6 * (5 / 3 - 1) ** 2),
        (JumpReLU(2.5), 4 / 2 * (2 / 3 - 1) ** 2),  # of 4 features
    ],
)
def test_terms_by_hand(method, expected):
    method.build((None, 3))
    method.theta.assign([0.25, 0.25, 0.25])
    pre = ops.convert_to_tensor(PRE, "float32")
    [term] = method.terms(None, ops.zeros((3, 4)), pre, None, training=False)
    assert float(term) == pytest.approx(expected)


def test_units_rest_at_minus_infinity():
    found = np.asarray(layer()(np.array([[-np.inf, 1.0, 2.0]]), training=True))
    np.testing.assert_array_equal(found, [[0, 1, 2]])


# The whole autoencoder


METHODS = {
    "target": JumpReLU(2, bandwidth=0.4),
    "weighted": JumpReLU(1.5, 0.7, bandwidth=0.3),
    "plain": JumpReLU(None, 0.3, bandwidth=0.4),
}
MODELS = [
    {},
    {"input_scale": True},
    {"pre_bias": False, "unit_norm": False},
    {"tied": True},
    {"pre_bias": False, "input_scale": True, "units": 9},
]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, marks=[pytest.mark.slow] if name != "target" and options else [])
        for name in METHODS
        for options in MODELS
    ],
    ids=str,
)
def test_the_loss_and_every_gradient_are_those_of_the_numpy_version(name, options, x):
    ae = with_thresholds(METHODS[name], **options)
    w = np.linspace(0, 2, len(x)) if options else None
    compare(ae, x, w)


@pytest.mark.parametrize("options", [MODELS[0], MODELS[3]], ids=str)
def test_the_gradients_of_the_numpy_version_are_central_differences(options, x):
    """But for those of theta, which has no slope."""
    twin = twin_of(with_thresholds(METHODS["target"], **options), x)
    expected = twin.gradients(twin.start)
    for name in set(twin.start) - {"theta"}:
        np.testing.assert_allclose(differences(twin, name), expected[name], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(differences(twin, "theta"), 0)


def test_the_estimate_is_the_slope_of_the_mean_over_many_examples(x):
    """Of pre-activations that are spread evenly around theta the loss itself has a slope in theta: the same."""
    method = JumpReLU(2, 1.0, bandwidth=0.5)
    many = np.linspace(-1, 1, 200_001)[:, None]
    ae = keras_sae.SparseAutoencoder(2, method, dtype="float64", unit_norm=False, pre_bias=False)
    ae.build((None, 1))
    twin = twin_of(ae, many)
    twin.start = {"W1": [[1.0, 0.5]], "b1": [0.1, 0.2], "theta": [0.3, 0.25], "W2": [[0.4], [0.7]], "b2": [0.0]}
    twin.start = {name: np.array(value) for name, value in twin.start.items()}
    for name, variable in twin.variables.items():
        variable.assign(twin.start[name])
    found = loss_and_gradients(ae, many)[1][ae.sparsity.theta.path]
    assert np.abs(found).min() > 0.05
    np.testing.assert_allclose(found, differences(twin, "theta", step=1e-2), rtol=0.05)


def test_a_step_of_training_is_that_of_the_numpy_version(x):
    """Through Keras' `fit`, with weights of examples, and with what is kept within bounds after a step."""
    ae = with_thresholds(JumpReLU(0.5, 50.0, bandwidth=0.4), low=0.02, dtype="float32", input_scale=True)
    w = np.linspace(0, 2, len(x))
    twin = twin_of(ae, x, w)
    gradients = twin.gradients(twin.start)
    ae.sparsity.weight = -50.0  # away from the target, to below 0
    downwards = twin.gradients(twin.start)["theta"]
    assert np.any(twin.start["theta"] - 0.01 * downwards < 0)
    for weight, theta in ((50.0, gradients["theta"]), (-50.0, downwards)):
        for name, variable in twin.variables.items():
            variable.assign(twin.start[name])
        ae.sparsity.weight = weight
        ae.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        ae.evaluate(x, batch_size=len(x), verbose=0)
        loss = ae.train_on_batch(x, x, sample_weight=w)
        assert loss == pytest.approx(twin.loss(twin.start), rel=1e-4)
        found = ops.convert_to_numpy(ae.sparsity.theta)
        np.testing.assert_allclose(found, np.maximum(twin.start["theta"] - 0.01 * theta, 0), atol=1e-5)
    rows = ops.convert_to_numpy(ae.output_layer.own_kernel)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)


# What goes wrong with it elsewhere


def test_the_threshold_itself_moves_by_the_learning_rate(x):
    """Not its logarithm, by which a threshold of 0.01 would move a hundred times more slowly."""
    ae = keras_sae.SparseAutoencoder(4, JumpReLU(1, bandwidth=10.0))
    ae.compile(keras.optimizers.Adam(0.125), run_eagerly=True)
    ae.train_on_batch(x)
    np.testing.assert_allclose(ops.convert_to_numpy(ae.sparsity.theta), 0.135, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float32", "float64"])
def test_thresholds_and_l0_are_in_single_precision_at_least(dtype, x):
    method = JumpReLU(2, bandwidth=0.5, dtype=dtype)
    method.build((None, 3))
    assert method.theta.dtype == ("float64" if dtype == "float64" else "float32")
    method.theta.assign([0.1, 1.0001, 1.0])  # of which half precision cannot tell the last two apart
    pre = ops.convert_to_tensor([[0.5, 1.0, 1.0078125]], method.compute_dtype)
    codes = method(pre, training=True)
    assert codes.dtype == pre.dtype
    np.testing.assert_array_equal(np.asarray(ops.cast(codes, "float64")), [[0.5, 0, 1.0078125]])
    many = ops.cast(ops.ones((3, 3)) * 2, method.compute_dtype)
    [term] = method.terms(None, ops.zeros((3, 3)), many, many, training=True)
    assert keras.backend.standardize_dtype(term.dtype) == method.theta.dtype
    assert float(term) == 1.5 * 0.25


def test_data_of_another_size_train_alike_with_scaled_inputs(x):
    """Without, the window around a threshold of 0.5 has none of pre-activations that are 64 times as large."""
    found = []
    for size, input_scale in ((1, True), (64, True), (64, False)):
        ae = with_thresholds(JumpReLU(2, bandwidth=0.4), input_scale=input_scale, started=False)
        ae.start(size * x)
        loss, gradients = loss_and_gradients(ae, size * x)
        found.append((ae.transform(size * x), loss / size**2, gradients[ae.sparsity.theta.path] / size**2))
    for one, large in zip(*found[:2], strict=True):
        np.testing.assert_allclose(large, one, rtol=1e-5)
    assert np.abs(found[0][2]).min() > 0
    assert np.abs(found[2][2]).min() == 0


@pytest.mark.parametrize(("target", "input_scale"), [(3, True), (1.5, True), (3, False)])
def test_thresholds_start_where_the_target_is_met(target, input_scale, x):
    ae = keras_sae.SparseAutoencoder(50, JumpReLU(target), input_scale=input_scale)
    assert ae.needs_start
    ae.start(x)
    theta = ops.convert_to_numpy(ae.sparsity.theta)
    assert theta.min() == theta.max() > 0.01
    assert (ae.transform(x) != 0).sum() == round(target * len(x))
    for other in (JumpReLU(3, threshold=0.02), JumpReLU(None, weight=1.0)):
        ae = keras_sae.SparseAutoencoder(50, other, pre_bias=False)
        assert not ae.needs_start
        ae.build((None, x.shape[1]))
        assert set(ops.convert_to_numpy(ae.sparsity.theta)) == {np.float32(0.02 if other.threshold else 0.01)}


def test_a_unit_that_is_revived_has_the_mean_threshold_of_the_others(x):
    ae = with_thresholds(JumpReLU(2), 0.1, 0.6)
    before = ops.convert_to_numpy(ae.sparsity.theta)
    ae.sparsity.revive(ops.arange(ae.units) == 1)
    after = ops.convert_to_numpy(ae.sparsity.theta)
    np.testing.assert_allclose(after[1], before.mean(), rtol=1e-6)
    np.testing.assert_array_equal(np.delete(after, 1), np.delete(before, 1))
    ae = with_thresholds(JumpReLU(None, weight=1.0), 0.1, 0.6)  # without a target nothing begins with the data
    ae.sparsity.revive(ops.arange(ae.units) == 1)
    assert ops.convert_to_numpy(ae.sparsity.theta)[1] == pytest.approx(0.01)


def test_a_target_that_is_missed_is_told(x):
    ae = keras_sae.SparseAutoencoder(50, JumpReLU(2, threshold=0.01))
    parts = ("After training", "active units an example", "target_l0=2", "input_scale=True")
    with pytest.warns(UserWarning, match=".*".join(parts)):
        keras_sae.fit(ae, x, optimizer=keras.optimizers.SGD(1e-6), iterations=1, verbose=0)
    l0 = (ae.transform(x) != 0).sum(axis=1).mean()
    assert l0 > 4
    for target, warned in ((2 * l0 + 0.1, True), (2 * l0 - 0.1, False), (l0 / 2 + 0.1, False), (None, False)):
        ae.sparsity.target_l0 = target
        if warned:
            with pytest.warns(UserWarning, match=f"has {l0:.3g} active units"):
                ae.finish(x)
        else:
            ae.finish(x)  # a warning would be an error here


def test_l0_is_measured_on_some_rows_of_data_without_end(x, monkeypatch):
    monkeypatch.setattr("keras_sae.sparsity.jump_relu.SAMPLE", 30)
    ae = keras_sae.SparseAutoencoder(8, JumpReLU(0.1))
    ae.build((None, x.shape[1]))
    rows = np.concatenate([x, x[:7]])
    l0 = (ae.transform(rows) != 0).sum(axis=1).mean()

    class Endless:
        def __iter__(self):
            while True:
                yield x

    with pytest.warns(UserWarning, match=f"has {l0:.3g} active units"):
        ae.finish(Endless())
    ae.finish(iter([x]))  # which was read in training


def test_replicas_do_not_know_their_l0(monkeypatch):
    monkeypatch.setattr("keras_sae.backend.replicas", lambda: 2)
    pre = ops.ones((2, 3))
    for target in (2, None):
        method = JumpReLU(target, 1.0)
        method.build((None, 3))
        if target is None:
            assert float(method.terms(None, pre, pre, pre, training=True)[0]) == 3
        else:
            with raises(ValueError, "JumpReLU(target_l0)", "Expected one replica. Received: 2"):
                method.terms(None, pre, pre, pre, training=True)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((0,), ("`target_l0` expects None, or a number of active units above 0", "Received: 0")),
        ((2, -1.0), ("`weight` expects", "Received: -1.0")),
        ((2, 1.0, -0.1), ("`threshold` expects a finite number of 0 or more", "Received: -0.1")),
        ((2, 1.0, 0.1, 0.0), ("`bandwidth` expects a finite width above 0", "Received: 0.0")),
        ((2, 1.0, 0.1, 0.1, 0), ("`window` expects", "Received: 0")),
        ((None,), ("adds weight * L0. Expected a `weight`", "Received: None")),
    ],
)
def test_what_it_does_not_take_is_refused(arguments, parts):
    with raises(ValueError, *parts):
        JumpReLU(*arguments)


def test_a_target_of_more_than_all_units_is_refused():
    with raises(ValueError, "Expected target_l0 of at most the 3 units. Received: 4"):
        JumpReLU(4).build((None, 3))


@pytest.mark.slow
@pytest.mark.parametrize(("target", "threshold"), [(20, 0.01), (35, 0.01), (20, None), (35, None)])
def test_l0_reaches_the_target_on_digits(target, threshold, compiled):
    x = keras_sae.sample_digits().x_train
    ae = keras_sae.SparseAutoencoder(200, JumpReLU(target, threshold=threshold), input_scale=True)
    options = {"optimizer": keras.optimizers.Adam(0.01), "iterations": 60, "batch_size": 100, "verbose": 0}
    history = keras_sae.fit(ae, x, **options).history
    assert (history["l0"][0] > 2 * target) == (threshold == 0.01)  # the others start at the target
    codes = ae.transform(x)
    assert (codes != 0).sum(axis=1).mean() == pytest.approx(target, rel=0.25)
    error = np.square(ae.reconstruct(x) - x).sum() / np.square(x - x.mean(axis=0)).sum()
    assert error < 0.25
