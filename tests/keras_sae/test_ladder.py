"""The ladder network: its loss and statistics beside NumPy, few labels, and the ordinary classifier that it becomes."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_sae
from keras_sae import LadderClassifier, backend
from keras_sae.combinator import Combinator
from keras_sae.ladder import EPSILON, known_crossentropy
from tests.keras_sae.conftest import raises, randomise, same_weights


def ladder(units=(5, 4), classes=3, noise=0.0, **options):
    """A ladder network for `x` with random weights, in float64 and without noise unless told otherwise."""
    model = LadderClassifier(units, classes, noise, **{"dtype": "float64", "reconstruction_weight": 20.0} | options)
    model.build((None, 6))
    return randomise(model)


def normalised(z):
    return (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + EPSILON)


def softmax(z):
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


def combined(z, u, weights):
    """The combinator, in NumPy: `weights` are three kernels (inputs, outputs, units), then three biases."""
    values = np.stack([u, z, u * z])
    for number, (kernel, bias) in enumerate(zip(weights[:3], weights[3:], strict=True)):
        values = np.einsum("iru,iou->oru", values, kernel) + bias[:, None]
        values = values if number == 2 else np.maximum(values, values / 10)
    return values[0]


def twin(model, x):
    """(probabilities, reconstruction) of a ladder network without noise, in NumPy."""
    kernels, decoders, betas = (
        [np.asarray(w) for w in weights] for weights in (model.kernels, model.decoders, model.betas)
    )
    combinators = [combinator.get_weights() for combinator in model.combinators]
    zs, h = [x], x
    for kernel, beta in zip(kernels, betas, strict=True):
        zs.append(normalised(h @ kernel))
        h = np.maximum(zs[-1] + beta, 0)
    probabilities = softmax(np.asarray(model.gamma) * (zs[-1] + betas[-1]))
    u = normalised(probabilities)
    for z, decoder, weights in zip(zs[:0:-1], decoders[::-1], combinators[:0:-1], strict=True):
        u = normalised(combined(z, u, weights) @ decoder)
    return probabilities, combined(x, u, combinators[0])


def loss_of(model, x, y):
    probabilities = model(x, training=True)
    return model.compute_loss(x, y, probabilities, training=True)


def test_the_loss_is_that_of_numpy(x, labels, floatx64):
    model = ladder()
    model.compile()
    probabilities, reconstruction = twin(model, x)
    expected = -np.log(probabilities[np.arange(23), labels]).mean() + 20 * ((reconstruction - x) ** 2).mean()
    np.testing.assert_allclose(ops.convert_to_numpy(model(x, training=True)), probabilities, rtol=1e-10)
    assert float(loss_of(model, x, labels)) == pytest.approx(expected, rel=1e-8)


def test_gradients_agree_with_central_differences(x, labels, floatx64):
    model = ladder()
    model.compile()
    value = backend.compile_gradients(lambda values, *_: (total(model, values, x, labels),) * 2)
    gradients = value([ops.copy(variable) for variable in model.trainable_variables])[1]
    rng = np.random.default_rng(0)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        start, direction = np.asarray(variable), rng.standard_normal(variable.shape)
        ends = []
        for step in (1e-6, -1e-6):
            variable.assign(start + step * direction)
            ends.append(float(loss_of(model, x, labels)))
        variable.assign(start)
        slope = (ends[0] - ends[1]) / 2e-6
        assert (np.asarray(gradient) * direction).sum() == pytest.approx(slope, rel=1e-6, abs=1e-8), variable.path


@pytest.fixture
def floatx64():
    """Keras computes the loss itself in the dtype of floatx."""
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


def total(model, values, x, labels):
    with backend.at(model.trainable_variables, values):
        return loss_of(model, x, labels)


def test_noise_is_in_the_inputs_and_in_every_layer():
    """Of constant inputs the layers are 0 but for the noise, which is then what their deviation is."""
    model = ladder(noise=0.3)
    noisy = model._noisy(np.full((4000, 6), 0.5))[0]
    for z in noisy[1:]:
        assert ops.convert_to_numpy(z).std() == pytest.approx((1 + 0.3**2) ** 0.5, rel=0.02)
    assert (ops.convert_to_numpy(noisy[0]) - 0.5).std() == pytest.approx(0.3, rel=0.02)
    assert not np.array_equal(noisy[0], model._noisy(np.full((4000, 6), 0.5))[0][0])


def test_after_training_means_and_deviations_are_those_of_all_rows(x, labels):
    model = ladder(dtype="float32")
    model.compile("adam")
    keras_sae.fit(model, x, labels, None, iterations=1, batch_size=12, verbose=0)
    expected = twin(model, x)[0]  # one minibatch of all rows has these means and deviations
    np.testing.assert_allclose(keras_sae.predict_in_chunks(model, x), expected, rtol=1e-3, atol=1e-5)


def test_it_becomes_an_ordinary_classifier(x, labels):
    model = ladder()
    model.finish(x)
    classifier = model.classifier()
    np.testing.assert_allclose(classifier(x), ops.convert_to_numpy(model(x)), rtol=1e-8)
    assert [type(layer) for layer in classifier.get_layer("encoder").layers[1:]] == [keras.layers.Dense] * 2
    assert classifier.evaluate(x, labels, verbose=0)[1] == pytest.approx(
        (ops.convert_to_numpy(model(x)).argmax(axis=1) == labels).mean()
    )


def test_a_unit_that_is_constant_stays_so(x):
    model = ladder()
    model.kernels[0].assign(np.zeros((6, 5)))
    model.finish(x)
    assert np.isfinite(model.classifier().predict(x, verbose=0)).all()


def test_labels_below_zero_are_unknown():
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0], [0.9, 0.1]])
    found = ops.convert_to_numpy(known_crossentropy(np.array([0, 1, -1, -1]), probabilities))
    np.testing.assert_allclose(found, [-2 * np.log(0.5), -2 * np.log(0.75), 0, 0])
    assert float(ops.sum(known_crossentropy(np.array([-1, -1, -1, -1]), probabilities))) == 0


def test_few_labels_are_learned_with_all_rows(compiled):
    """Two clouds: two labels tell which is which."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = (rng.normal(size=(200, 6)) * 0.3 + np.where(y[:, None], 1.0, -1.0)).astype("float32")
    keras.utils.set_random_seed(0)
    model = LadderClassifier((8,), 2, reconstruction_weight=5.0)
    known = np.where(np.arange(200) < 2, y, -1)
    keras_sae.fit(model, x, known, keras.optimizers.Adam(0.02), iterations=10, batch_size=50, verbose=0)
    assert (keras_sae.predict_in_chunks(model, x).argmax(axis=1) == y).mean() > 0.95
    assert model._labelled is None


def test_labels_that_are_all_unknown_are_refused(x):
    with raises(ValueError, "Expected labels of which some are 0 or more. Received: none that is known."):
        keras_sae.fit(ladder(dtype="float32"), x, np.full(23, -1), "adam", iterations=1, verbose=0)


@pytest.mark.parametrize("known", [23, 5])
def test_training_goes_on_where_it_was_stopped_bit_for_bit(known, x, labels, tmp_path):
    labels = np.where(np.arange(23) < known, labels, -1)

    def trained(*epochs, path):
        keras.utils.set_random_seed(0)
        for number in epochs:
            model = LadderClassifier((5,), 3)
            keras_sae.fit(model, x, labels, "adam", iterations=number, batch_size=12, checkpoint=path, verbose=0)
        return model

    assert same_weights(trained(1, 2, path=tmp_path / "two.npz"), trained(2, path=tmp_path / "one.npz"))


def test_arguments_and_weights_survive_files(x, tmp_path):
    model = ladder(noise=0.2, reconstruction_weight=7.0)
    model.finish(x)
    model.save(tmp_path / "ladder.keras")
    loaded = keras.saving.load_model(tmp_path / "ladder.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded(x), model(x))


def test_a_combinator_begins_near_zero():
    layer = Combinator()
    found = ops.convert_to_numpy(layer([np.ones((2, 3), "float32"), np.ones((2, 3), "float32")]))
    assert found.shape == (2, 3)
    assert abs(found).max() < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((5,), 1), "`num_classes` must be 2 or more. Received: num_classes=1"),
        (((), 3), "Expected `units` of one hidden layer or more, each 1 or more. Received: units=()"),
        (((5, 0), 3), "Received: units=(5, 0)"),
    ],
)
def test_wrong_arguments(arguments, message):
    with raises(ValueError, message):
        LadderClassifier(*arguments)


def relu_stack(units=(5, 4), **options):
    settings = {"sparsity": None, "activation": "relu", "output_activation": "linear", "dtype": "float64"} | options
    stack = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(number, **settings) for number in units])
    stack.build((None, 6))
    for autoencoder in stack.autoencoders:
        randomise(autoencoder)
    return stack


def test_it_starts_from_a_stack_and_gives_what_that_gives(x, floatx64):
    """Of a unit on the way: divided by its deviation before the activation."""
    model, stack = ladder(), relu_stack()
    model.start_from(stack, x)
    h = x
    for layer, autoencoder in enumerate(stack.autoencoders, 1):
        kernel, bias, decoder = autoencoder.get_weights()[:3]
        deviation = (h @ kernel).std(axis=0)
        h = np.maximum(h @ kernel + bias, 0)
        np.testing.assert_allclose(ops.convert_to_numpy(model._clean(x, layer)) * deviation, h, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(np.asarray(model.decoders[layer - 1]), deviation[:, None] * decoder, rtol=1e-6)
    np.testing.assert_allclose(h, ops.convert_to_numpy(stack.encode(x)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "received"), [({"units": (5, 3)}, "(5, 3), relu"), ({"activation": "sigmoid"}, "(5, 4), sigmoid")]
)
def test_it_starts_from_no_other_stack(options, received, x):
    with raises(ValueError, "Expected a stack of (5, 4) units, all 'relu'. Received: " + received):
        ladder().start_from(relu_stack(**options), x)


def test_validation_data_are_measured_with_the_means_of_all_rows(x, labels):
    model = ladder(dtype="float32")
    history = keras_sae.fit(
        model, x, labels, "adam", iterations=2, batch_size=12, validation_data=(x, labels), verbose=0
    ).history
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(x, labels, verbose=0), rel=1e-4)


def test_the_fit_of_keras_sets_means_and_deviations(x, labels):
    model = ladder(dtype="float32")
    model.fit(x.astype("float32"), labels, batch_size=12, verbose=0)
    before = [mean.numpy() for mean in model.means]
    model.finish(x)
    for one, other in zip(before, model.means, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert any(mean.any() for mean in before)


def test_weights_beside_unknown_labels_are_refused(x, labels):
    with raises(ValueError, "Expected no weights of examples or classes where some labels are unknown", "Leave it out"):
        keras_sae.fit(
            ladder(dtype="float32"), x, np.where(labels, labels, -1), "adam", 1, class_weight={1: 2.0}, verbose=0
        )
