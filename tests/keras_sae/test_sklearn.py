"""SparseFeatures: scikit-learn's own checks, its values, and what it is used in."""

import pickle
import sys

import joblib
import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import keras_sae
from keras_sae.sklearn import SparseFeatures
from keras_sae.stack import build_stack
from tests.keras_sae.conftest import autoencoder, raises

# These compare to 1e-7, which is what float32 rounds to: sums of a matrix product have another order for other rows.
ROUNDING = ("check_methods_sample_order_invariance", "check_methods_subset_invariance")
EXPECTED = dict.fromkeys(ROUNDING, "rounding: computes in float32")


@parametrize_with_checks([SparseFeatures(3, iterations=3)], expected_failed_checks=lambda estimator: EXPECTED)
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture
def rows(x):
    """Columns on scales of their own, the last of one value."""
    return np.column_stack([x * [1, 10, 100, 1, 1, 1000] + 5, np.full(len(x), 7.0)])


def fitted(rows, **options):
    return SparseFeatures(**{"units": 4, "iterations": 5, "random_state": 0, **options}).fit(rows)


def scaled(rows):
    width = np.ptp(rows, axis=0)
    return (rows - rows.min(axis=0)) / np.where(width > 0, width, 1)


def test_features_are_those_of_the_scaled_rows(rows):
    features = fitted(rows)
    [ae] = features.model_.autoencoders
    kernel, bias, decoder_kernel, decoder_bias = ae.get_weights()
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    codes = sigmoid(scaled(rows) @ kernel + bias)
    xhat = sigmoid(codes @ decoder_kernel + decoder_bias)
    np.testing.assert_allclose(features.transform(rows), codes, rtol=1e-4)
    expected = rows.min(axis=0) + np.ptp(rows, axis=0) * xhat
    np.testing.assert_allclose(features.inverse_transform(codes), expected, rtol=1e-4)
    errors = 0.5 * ((xhat - scaled(rows)) ** 2).sum(axis=1)
    np.testing.assert_allclose(features.score_samples(rows), -errors, rtol=1e-3)
    assert features.score(rows) == pytest.approx(-errors.mean(), rel=1e-3)
    np.testing.assert_array_equal(features.data_range_[-1], 0)


def test_odd_rows_score_low_however_far_they_are(rows):
    features = fitted(rows, iterations=30)
    scores = features.score_samples(np.vstack([rows.mean(axis=0), rows.max(axis=0) + 1e3, rows.max(axis=0) + 1e4]))
    assert scores[0] > scores[1] > scores[2]


def test_penalties_are_shares_of_half_the_variance(rows):
    [ae] = fitted(rows).model_.autoencoders
    half_variance = scaled(rows).var(axis=0).sum() / 2
    assert ae.sparsity.beta == pytest.approx(0.1 * half_variance, rel=1e-5)
    assert ae.weight_decay == pytest.approx(1e-4 * half_variance, rel=1e-5)
    [ae] = fitted(rows, beta=2.0, weight_decay=0.5, rho=0.2).model_.autoencoders
    assert (ae.sparsity.beta, ae.weight_decay, ae.sparsity.rho) == (2.0, 0.5, 0.2)


def test_without_scaling_outputs_are_linear(rows):
    features = fitted(rows, scale=False)
    assert not hasattr(features, "data_min_")
    assert features.model_.preprocessing is None
    assert features.model_.output_activation is keras.activations.linear
    codes = features.transform(rows)
    np.testing.assert_allclose(features.inverse_transform(codes), features.model_.reconstruct(rows), rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_random_state_decides_all(optimizer, rows):
    state = np.random.get_state()[1].copy()
    one, same, other = (fitted(rows, optimizer=optimizer, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.transform(rows), same.transform(rows))
    assert np.abs(one.transform(rows) - other.transform(rows)).max() > 1e-3
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_several_layers_and_their_histories(rows):
    features = fitted(rows, units=(5, 3))
    assert features.transform(rows).shape == (23, 3)
    assert [ae.units for ae in features.model_.autoencoders] == [5, 3]
    assert [len(history["loss"]) for history in features.history_] == [5, 5]
    assert features.inverse_transform(features.transform(rows)).shape == rows.shape
    assert features.get_feature_names_out().tolist() == ["sparsefeatures0", "sparsefeatures1", "sparsefeatures2"]


def test_sparse_rows_give_the_same(rows):
    dense, sparse = fitted(rows), fitted(scipy.sparse.csc_array(rows))
    np.testing.assert_allclose(sparse.transform(scipy.sparse.csr_array(rows)), dense.transform(rows), rtol=1e-3)


def test_tables_in_and_out(rows):
    table = pd.DataFrame(rows, columns=list("abcdefg"), index=np.arange(len(rows))[::-1])
    features = SparseFeatures(2, iterations=2).set_output(transform="pandas").fit(table)
    found = features.transform(table)
    assert found.columns.tolist() == ["sparsefeatures0", "sparsefeatures1"]
    assert (found.index == table.index).all()
    assert features.feature_names_in_.tolist() == list("abcdefg")
    with raises(ValueError, "feature names should match those that were passed during fit"):
        features.transform(table[list("gfedcba")])


def test_some_columns_of_a_table(rows, labels):
    table = pd.DataFrame(rows, columns=list("abcdefg"))
    columns = make_column_transformer((SparseFeatures(2, iterations=2), list("abc")), remainder="passthrough")
    assert columns.fit_transform(table).shape == (23, 2 + 4)


def test_in_a_pipeline_and_a_search(rows, labels):
    pipeline = make_pipeline(SparseFeatures(iterations=2, random_state=0), LogisticRegression())
    search = GridSearchCV(pipeline, {"sparsefeatures__units": [2, (3, 2)]}, cv=2).fit(rows, labels)
    assert search.best_params_["sparsefeatures__units"] in [2, (3, 2)]
    assert search.predict(rows).shape == (23,)
    unlabelled = GridSearchCV(SparseFeatures(2, iterations=2, random_state=0), {"beta": [0.0, 50.0]}, cv=2).fit(rows)
    assert unlabelled.best_params_ == {"beta": 0.0}  # which reconstructs better


@pytest.mark.parametrize("way", ["pickle", "joblib"])
def test_written_and_read_back(way, rows, tmp_path):
    features = fitted(rows, units=(5, 3))
    if way == "pickle":
        content = pickle.dumps(features)
        assert b"keras.src" not in content  # a Keras of another layout reads it as well
        copy = pickle.loads(content)
    else:
        joblib.dump(features, tmp_path / "features.joblib")
        copy = joblib.load(tmp_path / "features.joblib")
    np.testing.assert_array_equal(copy.transform(rows), features.transform(rows))
    np.testing.assert_array_equal(copy.score_samples(rows), features.score_samples(rows))
    assert copy.get_params() == features.get_params()


def test_a_clone_has_the_arguments_alone(rows):
    copy = clone(fitted(rows, rho=0.2))
    assert copy.get_params()["rho"] == 0.2
    with raises(NotFittedError, "This SparseFeatures instance is not fitted yet"):
        copy.transform(rows)


def test_the_model_takes_rows_as_they_are(rows, tmp_path):
    features = fitted(rows)
    keras_sae.save(features.model_, tmp_path / "run")
    encoder = keras_sae.load_encoder(tmp_path / "run")
    np.testing.assert_allclose(encoder(rows.astype("float32")), features.transform(rows), rtol=1e-6)


def test_features_of_another_width_are_refused(rows):
    with raises(ValueError, "Expected data of shape (examples, 4), as the model takes. Received shape: (23, 3)"):
        fitted(rows).inverse_transform(np.zeros((23, 3)))


def test_half_variance_by_hand():
    x = np.array([[1e6, 0.0], [1e6 + 2, 3.0]])  # variances 1 and 2.25
    assert keras_sae.metrics.half_variance(x) == pytest.approx(3.25 / 2, rel=1e-12)
    assert keras_sae.metrics.half_variance(x - [1e6, 0], lambda rows, training: 2 * rows) == pytest.approx(6.5)


def test_the_stack_in_proportion():
    stack = build_stack((8, 4), 2.0, rho=0.25, output_activation="linear")
    first, second = stack.autoencoders
    assert (first.sparsity.beta, first.weight_decay) == (0.2, 2e-4)
    half_variance = 8 * 0.25 * 0.75 / 2
    assert second.sparsity.beta == pytest.approx(0.1 * half_variance)
    assert second.weight_decay == pytest.approx(1e-4 * half_variance)
    assert [ae.output_activation.__name__ for ae in stack.autoencoders] == ["linear", "sigmoid"]
    assert build_stack((8,), 2.0, beta=3.0, weight_decay=0.0).autoencoders[0].weight_decay == 0


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "keras_sae.sklearn")
    with raises(ImportError, "Expected scikit-learn to make transformers with", "pip install 'keras-sae[sklearn]'"):
        __import__("keras_sae.sklearn")


def test_the_wrapper_of_keras_does_not_train_on_labels(x, labels):
    """Keras' own wrapper cannot train without labels, `fit(X)`, nor on the rows as targets, which are no column."""
    ae = autoencoder(dtype="float32")
    ae.compile("adam")
    wrapper = keras.wrappers.SKLearnTransformer(ae, fit_kwargs={"verbose": 0})
    with raises(ValueError, "Expected targets of the shape of the outputs", "If these are labels, drop them: fit(x)"):
        wrapper.fit(x, labels)
