import numpy as np
import pytest

import keras_sae
from keras_sae.sparsity import BatchTopK, MatryoshkaBatchTopK
from keras_sae.sparsity.thresholds import threshold_of
from tests.keras_sae.conftest import raises
from tests.keras_sae.sparsity.dictionary import FEATURES, autoencoder, forward, loss_and_gradients, of_keras, weights_of


@pytest.fixture
def rows():
    return np.random.default_rng(3).normal(size=(7, FEATURES))


def largest_of_batch(pre, k):
    values = np.maximum(pre, 0)
    least = np.sort(values, axis=None)[-k * len(pre)]
    return np.where((values >= least) & (values > 0), values, 0)


def test_by_hand():
    pre = np.array([[3.0, 1.0, 2.5], [-1.0, 0.5, 2.0]], "float32")
    method = BatchTopK(1)
    np.testing.assert_array_equal(method(pre, training=True), [[3, 0, 2.5], [0, 0, 0]])  # 2 of the batch, both of a row
    assert float(method.threshold) == 2.5


def test_negative_ones_are_never_kept():
    pre = np.array([[-3.0, -1.0], [-1.0, 0.5]], "float32")
    np.testing.assert_array_equal(BatchTopK(2)(pre, training=True), [[0, 0], [0, 0.5]])


def test_afterwards_a_row_alone_decides():
    method = BatchTopK(1)
    method.build((None, 3))
    method.threshold.assign(1.5)
    np.testing.assert_array_equal(method(np.array([[3.0, 1.5, 1.6]], "float32")), [[3, 0, np.float32(1.6)]])


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_loss_and_gradients_are_those_of_numpy(rows, scale):
    ae = autoencoder(BatchTopK(3), scale)
    codes = largest_of_batch(forward(rows, weights_of(ae), scale)[0], 3)
    value, gradients = loss_and_gradients(rows, weights_of(ae), codes, codes != 0, scale)
    found, of_model = of_keras(ae, rows)
    assert found == pytest.approx(value, rel=1e-6)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(of_model[name], gradient, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("prefixes", [(2, 5), (1,), None])
def test_matryoshka_adds_the_error_of_each_prefix(rows, prefixes):
    ae = autoencoder(MatryoshkaBatchTopK(3, prefixes), 0.5)
    weights = weights_of(ae)
    pre, unit = forward(rows, weights, 0.5)
    codes = largest_of_batch(pre, 3)
    more, d_codes, d_unit, d_bias = 0.0, np.zeros_like(codes), np.zeros_like(unit), 0.0
    for end in prefixes or (1, 2, 4):  # each from the codes of the whole, and from the start
        error = codes[:, :end] @ unit[:end] + weights["pre_bias"] - 0.5 * rows
        more += 0.5 * (error**2).sum() / len(rows)
        error /= len(rows)
        d_codes[:, :end] += error @ unit[:end].T
        d_unit[:end] += codes[:, :end].T @ error
        d_bias += error.sum(axis=0)
    value, gradients = loss_and_gradients(
        rows, weights, codes, codes != 0, 0.5, d_codes, d_unit, d_bias=d_bias, more=more
    )
    found, of_model = of_keras(ae, rows)
    assert found == pytest.approx(value, rel=1e-6)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(of_model[name], gradient, rtol=1e-6, atol=1e-9, err_msg=name)


def test_prefixes_are_numbers_of_units():
    with raises(ValueError, "Expected `prefixes` as ascending numbers of units, from 1. Received: (4, 4)"):
        MatryoshkaBatchTopK(2, (4, 4))
    with raises(ValueError, "Expected `prefixes` as ascending numbers of units, from 1. Received: [0]"):
        MatryoshkaBatchTopK(2, [0])
    with raises(ValueError, "Expected `prefixes` of less than all 4 units. Received: 4"):
        keras_sae.SparseAutoencoder(4, MatryoshkaBatchTopK(2, (2, 4))).build((None, 6))


@pytest.mark.parametrize("make", [BatchTopK, MatryoshkaBatchTopK])
@pytest.mark.parametrize("batches", [False, True])
def test_training_ends_with_k_active_units_a_row_on_average(make, batches):
    import tensorflow as tf

    x = np.random.default_rng(0).normal(size=(101, FEATURES)).astype("float32")
    ae = keras_sae.SparseAutoencoder(16, make(3))
    data = tf.data.Dataset.from_tensor_slices(x).batch(10) if batches else x
    ae.fit(data, verbose=0, epochs=2, shuffle=not batches)
    assert np.count_nonzero(ae.encode(x)) == 3 * 101
    assert np.ptp(np.count_nonzero(ae.encode(x), axis=1)) > 0


@pytest.mark.parametrize("decimals", [8, 1])
def test_the_threshold_is_of_rank_n_plus_1_whatever_the_chunks(decimals):
    values = np.round(np.random.default_rng(0).normal(size=(50, 20)) ** 3, decimals).astype("float32")
    expected = np.sort(values, axis=None)[::-1][50 * 4]
    for size in (1, 7, 50):
        chunks = [values[start : start + size] for start in range(0, 50, size)]
        found = threshold_of(lambda chunks=chunks: iter(chunks), 4)
        assert np.float32(found) == expected
    assert np.sum(values > expected) <= 200 < np.sum(values >= expected)


def test_few_positive_ones_need_no_threshold():
    assert threshold_of(lambda: [np.array([[1.0, -1.0], [-2.0, -1.0]])], 1) == 0.0


@pytest.mark.parametrize("rows", [2, 5])
def test_a_threshold_among_numbers_of_one_upper_half(rows):
    values = np.nextafter(np.float32(1), np.float32(2)) * np.ones((rows, 3), "float32")
    values[0] = np.float32(1)
    assert threshold_of(lambda: [values], 2) == (1.0 if rows == 2 else float(values[1, 0]))
