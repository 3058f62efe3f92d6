"""The loss as the model is compiled with it, every term of it, and the targets that it can take."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from keras_sae import HalfSquaredError, KLSparsity, SummedBinaryCrossentropy
from tests.keras_sae.conftest import Batches, autoencoder, raises, two_layers

EXPECTED_LABELS = "Expected labels from 0 to 2, one number for each example. Received: "
EXPECTED_TARGETS = "or none: an autoencoder learns to return its inputs. Received: targets of shape "


def images(loss, **options):
    hidden = keras.layers.Conv2D(3, 3, padding="same", activation="sigmoid", activity_regularizer=KLSparsity(0.1, 3.0))
    output = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")
    model = keras.Sequential([keras.Input((4, 4, 1)), hidden, output])
    model.compile(loss=loss, **options)
    return model, np.random.default_rng(0).uniform(0.1, 0.9, (10, 4, 4, 1)).astype("float32")


@pytest.mark.parametrize("loss", ["mse", "mae", HalfSquaredError(), SummedBinaryCrossentropy()])
def test_losses_over_positions_are_those_of_evaluate(loss):
    model, x = images(loss)
    found = keras_sae.objective(model, x, x, chunk_size=3)
    assert found.value == pytest.approx(model.evaluate(x, x, batch_size=10, verbose=0), rel=1e-5)


def test_ours_are_summed_over_positions():
    model, x = images(HalfSquaredError())
    error = 0.5 * np.sum((np.asarray(model(x)) - x) ** 2) / 10
    assert keras_sae.objective(model, x, x).parts["data_loss"] == pytest.approx(error, rel=1e-5)


def test_loss_weights_count():
    model, x = images("mse")
    once = keras_sae.objective(model, x, x).parts
    for loss_weights in (2.5, [2.5]):
        model.compile(loss="mse", loss_weights=loss_weights)
        found = keras_sae.objective(model, x, x, chunk_size=3)
        assert found.value == pytest.approx(model.evaluate(x, x, batch_size=10, verbose=0), rel=1e-5)
        assert found.parts["data_loss"] == pytest.approx(2.5 * once["data_loss"], rel=1e-5)


class Shrinking(keras.layers.Layer):
    """Adds a mean over examples to the loss, or, if `together`, a square of one, which no chunk alone can tell."""

    def __init__(self, together=False, **kwargs):
        super().__init__(**kwargs)
        self.together = together

    def call(self, x):
        mean = keras.ops.mean(x)
        self.add_loss(keras.ops.square(mean) if self.together else mean)
        return x


@pytest.mark.parametrize("together", [False, True])
def test_losses_that_layers_add(together, x):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6), Shrinking(together)])
    model.compile(loss="mse")
    x = x.astype("float32")
    expected = model.evaluate(x, x, batch_size=23, verbose=0)
    assert keras_sae.objective(model, x, x).value == pytest.approx(expected, rel=1e-5)
    if not together:
        assert keras_sae.objective(model, x, x, chunk_size=7).value == pytest.approx(expected, rel=1e-5)
        return
    with raises(ValueError, "Expected losses added by layers to be means over examples", "chunk_size=len(x)"):
        keras_sae.objective(model, x, x, chunk_size=7)


class OfTheMean(keras.regularizers.Regularizer):
    def __call__(self, activations):
        number = keras.ops.cast(keras.ops.shape(activations)[0], activations.dtype)
        return number * keras.ops.sum(keras.ops.square(keras.ops.mean(activations, axis=0)))


def test_a_regularizer_of_the_mean_is_taken_over_all_rows_or_refused(x):
    ae = autoencoder(sparsity=OfTheMean(), weight_decay=0.0)
    features = np.asarray(ae.encode(x))
    parts = keras_sae.objective(ae, x, chunk_size=23).parts
    assert parts["sparsity"] == pytest.approx(np.sum(features.mean(axis=0) ** 2), rel=1e-10)
    for call in (
        lambda: keras_sae.objective(ae, x, chunk_size=12),
        lambda: keras_sae.objective(ae, x, sample_weight=np.ones(23)),
        lambda: keras_sae.objective(ae, tf.data.Dataset.from_tensor_slices(x).batch(7)),
    ):
        with raises(ValueError, "Expected losses added by layers to be means over examples", "KLSparsity"):
            call()


def test_what_cannot_be_taken_is_named(x):
    inputs = keras.Input((6,))
    two = keras.Model(inputs, [keras.layers.Dense(6)(inputs), keras.layers.Dense(2)(inputs)])
    two.compile(loss=["mse", "mse"])
    with raises(ValueError, "Expected one loss, of one output. Received: 2 losses."):
        keras_sae.objective(two, x, x)
    two.compile(loss="mse")
    with raises(ValueError, "Expected a model with one output. Received: 2 outputs."):
        keras_sae.objective(two, x, x)

    class Own(keras.Sequential):
        def compute_loss(self, *args, **kwargs):
            return 2 * super().compute_loss(*args, **kwargs)

    own = Own([keras.Input((6,)), keras.layers.Dense(6)])
    own.compile(loss="mse")
    with raises(ValueError, "Received: Own, which computes its own (compute_loss)"):
        keras_sae.objective(own, x, x)
    one = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])
    one.compile(loss=keras.losses.MeanSquaredError(reduction=None))
    with raises(ValueError, "Expected a loss that is a mean or a sum over examples", "reduction=None"):
        keras_sae.objective(one, x, x)


def test_masks(x):
    sequences = np.random.default_rng(0).random((9, 5, 3)).astype("float32")
    model = keras.Sequential([keras.Input((5, 3)), keras.layers.Masking(), keras.layers.Dense(3)])
    for loss in ("mse", HalfSquaredError()):
        model.compile(loss=loss)
        with raises(ValueError, "Expected outputs without a mask", "Received: masked outputs", "mask_zero=True"):
            keras_sae.objective(model, sequences, sequences)
    with raises(ValueError, "Expected outputs without a mask"):
        model.evaluate(sequences, sequences, verbose=0)
    hidden = keras_sae.layers.SparseDense(3)
    model = keras.Sequential([keras.Input((5, 3)), keras.layers.Masking(), hidden])
    with raises(ValueError, "Expected inputs without a mask", "Received: masked inputs"):
        model(sequences)


@pytest.mark.parametrize(("name", "built"), [("labels", True), ("column", False)])
def test_an_autoencoder_does_not_train_on_labels(built, name, x, labels):
    targets = {"labels": labels, "column": labels[:, None]}[name]
    shape = "1)" if targets.ndim == 2 else ",)"  # the rows may be unknown, in compiled functions
    for make in (
        lambda ae: keras_sae.objective(ae, x, targets),
        lambda ae: keras_sae.fit(ae, x, targets, verbose=0),
        lambda ae: keras_sae.fit(ae, x, targets, "adam", verbose=0),
        lambda ae: keras_sae.fit(ae, Batches(x, targets), verbose=0),
        lambda ae: ae.fit(x, targets, verbose=0),
        lambda ae: ae.fit(tf.data.Dataset.from_tensor_slices((x, targets)).batch(7), shuffle=False, verbose=0),
    ):
        ae = autoencoder(dtype="float32") if built else keras_sae.SparseAutoencoder(4)
        with raises(ValueError, EXPECTED_TARGETS, shape, "ds.map(lambda x, y: x)"):
            make(ae)
        ae.fit(x, verbose=0)  # it is as it was


def test_keras_losses_do_not_broadcast(x):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])
    model.compile(loss="mse")
    with raises(ValueError, EXPECTED_TARGETS + "(23, 1)"):
        keras_sae.objective(model, x, x[:, :1])
    one = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    one.compile(loss="mse")
    expected = one.evaluate(x, x[:, 0], batch_size=23, verbose=0)
    assert keras_sae.objective(one, x, x[:, 0]).value == pytest.approx(expected, rel=1e-5)


def test_labels_that_are_none(x, labels):
    classifier = two_layers(dtype="float32").classifier(3)
    wrong = {
        "none. A classifier needs them": None,
        "3 for example": labels + 1,
        "-1 for example": labels - 1,
        "0.5 for example 0": np.full(23, 0.5),
        "text. Number them: np.unique(labels, return_inverse=True)[1].": np.array(["cat", "dog", "fox"])[labels],
        "text": np.array(["cat", "dog", "fox"], dtype=object)[labels],
    }
    for received, y in wrong.items():
        for call in (
            lambda y=y: keras_sae.objective(classifier, x, y),
            lambda y=y: keras_sae.fit(classifier, x, y, verbose=0),
            lambda y=y: keras_sae.fit(classifier, x, y, "adam", verbose=0),
            lambda y=y: keras_sae.fit_head(classifier, x, y, verbose=0),
        ):
            with raises(ValueError, EXPECTED_LABELS + received.split(" for")[0]):
                call()
    with raises(ValueError, "Received shape: (23, 3). If they are one-hot: labels.argmax(axis=-1)."):
        keras_sae.objective(classifier, x, np.eye(3)[labels])
    with raises(ValueError, "Expected labels from 0 to 2", "Received: 3"):
        keras_sae.objective(classifier, Batches(x, labels + 1))


@pytest.mark.parametrize("kind", ["list", "column", "uint8", "float", "bool"])
def test_labels_in_other_clothes(kind, x, labels):
    classifier = two_layers().classifier(3)
    labels = labels % 2 if kind == "bool" else labels
    clothes = {
        "list": labels.tolist(), "column": labels[:, None], "uint8": labels.astype("uint8"),
        "float": labels.astype("float32"), "bool": labels.astype(bool),
    }  # fmt: skip
    expected = keras_sae.objective(classifier, x, labels).value
    assert keras_sae.objective(classifier, x, clothes[kind]).value == pytest.approx(expected, rel=1e-12)


def test_targets_that_are_no_numbers(x):
    with raises(ValueError, "Expected targets that are numbers. Received: text."):
        keras_sae.objective(autoencoder(), x, x.astype(str))


@pytest.mark.parametrize("door", ["objective", "lbfgs", "adam", "fit", "stack", "batches"])
def test_data_that_the_outputs_cannot_give(door, x):
    """Pixels from 0 to 255 into sigmoid outputs train, and nothing is learned."""
    ae, pixels = autoencoder(dtype="float32"), np.round(255 * x)
    stack = keras_sae.StackedAutoencoder([ae])
    calls = {
        "objective": lambda: keras_sae.objective(ae, pixels),
        "lbfgs": lambda: keras_sae.fit(ae, pixels, iterations=1, verbose=0),
        "adam": lambda: keras_sae.fit(ae, pixels, optimizer="adam", iterations=1, verbose=0),
        "fit": lambda: ae.fit(pixels, verbose=0),
        "stack": lambda: stack.pretrain(pixels, iterations=1, verbose=0),
        "batches": lambda: keras_sae.objective(ae, Batches(pixels)),
    }
    with pytest.warns(UserWarning, match=r"The sigmoid outputs of .* lie between 0 and 1, but 100% .* Scale the data"):
        calls[door]()


def test_outputs_that_can_give_the_data_do_not_warn(x):
    keras_sae.objective(autoencoder(output_activation="linear"), 255 * x)
    keras_sae.objective(autoencoder(activation="tanh", output_activation="tanh"), 2 * x - 1)
    some = x.copy()
    some[0, 0] = 1.2  # one value of 138
    keras_sae.objective(autoencoder(), some)
    stack = keras_sae.StackedAutoencoder([autoencoder(dtype="float32")], keras.layers.Rescaling(1 / 255))
    keras_sae.fit(stack, 255 * x, iterations=1, verbose=0)
