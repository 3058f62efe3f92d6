import keras
import numpy as np
import pytest
from keras import ops

import keras_sae
from keras_sae import KLSparsity, SparseAutoencoder, StackedAutoencoder
from tests.keras_sae.conftest import raises, same_weights, two_layers


def unbuilt(**options):
    return StackedAutoencoder([SparseAutoencoder(4, name="one", **options), SparseAutoencoder(3, name="two")])


def test_weights_from_the_input_upwards():
    shapes = [w.shape for w in two_layers().get_weights()]
    assert shapes == [(6, 4), (4,), (4, 6), (6,), (4, 3), (3,), (3, 4), (4,)]


def test_encode_and_decode_go_through_all_layers(x):
    stack = two_layers()
    lower, upper = stack.autoencoders
    features = stack.encode(x)
    np.testing.assert_allclose(features, upper.encode(lower.encode(x)), rtol=1e-12)
    np.testing.assert_allclose(stack.decode(features), lower.decode(upper.decode(features)), rtol=1e-12)
    np.testing.assert_allclose(stack(x), stack.decode(stack.encode(x)), rtol=1e-12)
    np.testing.assert_allclose(stack.autoencoder(x), stack(x), rtol=1e-12)


def test_encoder_is_a_model(x):
    stack = two_layers()
    assert isinstance(stack.encoder, keras.Model)
    assert (stack.encoder.input_shape, stack.encoder.output_shape) == ((None, 6), (None, 3))
    np.testing.assert_allclose(stack.encoder(x), stack.encode(x), rtol=1e-12)


def test_pretraining_is_greedy(x):
    """As training the layers by hand: the second on the features of the first as trained."""
    stack, by_hand = unbuilt(), unbuilt()
    by_hand.build(x.shape)
    stack.build(x.shape)
    by_hand.set_weights(stack.get_weights())
    options = {"max_iterations": 4, "verbose": 0}
    histories = stack.pretrain(x, **options)
    lower, upper = by_hand.autoencoders
    expected = [keras_sae.fit_lbfgs(lower, x, **options)]
    expected.append(keras_sae.fit_lbfgs(upper, ops.convert_to_numpy(lower.encode(x)), **options))
    for found, wanted in zip(histories, expected, strict=True):
        assert found.history["loss"] == pytest.approx(wanted.history["loss"], rel=1e-5)
    for found, wanted in zip(stack.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_moving_averages_in_a_stack(x):
    """Training the whole stack moves the averages of all its layers; the classifier has none of them."""
    penalty = KLSparsity(0.2, 1.0, average="moving")
    stack = StackedAutoencoder([SparseAutoencoder(units, penalty) for units in (4, 3)])
    stack.fit(x, batch_size=23, epochs=2, verbose=0)
    averages = [ae.encoder.get_layer("average") for ae in stack.autoencoders]
    exact = keras_sae.objective(stack, x).rho_hat
    for average, rho_hat in zip(averages, exact, strict=True):
        np.testing.assert_allclose(average.mean, rho_hat, atol=0.01)  # two steps of Adam further
    assert [w.shape for w in stack.get_weights()] == [w.shape for w in two_layers().get_weights()]
    before = [ops.convert_to_numpy(average.mean) for average in averages]
    classifier = stack.classifier(num_classes=3)
    np.testing.assert_allclose(classifier.get_layer("encoder")(x), stack.encode(x), rtol=1e-6)
    classifier.fit(x, np.zeros(23), verbose=0)
    np.testing.assert_array_equal(before[0], averages[0].mean)
    np.testing.assert_array_equal(before[1], averages[1].mean)


def test_pretraining_on_minibatches(x):
    stack = unbuilt()
    histories = stack.pretrain(x, fit=SparseAutoencoder.fit, epochs=3, batch_size=8, verbose=0)
    assert [len(h.history["loss"]) for h in histories] == [3, 3]
    assert all(h.history["loss"][-1] < h.history["loss"][0] for h in histories)


def test_pretraining_keeps_the_loss_an_autoencoder_was_compiled_with(x):
    stack, inputs = unbuilt(), []
    stack.autoencoders[0].compile(loss=keras_sae.SummedBinaryCrossentropy())

    def fit(autoencoder, data, note):
        inputs.append((type(autoencoder.loss), data.shape, note))

    stack.pretrain(x, fit=fit, note="passed on")
    assert inputs == [
        (keras_sae.SummedBinaryCrossentropy, (23, 6), "passed on"),
        (type(None), (23, 4), "passed on"),  # not compiled: training takes the default
    ]


def test_stack_trains_as_a_whole(x):
    stack = two_layers(dtype="float32", sparsity=KLSparsity(0.2, 1.0), weight_decay=0.01)
    stack.compile()
    expected = keras_sae.objective(stack, x).value
    assert stack.evaluate(x, batch_size=23, verbose=0) == pytest.approx(expected, rel=1e-5)
    before = stack.get_weights()
    history = keras_sae.fit_lbfgs(stack, x, max_iterations=5, verbose=0).history
    assert history["loss"][-1] < expected
    assert not any(np.array_equal(a, b) for a, b in zip(before, stack.get_weights(), strict=True))


def test_classifier_begins_with_the_features_of_the_stack(x):
    stack = two_layers()
    classifier = stack.classifier(3)
    np.testing.assert_allclose(classifier.get_layer("encoder")(x), stack.encode(x), rtol=1e-12)
    probabilities = ops.convert_to_numpy(classifier(x))
    assert probabilities.shape == (23, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert [w.shape for w in classifier.get_weights()] == [(6, 4), (4,), (4, 3), (3,), (3, 3), (3,)]


@pytest.mark.parametrize("how", ["fit", "fit_lbfgs"])
def test_training_the_classifier_leaves_the_stack_untouched(how, x, labels):
    stack, copy = two_layers(dtype="float32"), two_layers(dtype="float32")
    classifier = stack.classifier(3)
    before = classifier.get_weights()
    if how == "fit":
        classifier.fit(x, labels, epochs=2, verbose=0)
    else:
        keras_sae.fit_lbfgs(classifier, x, labels, max_iterations=2, verbose=0)
    assert not np.array_equal(before[0], classifier.get_weights()[0])
    assert same_weights(stack, copy)


def test_classifier_penalises_the_head_alone(x, labels):
    classifier = two_layers(weight_decay=5.0, sparsity=KLSparsity(0.01, 50.0)).classifier(3, weight_decay=0.1)
    theta = classifier.get_layer("head").get_weights()[0]
    parts = keras_sae.objective(classifier, x, labels).parts
    assert parts["weight_decay"] == pytest.approx(0.05 * np.sum(theta**2), rel=1e-10)
    assert parts["sparsity"] == 0


def test_classifier_is_compiled_for_integer_labels(x, labels):
    classifier = two_layers(dtype="float32").classifier(3, weight_decay=0.1)
    loss, accuracy = classifier.evaluate(x, labels, batch_size=23, verbose=0)
    assert loss == pytest.approx(keras_sae.objective(classifier, x, labels).value, rel=1e-5)
    predicted = classifier.predict(x, verbose=0).argmax(axis=1)
    assert accuracy == pytest.approx(np.mean(predicted == labels), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_reaches_every_layer(dtype, x):
    stack = two_layers(dtype=dtype)
    classifier = stack.classifier(3)
    for output in (stack.encode(x), stack(x), classifier(x)):
        assert keras.backend.standardize_dtype(output.dtype) == dtype


@pytest.mark.parametrize("tied", [False, True])
def test_plain_keras_loads_what_was_saved(tied, x, tmp_path):
    options = {"tied": tied, "activation": "tanh", "corruption": 0.25, "sparsity": KLSparsity(0.2, 5.0)}
    stack = two_layers(dtype="float32", **options)
    stack.save(tmp_path / "stack.keras")
    copy = keras.saving.load_model(tmp_path / "stack.keras")
    assert type(copy) is StackedAutoencoder
    assert (copy.name, copy.dtype) == (stack.name, stack.dtype)
    assert [ae.get_config() for ae in copy.autoencoders] == [ae.get_config() for ae in stack.autoencoders]
    assert same_weights(copy, stack)
    np.testing.assert_allclose(copy(x), stack(x), rtol=1e-6)
    np.testing.assert_allclose(copy.encoder(x), stack.encoder(x), rtol=1e-6)


def test_plain_keras_loads_a_pretrained_stack(x, tmp_path):
    stack = unbuilt()
    stack.pretrain(x, fit=SparseAutoencoder.fit, epochs=1, verbose=0)
    stack.save(tmp_path / "stack.keras")
    copy = keras.saving.load_model(tmp_path / "stack.keras")
    np.testing.assert_allclose(copy(x), stack(x), rtol=1e-6)


def test_plain_keras_loads_a_classifier(x, labels, tmp_path):
    classifier = two_layers(dtype="float32").classifier(3, weight_decay=0.1)
    classifier.fit(x, labels, verbose=0)
    classifier.save(tmp_path / "classifier.keras")
    copy = keras.saving.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(copy(x), classifier(x), rtol=1e-6)
    found, expected = (keras_sae.objective(model, x, labels) for model in (copy, classifier))
    assert found.parts == pytest.approx(expected.parts, rel=1e-6)
    assert found.parts["weight_decay"] > 0


@pytest.mark.parametrize("autoencoders", [[], None, [SparseAutoencoder(3), "four"], [keras.layers.Dense(3)]])
def test_stack_of_something_else(autoencoders):
    with raises(ValueError, "Expected a list of one or more SparseAutoencoder", f"Received: {autoencoders}"):
        StackedAutoencoder(autoencoders)


def test_encoder_before_the_number_of_features_is_known():
    for use in (lambda stack: stack.encoder, lambda stack: stack.classifier(3)):
        with raises(ValueError, "The StackedAutoencoder has no weights yet", "build((None, features)) first"):
            use(unbuilt())


@pytest.mark.parametrize("number", [1, 0, -3])
def test_classifier_of_fewer_than_two_classes(number):
    with raises(ValueError, "`num_classes` must be 2 or more", f"num_classes={number}"):
        two_layers().classifier(number)
