"""Scaling of raw inputs: small arrays by hand, NumPy in float64, and data as awkward as people's."""

import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import scipy.sparse

from keras_sae.data import preprocessing
from keras_sae.data.containers import RowSubset
from keras_sae.data.preprocessing import fit_preprocessing, fit_zca
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
    floor = values.mean() * (1 + (x.shape[1] / len(x)) ** 0.5) ** 2
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


def test_a_range_that_is_known_is_that_of_every_feature():
    x = np.array([[0, 51, 7], [102, 51, 200]], "uint8")
    for data in (x, RowSubset(x, np.array([1, 0])), x.astype("float32")):
        steps = fit_preprocessing(data, value_range=(0, 255))
        np.testing.assert_allclose(apply(steps, x), x / 255, rtol=1e-6)
        assert preprocessing.scale_range(steps) == (0, pytest.approx(255, rel=1e-6))


@pytest.mark.parametrize("largest", [1, 16, 31, 32])
def test_a_range_that_the_data_hardly_use_is_not_theirs(largest):
    """Images of 0 and 1, or of few grey levels, that were saved as bytes: by hand, an eighth of 255 is 31.9."""
    x = np.array([[0, largest], [largest, 0]], "uint8")
    found = apply(fit_preprocessing(x, value_range=(0, 255)), x)
    np.testing.assert_allclose(found.max(), 1 if largest < 32 else 32 / 255, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64", "float16", "float32", "float64"])
def test_the_same_numbers_are_scaled_alike_in_every_type(dtype):
    x = (np.random.default_rng(0).uniform(size=(40, 5)) < [0.02, 0.1, 0.5, 0.9, 0]).astype(dtype)
    np.testing.assert_array_equal(apply(fit_preprocessing(x), x), x.astype("float32"))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32"])
def test_so_are_grey_levels(dtype):
    x = np.random.default_rng(0).integers(0, 17, (200, 6))
    low, high = x.min(axis=0), x.max(axis=0)
    np.testing.assert_allclose(
        apply(fit_preprocessing(x.astype(dtype)), x), (x - low) / (high - low), rtol=1e-6, atol=1e-7
    )


def outlying(far):
    """101 rows of two numbers, 0 to 100 and half of that; the first of the last row is far beyond."""
    x = np.arange(101.0)[:, None] * [1, 0.5]
    x[100, 0] = far
    return x


@pytest.mark.parametrize(("far", "low", "high"), [(995, 0, 995), (996, 0, 995), (2.5e7, 0, 995), (-1e4, -896, 99)])
def test_a_value_far_beyond_all_others_does_not_decide_the_range(far, low, high):
    """By hand: the quantiles are 5 and 95, and 4 and 94 with the far value below all; the limits 900 beyond them."""
    steps = fit_preprocessing(outlying(far))
    found = preprocessing.scale_range(steps)
    np.testing.assert_allclose(found, [[low, 0], [high, 50]], rtol=1e-5, atol=1e-4)
    scaled = apply(steps, outlying(far))
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    assert scaled[:100, 0].max() - scaled[:100, 0].min() > 0.08


def test_a_mark_for_what_is_missing_in_some_rows_does_not_decide_the_range():
    x = np.random.default_rng(0).normal(size=(1000, 2))
    x[::40, 1] = -9999
    low, high = preprocessing.scale_range(fit_preprocessing(x))
    assert low[1] > -50
    assert high[1] == pytest.approx(x[:, 1].max())


@pytest.mark.parametrize("sign", [1, -1])
def test_among_rare_values_one_far_beyond_does_not_decide_either(sign):
    """Zeros, 1 to 20 in 20 of 1,000 rows, and 1e7: by hand, tails of 2 and 20, and a limit of 200."""
    x = np.zeros((1000, 1))
    x[:21, 0] = sign * np.array([*range(1, 21), 1e7])
    low, high = preprocessing.scale_range(fit_preprocessing(x))
    np.testing.assert_allclose(sorted([low[0], high[0]], key=abs), [0, sign * 200], rtol=1e-6)


def test_a_value_that_is_rare_keeps_its_range():
    """1 in one row of 1,000 and 0 in the others is a class, say, and no mistake."""
    x = np.eye(1000)[:, :3]
    np.testing.assert_array_equal(apply(fit_preprocessing(x), x), x)


def test_another_value_of_what_did_not_vary_counts_as_those_of_most_features():
    x = np.array([[0, 0, 0, 9], [255, 255, 3, 9]])
    steps = fit_preprocessing(x)
    np.testing.assert_allclose(apply(steps, np.array([[51, 255, 0, 9 + 51]])), [[0.2, 1, 0, 0.2]], atol=1e-6)


def test_quantiles_of_many_rows_are_those_of_a_sample(monkeypatch):
    monkeypatch.setattr(preprocessing, "SAMPLE", (500, 2**28))
    x = np.random.default_rng(0).normal(size=(5000, 3))
    x[17, 2] = 1e9
    low, high = preprocessing.scale_range(fit_preprocessing(x))
    np.testing.assert_allclose(low, x.min(axis=0), rtol=1e-5)
    assert high[2] < 60
    assert high[1] == pytest.approx(x[:, 1].max(), rel=1e-5)


def test_before_the_cut_off_far_rows_are_far():
    x = np.array([[0.0, 0.0], [2.0, 4.0], [1.0, 1.0]])
    steps = fit_preprocessing(x)
    far = np.array([[4.0, 2.0], [1e6, -8.0]], "float32")
    found = preprocessing.scaled_without_cut_off(steps, far)
    np.testing.assert_allclose(found, [[2, 0.5], [5e5, -2]], rtol=1e-6)
    np.testing.assert_allclose(apply(steps, far), [[1, 0.5], [1, 0]])
    other = keras.layers.Rescaling(2.0)  # any layer of a user's, which cuts nothing off
    np.testing.assert_array_equal(preprocessing.scaled_without_cut_off(other, far), other(far))


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
    before, after = (np.corrcoef(rows.T)[0, 1] for rows in (correlated, found))
    assert before > 0.6
    assert after < 0.42


def test_whitening_of_fewer_rows_than_features():
    x = np.random.default_rng(0).uniform(size=(4, 9))
    np.testing.assert_allclose(
        apply(fit_preprocessing(x, whiten=True), x, "whitening"), whitened(x)[0], atol=1e-5
    )  # most eigenvalues are 0


def test_zca_by_the_formula(correlated):
    """(x - mean) times the inverse square root of covariance + epsilon, which SciPy computes without eigenvectors."""
    exact = correlated - correlated.mean(axis=0)
    covariance = exact.T @ exact / len(exact)
    expected = exact @ np.linalg.inv(scipy.linalg.sqrtm(covariance + 0.1 * np.eye(6)))
    layer = fit_zca(correlated, 0.1, chunk_size=7)
    np.testing.assert_allclose(layer(correlated.astype("float32")), expected, atol=1e-5)
    assert layer.trainable_weights == []
    np.testing.assert_allclose(fit_zca(correlated)(correlated.astype("float32")), whitened(correlated)[0], atol=1e-5)


@pytest.mark.parametrize("epsilon", [0, -1.0, float("inf"), float("nan")])
def test_zca_with_another_epsilon(epsilon):
    with raises(ValueError, f"`epsilon` expects a finite variance above 0. Received: {epsilon}"):
        fit_zca(np.eye(3), epsilon)


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


def test_tables_and_sparse_matrices_are_fitted_as_arrays_are():
    x = np.random.default_rng(0).random((40, 5)) * (np.random.default_rng(1).random((40, 5)) > 0.5)
    for fit in (fit_preprocessing, fit_zca):
        expected = fit(x)(x.astype("float32"))
        for rows in (pd.DataFrame(x, index=np.arange(40)[::-1]), scipy.sparse.csc_array(x)):
            np.testing.assert_allclose(fit(rows)(x.astype("float32")), expected, rtol=1e-4, atol=1e-5)
