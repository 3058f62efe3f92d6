import numpy as np
import pytest

import keras_sae
from keras_sae import objective
from keras_sae.sparsity import L1
from tests.gradients import compare, compare_objective
from tests.keras_sae.conftest import dictionary, raises


def by_hand(decoder_norms, weight=0.5):
    """An autoencoder whose codes of the rows (1, 0) and (0, 1) are (1, 2) and (0, 3)."""
    ae = dictionary(L1(weight, decoder_norms), units=2, features=2, pre_bias=False, unit_norm=False)
    [w1, b1, w2, b2] = ae.trainable_variables
    for variable, value in [(w1, [[1, 2], [-4, 3]]), (b1, [0, 0]), (w2, [[2, 0], [0.3, 0.4]]), (b2, [0, 0])]:
        variable.assign(value)
    return ae


@pytest.mark.parametrize(
    ("decoder_norms", "expected"),
    [(False, 0.5 * (3 + 3) / 2), (True, 0.5 * ((1 * 2 + 2 * 0.5) + 3 * 0.5) / 2)],
)
def test_by_hand(decoder_norms, expected):
    ae = by_hand(decoder_norms)
    np.testing.assert_array_equal(ae.encode(np.eye(2)), [[1, 2], [0, 3]])
    ae(np.eye(2))
    assert float(sum(ae.losses)) == pytest.approx(expected, rel=1e-6)
    assert objective(ae, np.eye(2)).parts["sparsity"] == pytest.approx(expected, rel=1e-14)


CASES = [
    {},
    {"decoder_norms": True},
    {"decoder_norms": True, "input_scale": True},
    {"tied": True},
    {"pre_bias": False, "activation": "tanh"},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_objective_and_its_gradients_are_those_of_the_numpy_version(case, x):
    options = dict(case)
    ae = dictionary(L1(0.3, options.pop("decoder_norms", False)), **options)
    compare_objective(ae, x, np.arange(len(x)) / 5 if case else None)


@pytest.mark.parametrize("decoder_norms", [False, True])
def test_the_loss_in_training_and_every_gradient_are_those_of_the_numpy_version(decoder_norms, x):
    compare(dictionary(L1(0.3, decoder_norms), input_scale=True), x, np.linspace(0, 2, len(x)))


def test_gradients_agree_with_central_differences(x):
    assert keras_sae.check_gradients(dictionary(L1(0.3, decoder_norms=True), input_scale=True), x, samples=2) < 1e-7


def test_more_weight_gives_smaller_activations(x):
    means = []
    for weight in (0.0, 0.3):
        ae = dictionary(L1(weight), units=8, dtype="float32")
        losses = keras_sae.fit(ae, x, iterations=8, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        means.append(ae.transform(x).mean())
    assert means[1] < means[0] / 2


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_rows_stay_of_length_1(optimizer, x):
    ae = dictionary(L1(0.1), dtype="float32")
    keras_sae.fit(ae, x, optimizer=optimizer, iterations=2, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(ae.output_layer.kernel, axis=1), 1, rtol=1e-6)
    own = np.linalg.norm(ae.output_layer.own_kernel, axis=1)
    assert (np.abs(own - 1).max() < 1e-6) == (optimizer == "adam")  # whose steps end with the constraint


def test_larger_rows_with_smaller_activations_gain_nothing(x):
    """Which is how a decoder of free rows would escape a penalty of activations alone."""
    ae = dictionary(L1(0.3, decoder_norms=True))
    before = objective(ae, x)
    for variable, factor in zip(ae.trainable_variables, [1, 1 / 8, 1 / 8, 8], strict=True):
        variable.assign(factor * variable)
    after = objective(ae, x)
    assert after.value == pytest.approx(before.value, rel=1e-14)
    without_lengths = dictionary(L1(0.3), unit_norm=False)
    without_lengths.set_weights(ae.get_weights())
    escaped = objective(without_lengths, x).parts["sparsity"]
    assert 0 < escaped < before.parts["sparsity"] / 4


def test_a_unit_that_is_active_alone_is_shrunk_by_the_weight():
    """The least of 1/2 (a - 3)^2 + 0.5 a is at a = 2.5."""
    ae = dictionary(L1(0.5), units=1, features=1, pre_bias=False)
    for variable, value in zip(ae.trainable_variables, [[[1.0]], [-0.5], [[1.0]], [0.0]], strict=True):
        variable.assign(value)
    assert np.asarray(ae.encode(np.array([[3.0]]))) == [[2.5]]
    found = objective(ae, np.array([[3.0]]))
    assert found.value == 0.5 * 0.5**2 + 0.5 * 2.5
    np.testing.assert_allclose(found.gradients[1], [0], atol=1e-15)


def test_a_row_of_zeros_has_no_gradient_that_is_not_a_number():
    ae = by_hand(decoder_norms=True)
    ae.output_layer.own_kernel.assign(np.zeros((2, 2)))
    for gradient in objective(ae, np.eye(2)).gradients:
        assert np.isfinite(gradient).all()


def test_with_the_scale_of_inputs_a_weight_means_the_same_for_data_of_any_scale(x):
    """All terms of the loss are in the units of the data, squared."""
    objectives, factor = [], 100.0
    for data in (x, factor * x):
        ae = dictionary(L1(0.3), input_scale=True)
        ae.centring.scale.assign(2.0 / factor if data is not x else 2.0)
        objectives.append(objective(ae, data))
    for name in ("reconstruction", "sparsity"):
        assert objectives[1].parts[name] == pytest.approx(factor**2 * objectives[0].parts[name], rel=1e-10)


def test_half_precision_adds_up_in_single(x):
    """2,000 units at 60 make 120,000, which no float16 holds."""
    ae = dictionary(L1(1.0), units=2000, dtype="mixed_float16", pre_bias=False)
    ae.set_weights([np.zeros(w.shape) if w.shape != (2000,) else np.full(2000, 60.0) for w in ae.get_weights()])
    ae(x)
    assert float(sum(ae.losses)) == pytest.approx(120_000, rel=1e-3)


def test_conventions_follow_the_form():
    for decoder_norms in (False, True):
        ae = dictionary(L1(0.3, decoder_norms))
        assert ae.unit_norm is not decoder_norms
        assert (ae.activation.__name__, ae.weight_decay, ae.pre_bias) == ("relu", 0.0, True)


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_out_of_range(weight):
    with raises(ValueError, "`weight` expects a finite weight of 0 or more", f"Received: {weight}"):
        L1(weight)
