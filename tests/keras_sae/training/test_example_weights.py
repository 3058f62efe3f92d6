"""Weights of examples: an example of weight 2 counts as two, in every mean and in every kind of training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from benchmarks.classic import Autoencoder
from keras_sae import HalfSquaredError, KLSparsity
from tests.keras_sae.conftest import Batches, autoencoder, raises, randomise, relative, same_weights, two_layers

SPARSITIES = {"kl": KLSparsity(0.1, 3.0), "l1": keras.regularizers.L1(0.3), "l2": keras.regularizers.L2(0.3)}


@pytest.fixture
def counts():
    return np.random.default_rng(5).integers(0, 4, 23).astype("float64")


@pytest.mark.parametrize("chunk_size", [7, 100])
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_a_weight_of_2_counts_as_two_rows(sparsity, chunk_size, x, counts):
    ae = autoencoder(sparsity=SPARSITIES[sparsity], weight_decay=0.01)
    repeated = np.repeat(x, counts.astype(int), axis=0)
    for scale in (1.0, 0.01):  # weights are relative to each other
        found = keras_sae.objective(ae, x, chunk_size=chunk_size, sample_weight=scale * counts)
        expected = keras_sae.objective(ae, repeated)
        assert found.parts == pytest.approx(expected.parts, rel=1e-10)
        for ours, theirs in zip(found.gradients, expected.gradients, strict=True):
            assert relative(ours, theirs) < 1e-10


def test_is_that_of_the_numpy_twin(x, counts):
    ae = autoencoder(sparsity=KLSparsity(0.1, 3.0), weight_decay=0.01)
    value, gradients = Autoencoder(weight_decay=0.01).cost(ae.get_weights(), x, sample_weight=counts)
    found = keras_sae.objective(ae, x, chunk_size=7, sample_weight=counts)
    assert found.value == pytest.approx(value, rel=1e-10)
    for ours, theirs in zip(found.gradients, gradients, strict=True):
        assert relative(ours, theirs) < 1e-10


def test_by_hand():
    """Two rows, W = 0: a = 1/2 and xhat = 1/2 for both, so the errors are 1/2 (1/2 - x)^2 summed over two features."""
    ae = keras_sae.SparseAutoencoder(1, sparsity=None, weight_decay=0.0, dtype="float64")
    ae.build((None, 2))
    ae.set_weights([np.zeros_like(w) for w in ae.get_weights()])
    x = np.array([[0.5, 0.5], [0.5, 1.0]])  # errors 0 and 1/8
    assert keras_sae.objective(ae, x, sample_weight=[3, 1]).value == pytest.approx(1 / 32, rel=1e-12)


@pytest.mark.parametrize("kind", ["tf.data", "PyDataset"])
def test_batches_of_inputs_targets_and_weights(kind, x, counts):
    ae = autoencoder(sparsity=KLSparsity(0.1, 3.0))
    arrays = (x, x, counts)
    data = tf.data.Dataset.from_tensor_slices(arrays).batch(7) if kind == "tf.data" else Batches(*arrays)
    expected = keras_sae.objective(ae, x, sample_weight=counts).value
    assert keras_sae.objective(ae, data).value == pytest.approx(expected, rel=1e-10)
    history = keras_sae.fit(ae, data, iterations=2, verbose=0).history["loss"]
    assert history[-1] < expected
    assert keras_sae.objective(ae, x, sample_weight=counts).value == pytest.approx(history[-1], rel=1e-10)


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_keras_own_evaluate_and_fit_count_them(sparsity, x, counts):
    ae = autoencoder(sparsity=SPARSITIES[sparsity], dtype="float32")
    ae.compile(keras.optimizers.SGD(0.1))
    expected = keras_sae.objective(ae, x, sample_weight=counts)
    weights = ae.get_weights()
    assert ae.evaluate(x, sample_weight=counts, batch_size=23, verbose=0) == pytest.approx(expected.value, rel=1e-5)
    assert ae.test_on_batch(x, sample_weight=counts) == pytest.approx(expected.value, rel=1e-5)
    held_out = (x, None, counts)
    history = ae.fit(x, sample_weight=counts, batch_size=23, validation_data=held_out, verbose=0).history
    assert history["loss"][0] == pytest.approx(expected.value, rel=1e-5)
    for before, after, gradient in zip(weights, ae.get_weights(), expected.gradients, strict=True):
        np.testing.assert_allclose(after, before - 0.1 * gradient, rtol=1e-4, atol=1e-6)
    after = keras_sae.objective(ae, x, sample_weight=counts).value
    assert history["val_loss"][0] == pytest.approx(after, rel=1e-5)


def test_a_batch_of_rows_without_weight_teaches_nothing_about_them(x):
    ae = autoencoder(sparsity=KLSparsity(0.1, 3.0), weight_decay=0.0, dtype="float32")
    ae.compile(keras.optimizers.SGD(0.1))
    weights = ae.get_weights()
    loss = ae.train_on_batch(x, sample_weight=np.zeros(23))
    assert np.isfinite(loss)
    assert all(np.array_equal(a, b) for a, b in zip(weights, ae.get_weights(), strict=True))


def test_every_door_gives_rows_without_weight_no_say(x):
    keep = np.arange(23) < 15
    for optimizer in ("lbfgs", "adam"):
        all_rows, those = (autoencoder(dtype="float32") for _ in range(2))
        options = {"optimizer": optimizer, "iterations": 3, "verbose": 0}
        options |= {} if optimizer == "lbfgs" else {"batch_size": 23}
        keras_sae.fit(all_rows, x, sample_weight=keep, **options)
        keras_sae.fit(those, x[keep], **options)
        for a, b in zip(all_rows.get_weights(), those.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_a_stack_with_preprocessing_learns_from_weighted_rows(x, counts):
    stack = keras_sae.StackedAutoencoder([autoencoder(dtype="float32")], keras.layers.Rescaling(0.5, 0.1))
    stack.build((None, 6))
    stack.compile()
    expected = keras_sae.objective(stack, x, sample_weight=counts).value
    assert stack.evaluate(x, sample_weight=counts, batch_size=23, verbose=0) == pytest.approx(expected, rel=1e-5)
    one = keras_sae.fit(stack, x, optimizer="adam", iterations=1, batch_size=23, sample_weight=counts, verbose=0)
    assert one.history["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_validation_data_with_weights(x, counts):
    ae = autoencoder(sparsity=KLSparsity(0.1, 3.0))
    history = keras_sae.fit(ae, x, iterations=2, validation_data=(x[:9], None, counts[:9]), verbose=0).history
    expected = keras_sae.objective(ae, x[:9], sample_weight=counts[:9]).value
    assert history["val_loss"][-1] == pytest.approx(expected, rel=1e-10)


def test_weights_of_classes(x, labels):
    classifier = randomise(two_layers(dtype="float32").classifier(3))
    weights = np.array([1.0, 2.0, 0.25])[labels]
    expected = keras_sae.objective(classifier, x, labels, sample_weight=weights).value
    by_class = {1: 2.0, 2: 0.25}
    assert classifier.evaluate(x, labels, sample_weight=weights, batch_size=23, verbose=0)[0] == pytest.approx(expected)
    copies = [keras.models.clone_model(classifier) for _ in range(2)]
    for copy, options in zip(copies, ({"class_weight": by_class}, {"sample_weight": weights}), strict=True):
        copy.set_weights(classifier.get_weights())
        copy.compile(loss="sparse_categorical_crossentropy")
        keras_sae.fit(copy, x, labels, iterations=2, verbose=0, **options)
    assert same_weights(*copies)
    found = keras_sae.fit(classifier, x, labels, "adam", 1, batch_size=23, class_weight=by_class, verbose=0).history
    assert found["loss"][0] == pytest.approx(expected, rel=1e-5)
    both = keras_sae.objective(classifier, x, labels, sample_weight=weights * 2).value
    one = keras_sae.objective(classifier, x, labels, sample_weight=weights).value
    penalty = keras_sae.objective(classifier, x, labels).parts["weight_decay"]
    assert both - penalty == pytest.approx(2 * (one - penalty), rel=1e-5)  # Keras: the mean of weighted losses


@pytest.mark.parametrize(
    ("weights", "received"),
    [
        (np.zeros(23), "above 0 for one or more. Received: zeros"),
        (-np.ones(23), "Received: -1.0 for example 0"),
        (np.array([1.0] * 22 + [np.nan]), "Received: nan for example 22"),
        (np.ones(22), "Received shape: (22,)"),
        (np.ones((23, 1)), "Received shape: (23, 1)"),
    ],
)
def test_weights_that_are_none(weights, received, x):
    expected = "Expected a finite weight of 0 or more for each of the 23 examples, shape (23,)"
    for call in (
        lambda: keras_sae.objective(autoencoder(), x, sample_weight=weights),
        lambda: keras_sae.fit(autoencoder(), x, optimizer="adam", sample_weight=weights, verbose=0),
    ):
        with raises(ValueError, expected, received):
            call()


def test_where_weights_cannot_be_counted(x, labels):
    data = tf.data.Dataset.from_tensor_slices((x, x, np.zeros(23))).batch(7)
    with raises(ValueError, "Expected a weight above 0 for one example or more. Received: zeros."):
        keras_sae.objective(autoencoder(), data)
    with raises(ValueError, "a dataset yields (x, y) or (x, y, weights) itself"):
        keras_sae.objective(autoencoder(), data, sample_weight=np.ones(23))
    with raises(ValueError, "Expected batches of x, (x, y) or (x, y, weights). Received: 4 elements."):
        keras_sae.objective(autoencoder(), Batches(x, x, x, x))
    with raises(ValueError, "`class_weight` needs labels, which an autoencoder has none of. Use `sample_weight`."):
        autoencoder().fit(x, class_weight={0: 1.0})
    with raises(ValueError, "`class_weight` needs labels y, an array. Received: none."):
        keras_sae.fit(autoencoder(), x, class_weight={0: 1.0})
    with raises(ValueError, "features, which have no weights", "Give x and sample_weight as arrays"):
        two_layers().pretrain(data)


def test_the_moving_average_takes_weighted_means(x, counts):
    ae = autoencoder(sparsity=KLSparsity(0.1, 3.0, window=10), dtype="float32")
    ae.compile(keras.optimizers.SGD(0.0))
    features = np.asarray(ae.encode(x))
    ae.train_on_batch(x, sample_weight=counts)
    rho_hat = ae.encoder.get_layer("sparsity").rho_hat
    np.testing.assert_allclose(rho_hat, np.average(features, axis=0, weights=counts), rtol=1e-5)


def test_a_loss_of_keras_is_the_mean_of_weighted_losses(x, counts):
    """As Keras reduces "mse"; HalfSquaredError is a weighted mean unless told otherwise."""
    ae = autoencoder(sparsity=None, weight_decay=0.0)
    rows = ((np.asarray(ae(x)) - x) ** 2).mean(axis=1)
    ae.compile(loss="mse")
    assert keras_sae.objective(ae, x, sample_weight=counts).value == pytest.approx(np.mean(counts * rows), rel=1e-10)
    ae.compile(loss=HalfSquaredError("sum_over_batch_size"))
    assert keras_sae.objective(ae, x, sample_weight=counts).value == pytest.approx(
        np.mean(counts * rows) * 3, rel=1e-10
    )
    ae.compile(loss=HalfSquaredError("sum"))
    assert keras_sae.objective(ae, x, sample_weight=counts).value == pytest.approx(np.sum(counts * rows) * 3, rel=1e-10)
