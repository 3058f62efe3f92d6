"""Scaling of raw inputs: small arrays by hand, NumPy in float64, and data as awkward as people's."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_sae.data import preprocessing
from keras_sae.data.containers import RowSubset
from keras_sae.data.preprocessing import fit_preprocessing
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises

OPTIONS = [{}, {"contrast": True}, {"whiten": True}, {"contrast": True, "whiten": True}]
UNITS = {"offset": (1e4, 1), "negative offset": (-1e4, 1), "tiny": (0, 1e-9), "huge": (0, 1e20), "plain": (0.5, 0.2)}


@pytest.fixture
def correlated():
    """500 rows of 6 numbers around 0 with variances about 1, some of them correlated."""
    rows = np.random.default_rng(0).standard_normal((500, 6))
    return rows @ np.array([[1, 0.8, 0, 0, 0, 0.3], *np.eye(6)[1:]])


def apply(steps, x, until=None):
    """What the steps make of x, up to and with the layer of this name."""
    layers = steps.layers
    if until:
        layers = layers[: [layer.name for layer in layers].index(until) + 1]
    return keras.ops.convert_to_numpy(keras.Sequential([keras.Input(x.shape[1:]), *layers])(x.astype("float32")))


def contrast_of(x):
    """Each row of mean 0, divided by its deviation, in float64."""
    variances = x.var(axis=1, keepdims=True)
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(variances + 0.01 * variances.mean())


def whitened(x):
    """(whitened x, its covariance), both by the formula, in float64."""
    centred = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    floor = 0.1 * values.mean()
    rows = centred @ (vectors / np.sqrt(values + floor)) @ vectors.T
    return rows, vectors * (values / (values + floor)) @ vectors.T


def scaled(x):
    """3 standard deviations of all values on either side of their mean, cut off, to [0, 1]."""
    return np.clip((x - x.mean()) / (6 * x.std()) + 0.5, 0, 1)


def test_least_and_largest_value_of_each_feature_become_0_and_1():
    steps = fit_preprocessing(np.array([[0.0, -2.0, 5.0], [4.0, 2.0, 5.0], [1.0, 0.0, 5.0]]))
    np.testing.assert_allclose(apply(steps, np.array([[0, -2, 5], [4, 2, 5], [1, 0, 5]])), [
        [0, 0, 0], [1, 1, 0], [0.25, 0.5, 0],  # what does not vary becomes 0
    ], atol=1e-7)  # fmt: skip
    held_out = np.array([[8, -9, 5], [-1, 9, 5], [2, 1, 5]])
    np.testing.assert_allclose(apply(steps, held_out), [[1, 0, 0], [0, 1, 0], [0.5, 0.75, 0]], atol=1e-7)


def test_bytes_are_divided_by_255():
    x = np.array([[0, 51, 7], [102, 51, 200]], "uint8")
    for data in (x, RowSubset(x, np.array([1, 0]))):
        np.testing.assert_allclose(apply(fit_preprocessing(data), x), x / 255, rtol=1e-6)
    np.testing.assert_allclose(apply(fit_preprocessing(x.astype("int64")), x), [[0, 0, 0], [1, 0, 1]], atol=1e-7)


def test_contrast_by_hand():
    """Rows of variance 1 and 9: c is 0.05."""
    x = np.array([[1.0, 3.0], [6.0, 0.0]])
    found = apply(fit_preprocessing(x, contrast=True), x, "contrast")
    np.testing.assert_allclose(found, [[-1 / 1.05**0.5, 1 / 1.05**0.5], [3 / 9.05**0.5, -3 / 9.05**0.5]], rtol=1e-6)


def test_rows_without_contrast_have_none_afterwards():
    x = np.array([[5.0, 5.0, 5.0], [1.0, 2.0, 9.0]])
    np.testing.assert_allclose(apply(fit_preprocessing(x, contrast=True), x, "contrast")[0], [0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("units", UNITS)
def test_is_that_of_numpy_in_any_units(units, correlated):
    """In float32, where inputs are many times as large as their differences, and where their squares would overflow."""
    mean, deviation = UNITS[units]
    x = (mean + deviation * correlated).astype("float32")
    exact = x.astype("float64")
    low, high = exact.min(axis=0), exact.max(axis=0)
    np.testing.assert_allclose(apply(fit_preprocessing(x), x), (exact - low) / (high - low), atol=1e-6)
    steps = fit_preprocessing(x, contrast=True)
    np.testing.assert_allclose(apply(steps, x, "contrast"), contrast_of(exact), atol=3e-6)
    np.testing.assert_allclose(apply(steps, x), scaled(contrast_of(exact)), atol=3e-6)
    steps = fit_preprocessing(x, whiten=True)
    np.testing.assert_allclose(apply(steps, x, "whitening"), whitened(exact)[0], atol=3e-6)
    np.testing.assert_allclose(apply(steps, x), scaled(whitened(exact)[0]), atol=3e-6)
    both = whitened(contrast_of(exact))[0]
    np.testing.assert_allclose(apply(fit_preprocessing(x, True, True), x, "whitening"), both, atol=1e-4)


def test_whitened_features_have_the_covariance_of_the_formula(correlated):
    found = apply(fit_preprocessing(correlated, whiten=True), correlated, "whitening")
    np.testing.assert_allclose(found.mean(axis=0), np.zeros(6), atol=1e-5)
    covariance = np.cov(found.T, bias=True)
    np.testing.assert_allclose(covariance, whitened(correlated)[1], atol=1e-5)
    assert abs(covariance - np.diag(np.diag(covariance))).max() < 0.1 < abs(np.cov(correlated.T)[0, 1])


def test_whitening_of_fewer_rows_than_features():
    x = np.random.default_rng(0).uniform(size=(4, 9))
    np.testing.assert_allclose(
        apply(fit_preprocessing(x, whiten=True), x, "whitening"), whitened(x)[0], atol=1e-5
    )  # most eigenvalues are 0


def test_features_of_very_different_size_do_not_disturb_each_other():
    x = np.random.default_rng(0).uniform(size=(50, 3)) * [1e-9, 1, 1e12] + [0, 7, 0]
    low, high = x.min(axis=0), x.max(axis=0)
    np.testing.assert_allclose(apply(fit_preprocessing(x), x), (x - low) / (high - low), atol=2e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_does_not_depend_on_the_chunk_size_or_on_where_the_data_are(options, correlated, tmp_path):
    np.save(tmp_path / "x.npy", correlated)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = apply(fit_preprocessing(correlated, **options), correlated)
    assert expected.std() > 0.1
    for found in (
        fit_preprocessing(correlated, **options, chunk_size=7),
        fit_preprocessing(mapped, **options),
        fit_preprocessing(mapped, **options, chunk_size=499),
    ):
        np.testing.assert_allclose(apply(found, correlated), expected, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_outputs_are_in_0_to_1_and_nothing_is_trained(options, correlated):
    steps = fit_preprocessing(correlated, **options)
    assert steps.trainable_weights == []
    assert (steps.input_shape, steps.output_shape) == ((None, 6), (None, 6))
    found = apply(steps, 3 * correlated)
    assert 0 <= found.min() < found.max() <= 1
    if "contrast" not in options:  # which takes the factor out again
        assert (found.min(), found.max()) == (0, 1)


def test_plain_keras_loads_it_in_a_process_without_this_library(correlated, tmp_path):
    steps = fit_preprocessing(correlated, contrast=True, whiten=True)
    plain = fit_preprocessing(correlated)
    steps.save(tmp_path / "both.keras")
    plain.save(tmp_path / "plain.keras")
    np.save(tmp_path / "x.npy", correlated.astype("float32"))
    code = (
        "import keras, numpy as np, sys\n"
        "x = np.load('x.npy')\n"
        "for name in ('both', 'plain'):\n"
        "    np.save(name, keras.saving.load_model(name + '.keras')(x).numpy())\n"
        "assert 'keras_sae' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "both.npy"), apply(steps, correlated), atol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "plain.npy"), apply(plain, correlated), atol=1e-6)


def test_too_many_features_to_whiten(monkeypatch):
    with raises(
        InputError,
        "Expected at most 4,096 features to whiten",
        "Received: 4,097. Use smaller images, or leave whitening out.",
    ):
        fit_preprocessing(np.zeros((3, 4097), "uint8"), whiten=True)
    monkeypatch.setattr(preprocessing, "LARGEST_WHITENED", 6)
    assert fit_preprocessing(np.eye(6), whiten=True).built
