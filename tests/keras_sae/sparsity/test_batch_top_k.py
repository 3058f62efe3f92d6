import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from keras_sae.sparsity import BatchTopK, MatryoshkaBatchTopK
from keras_sae.sparsity.thresholds import threshold_of
from tests.gradients import compare
from tests.keras_sae.conftest import FEATURES, dictionary, raises


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


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (BatchTopK(3), {}),
        (BatchTopK(3), {"input_scale": True}),
        (MatryoshkaBatchTopK(3), {}),
        (MatryoshkaBatchTopK(3, (2, 5)), {"input_scale": True}),
        (MatryoshkaBatchTopK(3, (1,)), {"tied": True, "pre_bias": False}),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_loss_and_every_gradient_are_those_of_the_numpy_version(method, options, x):
    """Matryoshka: each prefix has the codes of the whole, and starts at the first unit."""
    compare(dictionary(method, units=8, **options), x, np.linspace(0, 2, len(x)) if options else None)


def test_prefixes_are_numbers_of_units():
    with raises(ValueError, "Expected `prefixes` as ascending numbers of units, from 1. Received: (4, 4)"):
        MatryoshkaBatchTopK(2, (4, 4))
    with raises(ValueError, "Expected `prefixes` as ascending numbers of units, from 1. Received: [0]"):
        MatryoshkaBatchTopK(2, [0])
    with raises(ValueError, "Expected `prefixes` of less than all 4 units. Received: 4"):
        keras_sae.SparseAutoencoder(4, MatryoshkaBatchTopK(2, (2, 4))).build((None, 6))


@pytest.mark.parametrize(
    "batches", [pytest.param(False, id="rows"), pytest.param(True, id="data set", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("make", [BatchTopK, MatryoshkaBatchTopK])
def test_training_ends_with_k_active_units_a_row_on_average(make, batches):
    x = np.random.default_rng(0).normal(size=(101, FEATURES)).astype("float32")
    ae = dictionary(make(3), units=16, dtype="float32", started=False)
    data = tf.data.Dataset.from_tensor_slices(x).batch(25) if batches else x
    ae.fit(data, verbose=0, batch_size=None if batches else 101, shuffle=not batches)
    assert np.count_nonzero(ae.encode(x)) == 3 * 101
    assert np.ptp(np.count_nonzero(ae.encode(x), axis=1)) > 0


@pytest.mark.parametrize("decimals", [8, 1])
def test_the_threshold_is_halfway_from_rank_n_plus_1_to_the_next_larger_one_whatever_the_chunks(decimals):
    values = np.round(np.random.default_rng(0).normal(size=(50, 20)) ** 3, decimals).astype("float32")
    least = np.sort(values, axis=None)[::-1][50 * 4]
    expected = (float(least) + float(values[values > least].min())) / 2
    for size in (1, 7, 50):
        chunks = [values[start : start + size] for start in range(0, 50, size)]
        found = threshold_of(lambda chunks=chunks: iter(chunks), 4)
        assert found == pytest.approx(expected, rel=1e-6)
    assert np.sum(values > found) == np.sum(values > least) <= 200 < np.sum(values >= least)
    assert decimals == 1 or np.sum(values > found) == 200


def test_the_largest_of_all_is_no_threshold_of_what_lies_above():
    assert threshold_of(lambda: [np.array([[3.0, 1.0], [2.0, 0.5]])], 0.5) == 2.5
    assert threshold_of(lambda: [np.array([[3.0, 1e-3], [2.0, 0.5]])], 1) == 1.25  # of another upper half
    assert threshold_of(lambda: [np.array([[3.0, 1.0]])], 0.2) == 3.0


def test_few_positive_ones_need_no_threshold():
    assert threshold_of(lambda: [np.array([[1.0, -1.0], [-2.0, -1.0]])], 1) == 0.0


@pytest.mark.parametrize("rows", [2, 5])
def test_a_threshold_among_numbers_of_one_upper_half(rows):
    values = np.nextafter(np.float32(1), np.float32(2)) * np.ones((rows, 3), "float32")
    values[0] = np.float32(1)
    assert threshold_of(lambda: [values], 2) == (1.0 if rows == 2 else float(values[1, 0]))


def classifier_on(x):
    """A classifier on codes of 3 active units, pretrained on x, without a threshold of its own yet."""
    stack = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(8, BatchTopK(3))])
    stack.build((None, x.shape[1]))
    return stack.classifier(3)


def mean_active(classifier, x):
    return (np.asarray(classifier.get_layer("encoder")(x)) != 0).sum(axis=1).mean()


def test_a_classifier_ends_with_k_active_units_a_row_on_average(x, labels):
    x = x.astype("float32")
    classifier = classifier_on(x)
    keras_sae.fit(classifier, x, labels, "adam", 2, batch_size=22, verbose=0)  # the last batch is one row
    assert mean_active(classifier, x) == pytest.approx(3)
    before = classifier.get_layer("encoder").get_layer("sparsity_1").codes
    assert before.__func__ is BatchTopK.codes  # not what listened to its inputs


def test_a_frozen_layer_stays_as_it_is(x, labels):
    x = x.astype("float32")
    classifier = classifier_on(x)
    layer = classifier.get_layer("encoder").get_layer("sparsity_1")
    layer.threshold.assign(0.25)
    classifier.get_layer("encoder").trainable = False
    before = [weight.copy() for weight in layer.get_weights()]
    keras_sae.fit(classifier, x, labels, "adam", 2, batch_size=22, verbose=0)
    for one, other in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_data_without_an_end_leave_the_threshold_of_the_last_batch(x):
    x = x.astype("float32")
    endless = tf.data.Dataset.from_tensor_slices(x).batch(8).repeat()
    stack = keras_sae.StackedAutoencoder(
        [keras_sae.SparseAutoencoder(8, BatchTopK(3)), keras_sae.SparseAutoencoder(4, BatchTopK(2))]
    )
    for autoencoder, inputs in stack.stages(x):
        autoencoder.start(inputs)
    with pytest.warns(UserWarning, match="stays that of the last batch: the data cannot be read again, or have no end"):
        stack.fit(endless, steps_per_epoch=2, epochs=1, shuffle=False, verbose=0)
    assert all(autoencoder.sparsity.threshold > 0 for autoencoder in stack.autoencoders)
    other = keras_sae.SparseAutoencoder(8, BatchTopK(3))
    with raises(ValueError, "Expected data that can be, and have an end.", "Call start(rows) with some rows first."):
        other.fit(endless, steps_per_epoch=2, epochs=1, shuffle=False, verbose=0)


def test_a_prefix_reconstructs_with_the_activation_of_the_outputs(x):
    options = {"output_activation": "sigmoid", "pre_bias": False}
    ae = dictionary(MatryoshkaBatchTopK(3, (2,)), units=8, **options)
    codes = np.asarray(ae.encoder(x))
    outputs = np.asarray(ae.decode(np.where(np.arange(8) < 2, codes, 0)))
    [term] = ae.sparsity.terms(ae, x, None, codes, False)
    assert float(term) == pytest.approx(0.5 * ((outputs - x) ** 2).sum(axis=1).mean(), rel=1e-5)
