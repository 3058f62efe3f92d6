"""evaluate_features: its numbers by hand and against NumPy, and the softmaxes on what costs no training."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import keras_sae
from keras_sae.data.preprocessing import fit_preprocessing
from keras_sae.evaluation import evaluate as evaluation
from tests.keras_sae.conftest import Batches, autoencoder, raises, same_weights, two_layers


def test_the_numbers_by_hand():
    """Two units of features 3/4 and 1/4 for the row (1, 0), and 1/2 for (0, 0), which the decoder passes on."""
    ae = keras_sae.SparseAutoencoder(2, dtype="float64", output_activation="linear")
    ae.build((None, 2))
    ae.set_weights([np.array([[np.log(3), -np.log(3)], [0.0, 0.0]]), np.zeros(2), np.eye(2), np.zeros(2)])
    found = keras_sae.evaluate_features(ae, np.array([[1.0, 0.0], [0.0, 0.0]]))
    # errors: (-1/4, 1/4) and (1/2, 1/2), squared 1/8 and 1/2; variances 1/4 and 0
    assert found.reconstruction_error == pytest.approx((1 / 8 + 1 / 2) / 4)
    assert found.explained_variance == pytest.approx(1 - (1 / 8 + 1 / 2) / 2 / (1 / 4))
    np.testing.assert_allclose(found.rho_hat, [5 / 8, 3 / 8])
    assert found.active_share == 1 / 4  # one of four is above a half
    assert found.dead_units == 0
    assert found.accuracies == {}


@pytest.mark.parametrize("model", [autoencoder, two_layers], ids=["autoencoder", "stack"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_the_numbers_of_numpy_of_data_of_any_kind(activation, model, x):
    model = model(activation=activation)
    features = model.transform(x)
    error = model.reconstruct(x) - x
    expected = 1 - (error**2).sum(axis=1).mean() / ((x**2).sum(axis=1).mean() - (x.mean(axis=0) ** 2).sum())
    active = features > (0.5 if activation == "sigmoid" else 0.0)  # tanh rests at -1
    for data in (x, pd.DataFrame(x), Batches(x), tf.data.Dataset.from_tensor_slices(x).batch(9)):
        found = keras_sae.evaluate_features(model, data)
        assert found.explained_variance == pytest.approx(expected, rel=1e-5)
        assert found.active_share == pytest.approx(active.mean())
        np.testing.assert_allclose(found.rho_hat, keras_sae.objective(model, x).rho_hat[-1], rtol=1e-5)


def test_units_without_bounds_are_active_above_zero(x):
    ae = autoencoder(activation="relu", sparsity=None)
    features = ae.transform(x)
    found = keras_sae.evaluate_features(ae, x)
    assert found.active_share == pytest.approx((features > 0).mean())
    assert found.dead_units == (features.mean(axis=0) < 1e-3).sum()


def test_rows_that_are_all_the_same_have_no_variance_to_explain():
    assert np.isnan(keras_sae.evaluate_features(autoencoder(), np.ones((3, 6))).explained_variance)


@pytest.fixture
def classes():
    """(rows, labels): two classes that the first two of six features tell apart, not in a line: an exclusive or."""
    rows = np.random.default_rng(0).random((300, 6))
    return rows, np.where((rows[:, 0] > 0.5) != (rows[:, 1] > 0.5), "one", "other")


def test_accuracies_on_held_out_rows(classes):
    rows, labels = classes
    stack = keras_sae.StackedAutoencoder([autoencoder(dtype="float32")], preprocessing=fit_preprocessing(rows))
    stack.build((None, 6))
    before = stack.get_weights()
    found = keras_sae.evaluate_features(stack, 100 * rows, labels, iterations=20).accuracies
    assert set(found) == {"features", "inputs", "pca", "untrained", "commonest"}
    for value, low, high in found.values():
        assert low <= value <= high
        assert (60 * value) % 1 == pytest.approx(0, abs=1e-6)  # of the fifth that is held out
    assert all(np.array_equal(a, b) for a, b in zip(before, stack.get_weights(), strict=True))
    again = keras_sae.evaluate_features(stack, 100 * rows, labels, iterations=20).accuracies
    assert again == found


def test_rows_without_a_label_are_left_out_and_a_column_of_labels_is_taken(classes):
    rows, labels = classes
    numbers, stack = (labels == "one").astype(int), two_layers(dtype="float32")
    known = np.arange(300) % 3 > 0
    held_out = rows[:60], numbers[:60]
    options = {"iterations": 40, "validation_data": held_out}
    expected = keras_sae.evaluate_features(stack, rows[known], numbers[known], **options)
    for missing, dtype in [(-1, int), (np.nan, float)]:
        some = np.where(known, numbers, missing).astype(dtype)
        assert keras_sae.evaluate_features(stack, rows, some, **options).accuracies == expected.accuracies
        assert keras_sae.evaluate_features(stack, rows, some[:, None], **options).accuracies == expected.accuracies
    with raises(ValueError, "Expected y of shape (examples,), the numbers or names of classes. Received: (300, 2)."):
        keras_sae.evaluate_features(stack, rows, np.zeros((300, 2)))
    with raises(ValueError, "Expected a label for some rows. Received: none."):
        keras_sae.evaluate_features(stack, rows, np.full(300, -1))


def test_features_that_tell_classes_apart_do(classes):
    """Four units that are roughly the cells of the exclusive or: inputs and their components cannot, up to chance."""
    rows, labels = classes
    ae = autoencoder(dtype="float32")
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], "float32")
    kernel = np.zeros((6, 4), "float32")
    kernel[:2] = 40 * signs.T
    bias = -20 * signs.sum(axis=1) - 6
    ae.set_weights([kernel, bias, *ae.get_weights()[2:]])
    found = keras_sae.evaluate_features(ae, rows[:200], labels[:200], (rows[200:], labels[200:]), iterations=50)
    assert found.accuracies["features"].value > 0.75
    for name in ("inputs", "pca", "commonest"):
        assert found.accuracies[name].value < 0.65
    commonest = max("one", "other", key=list(labels[:200]).count)
    assert found.accuracies["commonest"].value == np.mean(labels[200:] == commonest)


def test_the_untrained_model_has_the_preprocessing_and_other_weights(x):
    stack = keras_sae.StackedAutoencoder([autoencoder(dtype="float32")], fit_preprocessing(x, whiten=True))
    stack.build((None, 6))
    copy, same = (evaluation._untrained(stack, 3) for _ in range(2))
    np.testing.assert_array_equal(copy.targets(x), stack.targets(x))
    assert same_weights(copy, same)
    kernel, bias, *_ = copy.autoencoders[0].get_weights()
    assert 0.5 < np.abs(kernel).max() < (6 / 10) ** 0.5
    assert not bias.any()


def test_principal_components_are_those_of_numpy(monkeypatch):
    x = np.random.default_rng(0).normal(size=(200, 4)) * [1, 5, 2, 0.1]
    x[:, 0] += x[:, 1]
    half = keras.layers.Rescaling(0.5)
    centred = (x - x.mean(axis=0)) / 2
    expected = centred @ np.linalg.svd(centred)[2][:2].T
    layer = evaluation.principal_components(x, 2, half)
    np.testing.assert_allclose(abs(np.asarray(layer(half(x)))), abs(expected), atol=1e-5)
    assert evaluation.principal_components(x, 9).units == 4  # there are no more
    monkeypatch.setattr(evaluation, "LARGEST_WHITENED", 3)
    assert evaluation.principal_components(x, 2) is None


def test_wilsons_interval_by_hand():
    """9 of 10: (0.9 + z2 / 20) / (1 + z2 / 10) -+ z / (1 + z2 / 10) sqrt(0.009 + z2 / 400), z2 = 3.841459."""
    assert evaluation.wilson_interval(0.9, 10) == pytest.approx((0.59585, 0.98212), abs=1e-5)
    assert evaluation.wilson_interval(0.0, 10)[0] == 0
    assert evaluation.wilson_interval(1.0, 10)[1] == pytest.approx(1, abs=1e-12)


def test_a_report_describes_itself():
    accuracies = {"features": evaluation.Accuracy(0.9, 0.59585, 0.98212)}
    rho_hat, frequency = np.array([0.25, 0.0]), np.array([0.25, 0.0])
    report = evaluation.FeatureReport(0.5, 2.25, 0.9, 0.8, rho_hat, frequency, 1, 0.3, accuracies, {"probe_1": 0.75})
    lines = [
        "explained_variance: 0.5", "reconstruction_error: 2.25", "reconstruction_bias: 0.9", "cosine: 0.8",
        "rho_hat: 0.125", "active_share: 0.125", "l0: 0.25", "decoder_similarity: 0.3", "dead_units: 1 of 2",
        "dense_units: 1 of 2", "probe_1: 0.75", "accuracy_features: 90.00% (59.59% to 98.21%)",
    ]  # fmt: skip
    assert repr(report).split("\n") == ["FeatureReport(", *(f"  {line}" for line in lines), ")"]
    assert "<tr><th>dead_units</th><td>1 of 2</td></tr>" in report._repr_html_()


def test_what_cannot_be_evaluated_is_said(x, labels):
    with raises(ValueError, "Expected an autoencoder or a stack of this library. Received: Functional"):
        keras_sae.evaluate_features(autoencoder().encoder, x)
    with raises(ValueError, "Expected x as an array, if there are labels. Received: Batches"):
        keras_sae.evaluate_features(autoencoder(), Batches(x), labels)
    with raises(ValueError, "Expected one label for each of the 23 rows. Received: 22"):
        keras_sae.evaluate_features(autoencoder(), x, labels[1:])
    with raises(ValueError, "Expected one label for each of the 3 rows. Received: 2"):
        keras_sae.evaluate_features(autoencoder(), x, labels, (x[:3], labels[:2]))


def test_the_numbers_of_codes_that_are_zero_in_places(x):
    ae = keras_sae.SparseAutoencoder(8, keras_sae.sparsity.TopK(2), dtype="float64")
    ae.build((None, 6))
    ae.start(x)
    codes, outputs = np.asarray(ae.encode(x)), np.asarray(ae(x))
    found = keras_sae.evaluate_features(ae, x)
    np.testing.assert_allclose(found.frequency, (codes != 0).mean(axis=0))
    assert found.l0 == pytest.approx((codes != 0).sum(axis=1).mean())
    assert found.dead_units == (codes == 0).all(axis=0).sum()
    assert found.dense_units == ((codes != 0).mean(axis=0) > 0.1).sum()
    assert found.reconstruction_bias == pytest.approx((outputs**2).sum() / (outputs * x).sum())
    cosines = (outputs * x).sum(axis=1) / np.linalg.norm(outputs, axis=1) / np.linalg.norm(x, axis=1)
    assert found.cosine == pytest.approx(cosines.mean())
    rows = np.asarray(ae.output_layer.kernel)
    nearest = (rows @ rows.T - 2 * np.eye(8)).max(axis=1)
    assert found.decoder_similarity == pytest.approx(nearest.mean(), rel=1e-5)
    counts, edges = found.density_histogram()
    assert counts.sum() == 8 - found.dead_units
    assert edges[-1] >= 0


def test_reconstructions_that_are_too_short_have_a_bias_below_one():
    ae = keras_sae.SparseAutoencoder(2, keras_sae.sparsity.TopK(2), pre_bias=False, unit_norm=False)
    ae.build((None, 2))
    ae.set_weights([np.zeros(2), np.eye(2), np.zeros(2), np.eye(2) / 2, np.zeros(2)])
    found = keras_sae.evaluate_features(ae, np.array([[1.0, 2.0], [3.0, 1.0]]))
    assert found.reconstruction_bias == pytest.approx(0.5)
    assert found.cosine == pytest.approx(1)
