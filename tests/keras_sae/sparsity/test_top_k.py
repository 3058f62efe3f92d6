import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.conventions import ROWS_PAY
from keras_sae.sparsity import BatchTopK, MatryoshkaBatchTopK, TopK
from tests.keras_sae.conftest import raises
from tests.keras_sae.sparsity.dictionary import FEATURES, autoencoder, forward, loss_and_gradients, of_keras, weights_of


@pytest.fixture
def rows():
    return np.random.default_rng(3).normal(size=(7, FEATURES))


def largest(pre, k, relu=True):
    """All but the k largest of each row set to 0, by sorting."""
    values = np.maximum(pre, 0) if relu else pre
    rank = (-values).argsort(axis=1).argsort(axis=1)
    return np.where(rank < k, values, 0)


def test_by_hand():
    pre = np.array([[3.0, 1.0, 2.0, -1.0], [-1.0, -2.0, 0.5, -3.0]], "float32")
    np.testing.assert_array_equal(TopK(2)(pre), [[3, 0, 2, 0], [0, 0, 0.5, 0]])
    np.testing.assert_array_equal(TopK(2, relu=False)(pre), [[3, 0, 2, 0], [-1, 0, 0.5, 0]])


def test_equal_values_at_the_last_place_are_all_kept():
    np.testing.assert_array_equal(TopK(1)(np.array([[2.0, 2.0, 1.0]], "float32")), [[2, 2, 0]])


def test_more_units_for_inference():
    pre = np.array([[3.0, 1.0, 2.0]], "float32")
    method = TopK(1, k_inference=2)
    np.testing.assert_array_equal(method(pre, training=True), [[3, 0, 0]])
    np.testing.assert_array_equal(method(pre), [[3, 0, 2]])


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("relu", [True, False])
def test_loss_and_gradients_are_those_of_numpy(rows, relu, scale):
    ae = autoencoder(TopK(3, relu=relu), scale)
    pre, _ = forward(rows, weights_of(ae), scale)
    codes = largest(pre, 3, relu)
    value, gradients = loss_and_gradients(rows, weights_of(ae), codes, codes != 0, scale)
    found, of_model = of_keras(ae, rows)
    assert found == pytest.approx(value, rel=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(of_model[name], gradient, rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(ae.encode(rows), codes, rtol=1e-12)


def test_many_units_are_decoded_by_rows_with_the_same_loss_and_gradients(rows):
    ae = autoencoder(TopK(2), 0.5, units=2 * ROWS_PAY)
    weights = weights_of(ae)
    codes = largest(forward(rows, weights, 0.5)[0], 2)
    value, gradients = loss_and_gradients(rows, weights, codes, codes != 0, 0.5)
    calls = []
    of_rows = ae.output_layer.of_rows
    ae.output_layer.of_rows = lambda *arguments: calls.append(1) or of_rows(*arguments)
    found, of_model = of_keras(ae, rows)
    assert calls
    assert found == pytest.approx(value, rel=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(of_model[name], gradient, rtol=1e-9, atol=1e-12, err_msg=name)


def test_the_objective_takes_it_and_its_gradient_is_that_of_differences(rows):
    ae = autoencoder(TopK(3), 0.5)
    ae.compile()
    assert keras_sae.objective(ae, rows).value == pytest.approx(ae.evaluate(rows, verbose=0), rel=1e-6)
    assert keras_sae.check_gradients(ae, rows) < 1e-6


def test_lbfgs_is_refused_in_words(rows):
    message = (
        "Expected a method of sparsity that L-BFGS can train. Received: TopK: its objective jumps if units change "
        'places among the k largest. Train it on minibatches: keras_sae.fit(model, x, optimizer="adam").'
    )
    with raises(ValueError, message):
        keras_sae.fit(autoencoder(TopK(3)), rows)


@pytest.mark.parametrize("method", [BatchTopK(3), MatryoshkaBatchTopK(3)])
def test_what_depends_on_the_batch_has_no_objective(rows, method):
    with raises(ValueError, "the codes of a row depend on the other rows of its batch"):
        keras_sae.objective(autoencoder(method), rows)
    with raises(ValueError, "the codes of a row depend on the other rows of its batch"):
        keras_sae.fit(autoencoder(method), rows)


@pytest.mark.parametrize("make", [TopK, BatchTopK, MatryoshkaBatchTopK])
def test_k_has_bounds(make):
    with raises(ValueError, "`k` expects 1 or more active units. Received: 0"):
        make(0)
    with raises(ValueError, "Expected k of at most the 4 units. Received: 5."):
        keras_sae.SparseAutoencoder(4, make(5)).build((None, 6))


def test_an_activation_of_its_own_is_refused():
    message = "TopK makes codes of pre-activations itself. Expected activation=None. Received: 'relu'."
    with raises(ValueError, message):
        keras_sae.SparseAutoencoder(4, TopK(2), activation="relu")


@pytest.mark.parametrize(
    "method",
    [
        TopK(3, k_inference=5, relu=False, window=70, name="own"),
        BatchTopK(3, window=70, name="own"),
        MatryoshkaBatchTopK(3, prefixes=(1, 4), window=70, name="own"),
    ],
)
def test_save_and_load(rows, tmp_path, method):
    copy = type(method).from_config(method.get_config())
    assert copy.get_config() == method.get_config()
    ae = autoencoder(method, 0.5)
    ae.compile()
    keras_sae.fit(ae, rows, optimizer="adam", iterations=2, verbose=0)
    ae.save(tmp_path / "ae.keras")
    loaded = keras.saving.load_model(tmp_path / "ae.keras")
    config = loaded.sparsity.get_config()
    assert {k: v for k, v in config.items() if k not in ("name", "dtype")} == {
        k: v for k, v in method.get_config().items() if k not in ("name", "dtype")
    }
    np.testing.assert_array_equal(loaded(rows), ae(rows))
    np.testing.assert_array_equal(loaded.sparsity.silent, ae.sparsity.silent)


def test_an_autoencoder_takes_a_copy():
    method = TopK(2)
    first, second = keras_sae.SparseAutoencoder(4, method), keras_sae.SparseAutoencoder(5, method)
    first.build((None, 6))
    second.build((None, 6))
    assert first.sparsity is not second.sparsity
    assert not method.built
    assert keras_sae.SparseAutoencoder(5, first.sparsity).sparsity.built is False


@pytest.mark.parametrize("make", [TopK, BatchTopK, MatryoshkaBatchTopK])
def test_in_a_stack_and_below_a_classifier(rows, labels, make):
    stack = keras_sae.StackedAutoencoder(
        [autoencoder(make(3), 0.5), keras_sae.SparseAutoencoder(3, output_activation="linear")]
    )
    stack.pretrain(rows, optimizer="adam", iterations=1, verbose=0)
    keras_sae.fit(stack, rows, optimizer="adam", iterations=1, verbose=0)
    encoder = stack.classifier(3).get_layer("encoder")
    np.testing.assert_allclose(encoder(rows), stack.encode(rows), atol=1e-6)
    classifier = stack.classifier(3)
    classifier.compile(loss="sparse_categorical_crossentropy")
    keras_sae.fit(classifier, rows, labels[:7], optimizer="adam", iterations=1, verbose=0)


def test_a_stack_adds_the_terms_of_its_layers(rows):
    layers = [autoencoder(MatryoshkaBatchTopK(3)), autoencoder(TopK(3), units=4)]
    layers[1] = keras_sae.SparseAutoencoder(4, MatryoshkaBatchTopK(2), dtype="float64")
    stack = keras_sae.StackedAutoencoder(layers, dtype="float64")
    stack(rows, training=True)
    alone = []
    for layer, inputs in ((layers[0], rows), (layers[1], layers[0].encode(rows, training=True))):
        layer(inputs, training=True)
        alone += [float(loss) for loss in layer.losses]
    stack(rows, training=True)
    np.testing.assert_allclose([float(loss) for loss in stack.losses], alone, rtol=1e-12)
    assert len(alone) == 5


@pytest.mark.parametrize("make", [TopK, BatchTopK, MatryoshkaBatchTopK])
def test_resumes_bit_for_bit(tmp_path, make):
    x = np.random.default_rng(0).normal(size=(60, FEATURES)).astype("float32")

    def train(path, *epochs):
        for number in epochs:
            keras.utils.set_random_seed(0)
            ae = keras_sae.SparseAutoencoder(8, make(3), revive=keras_sae.sparsity.AuxK(k=2))
            ae.compile(keras.optimizers.Adam(0.01))
            keras_sae.fit(ae, x, None, None, number, batch_size=16, checkpoint=path, verbose=0)
        return ae

    once, twice = train(tmp_path / "a.npz", 6), train(tmp_path / "b.npz", 3, 6)
    for a, b in zip(once.get_weights(), twice.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
