"""Splice and loss_recovered: by hand, beside NumPy, in every kind of model, saved. (On digits: the README.)"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_sae
from keras_sae import LossRecovered, Splice, loss_recovered
from keras_sae.host.layer_outputs import layer_outputs
from tests.keras_sae.conftest import Batches, raises, randomise
from tests.keras_sae.host.test_layer_outputs import MODELS, functional

X = np.array([[1.0, 1.0], [2.0, 0.0]], "float32")
Y = np.array([[12.0], [3.0]], "float32")


@pytest.fixture
def model():
    """y = a_1 + 10 a_2, and a = x."""
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(2, use_bias=False, name="hidden"),
            keras.layers.Dense(1, use_bias=False, name="sum"),
        ],
        name="model",
    )
    model.set_weights([np.eye(2), np.array([[1.0], [10.0]])])
    model.compile(loss="mse")
    model.optimizer.build(model.trainable_variables)  # or loading warns that it has no state
    return model


@pytest.fixture
def sae():
    """z = (a_1, 2 a_2) and xhat = (z_1, z_2 / 4)."""
    sae = keras_sae.SparseAutoencoder(2, None, 0.0, "linear", "linear")
    sae.build((None, 2))
    sae.set_weights([np.diag([1.0, 2.0]), np.zeros(2), np.diag([1.0, 0.25]), np.zeros(2)])
    return sae


@keras.saving.register_keras_serializable("tests")
def negative(codes):
    return -codes


# Arguments -> what the model gives for the two rows of X, whose codes are (1, 2) and (2, 0).
BY_HAND = {
    "plain": ({}, [1 + 5, 2]),
    "ablate": ({"ablate": [0]}, [5, 0]),
    "clamp": ({"clamp": {1: 4}}, [1 + 10, 2 + 10]),
    "scale": ({"scale": {0: 3, 1: 0.5}}, [3 + 2.5, 6]),
    "several": ({"ablate": np.array([1]), "clamp": {0: 7.5}}, [7.5, 7.5]),
    "edit": ({"edit": negative}, [-6, -2]),
    "edit after": ({"edit": negative, "clamp": {0: 3}}, [-3 - 5, -3]),
    "layer": ({"edit": keras.layers.Rescaling(2.0)}, [12, 4]),
    "error kept": ({"keep_error": True}, [1 + 10, 2]),
    "error kept, ablate": ({"keep_error": True, "ablate": [0]}, [10, 0]),
    "error kept, clamp": ({"keep_error": True, "clamp": {1: 4}}, [1 + 10 + 5, 2 + 10]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name, model, sae):
    options, expected = BY_HAND[name]
    spliced = Splice(model, "hidden", sae, **options)
    np.testing.assert_allclose(np.ravel(spliced(X)), expected)
    np.testing.assert_allclose(np.ravel(model(X)), [11, 2])  # stays as it is


@pytest.mark.parametrize("name", BY_HAND)
def test_saved_and_loaded(name, model, sae, tmp_path):
    options, expected = BY_HAND[name]
    Splice(model, "hidden", sae, **options).save(tmp_path / "spliced.keras")
    loaded = keras.models.load_model(tmp_path / "spliced.keras")
    np.testing.assert_allclose(np.ravel(loaded(X)), expected)
    assert loaded.get_config().keys() == Splice(model, "hidden", sae).get_config().keys()
    np.testing.assert_allclose(np.ravel(Splice.from_config(loaded.get_config()).replaced(X)).shape, (4,))


def dictionary(features, **options):
    """A TopK autoencoder with random weights."""
    options = {"units": 5, "sparsity": keras_sae.sparsity.TopK(2)} | options
    sae = keras_sae.SparseAutoencoder(**options)
    sae.build((None, features))
    return randomise(sae)


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model(kind, x, tmp_path):
    model, sae = randomise(MODELS[kind]()), dictionary(3)
    first, hidden, last = (keras_layer(model, name) for name in ("first", "hidden", "last"))
    expected = last(sae(hidden(first(x))))
    spliced = Splice(model, "hidden", sae)
    np.testing.assert_allclose(spliced(x), expected, rtol=1e-5)
    np.testing.assert_allclose(Splice(model, hidden, sae).predict(x, verbose=0), expected, rtol=1e-5)
    np.testing.assert_array_equal(Splice(model, "hidden", sae, keep_error=True)(x), model(x))
    spliced.save(tmp_path / "spliced.keras")
    loaded = keras.models.load_model(tmp_path / "spliced.keras")
    np.testing.assert_array_equal(loaded(x), spliced(x))


def keras_layer(model, name):
    return next(layer for layer in model._flatten_layers() if layer.name == name)


@pytest.mark.parametrize("shape", [(5,), (3, 4)])
def test_layers_with_positions(shape):
    """Each position is a row: beside the autoencoder on rows, with an edit."""
    model = keras.Sequential([keras.Input((*shape, 2)), keras.layers.Dense(3, "tanh", name="hidden")])
    model.add(keras.layers.GlobalAveragePooling1D() if len(shape) == 1 else keras.layers.GlobalAveragePooling2D())
    x, sae = np.random.default_rng(0).normal(size=(7, *shape, 2)).astype("float32"), dictionary(3)
    codes = sae.transform(np.reshape(model.layers[0](x), (-1, 3)))
    codes[:, 1] = 0
    expected = np.reshape(sae.decode(codes), (7, -1, 3)).mean(axis=1)
    found = Splice(model, "hidden", sae, ablate=[1])
    np.testing.assert_allclose(found(x), expected, rtol=1e-4, atol=1e-6)
    assert found(keras.Input((*shape, 2))).shape == (None, 3)


def test_a_stack_and_two_splices(x):
    model = randomise(functional())
    saes = [keras_sae.SparseAutoencoder(units, None) for units in (5, 4)]
    stack = keras_sae.StackedAutoencoder(saes)
    stack.build((None, 4))
    twice = Splice(Splice(model, "first", stack), "hidden", sae := dictionary(3))
    first, hidden, last = (model.get_layer(name) for name in ("first", "hidden", "last"))
    np.testing.assert_allclose(twice(x), last(sae(hidden(stack(first(x))))), rtol=1e-5)


def test_half_precision_and_its_types(x):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="hidden", dtype="mixed_bfloat16")])
    outputs = Splice(model, "hidden", sae := dictionary(3))(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    expected = sae(ops.cast(model(x), "float32"))
    np.testing.assert_allclose(ops.cast(outputs, "float32"), expected, rtol=0.01, atol=0.01)


def test_it_is_trained_and_evaluated_as_a_model_without_penalties_of_the_autoencoder(model):
    sae = keras_sae.SparseAutoencoder(4, keras_sae.KLSparsity(0.1, 3.0), 1.0)
    sae.build((None, 2))
    spliced = Splice(model, "hidden", sae)
    spliced.compile("sgd", loss="mse")
    expected = np.mean((Y - spliced(X)) ** 2)
    assert spliced.evaluate(X, Y, verbose=0) == pytest.approx(expected, rel=1e-5)
    spliced.fit(X, Y, epochs=1, verbose=0)
    assert np.mean((Y - spliced(X)) ** 2) < expected


@pytest.mark.parametrize("unit", range(5))
def test_an_edit_changes_what_it_is_about_alone(unit, x):
    """With the error kept, rows for which an ablated unit is silent stay as they are, to the bit."""
    model, sae = randomise(functional()), dictionary(3)
    silent = sae.transform(layer_outputs(model, model.get_layer("hidden"), x))[:, unit] == 0
    ablated, plain = map(np.array, (Splice(model, "hidden", sae, ablate=[unit], keep_error=True)(x), model(x)))
    np.testing.assert_array_equal((ablated != plain).any(axis=1), ~silent)


def test_what_cannot_be_spliced(model, sae):
    with raises(ValueError, "Expected a layer of model, which has: hidden, sum. Received: 'none'."):
        Splice(model, "none", sae)
    with raises(ValueError, "Expected an autoencoder of this library, without preprocessing", "Received: Sequential."):
        Splice(model, "hidden", model)
    scaled = keras_sae.StackedAutoencoder([sae], preprocessing=keras.layers.Rescaling(2.0))
    scaled.build((None, 2))
    with raises(
        ValueError, "without preprocessing, so that it gives back what it takes. Received: StackedAutoencoder."
    ):
        Splice(model, "hidden", scaled)
    with raises(ValueError, "Expected a layer of 2 units, as the autoencoder takes. Received: sum, which has 1."):
        Splice(model, "sum", sae)(X)
    with raises(ValueError, "The SparseAutoencoder has no weights yet"):
        Splice(model, "hidden", keras_sae.SparseAutoencoder(2))
    inputs = keras.Input((2,))
    shared = keras.layers.Dense(2, name="shared")
    with raises(ValueError, "Expected one call of shared (Dense) when ", "Received: 2 calls."):
        Splice(keras.Model(inputs, shared(shared(inputs))), "shared", sae)(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ablate": [2]}, "Expected units from 0 to 1. Received: 2."),
        ({"clamp": {-1: 3.0}}, "Expected units from 0 to 1. Received: -1."),
        ({"ablate": [1], "scale": {1: 2.0}}, "Expected one edit of each unit. Received: two of unit 1. Leave one out."),
        ({"ablate": [0, 0]}, "Expected one edit of each unit. Received: two of unit 0."),
    ],
)
def test_units_that_cannot_be_edited(options, message, model, sae):
    with raises(ValueError, message):
        Splice(model, "hidden", sae, **options)


# --- loss recovered ---


def test_loss_recovered_by_hand(model, sae):
    """The model gives 11 and 2, the splice 6 and 2, zeros 0; targets are 12 and 3."""
    found = loss_recovered(Splice(model, "hidden", sae), X, Y)
    assert found == pytest.approx(LossRecovered((76.5 - 18.5) / 75.5, 1.0, (36 + 1) / 2, (144 + 9) / 2))


def test_with_means_in_place(model, sae):
    """The mean of what the layer gives is (1.5, 0.5), of which the model makes 6.5."""
    found = loss_recovered(Splice(model, "hidden", sae), X, Y, "mean")
    ablated = (5.5**2 + 3.5**2) / 2
    assert found == pytest.approx(LossRecovered((ablated - 18.5) / (ablated - 1), 1.0, 18.5, ablated))


def test_with_weights(model, sae):
    found = loss_recovered(Splice(model, "hidden", sae), X, Y, sample_weight=[3.0, 1.0])
    assert found == pytest.approx(LossRecovered((110.25 - 27.25) / 109.25, 1.0, (3 * 36 + 1) / 4, (3 * 144 + 9) / 4))


def test_edits_count_and_the_error_term_recovers_all(model, sae):
    assert loss_recovered(Splice(model, "hidden", sae, keep_error=True), X, Y).value == 1
    assert loss_recovered(Splice(model, "hidden", sae, ablate=[0, 1]), X, Y).value == 0
    assert np.isnan(loss_recovered(Splice(model, "hidden", sae), np.zeros((2, 2)), Y).value)


LOSSES = {
    "mse": lambda y, p: ((y - p) ** 2).mean(axis=1),
    "mae": lambda y, p: np.abs(y - p).mean(axis=1),
    "categorical_crossentropy": lambda y, p: -(y * np.log(p)).sum(axis=1),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_beside_numpy(name, ablation, x):
    """Any compiled loss, in batches of any size."""
    rng = np.random.default_rng(0)
    w1, w2 = rng.normal(size=(6, 3)), rng.normal(size=(3, 2))
    y = rng.dirichlet([1, 1], len(x))
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, "tanh", name="hidden")])
    model.add(keras.layers.Dense(2, "softmax", kernel_regularizer="l2"))
    model.set_weights([w1, np.zeros(3), w2, np.zeros(2)])
    model.compile(loss=name)
    sae = dictionary(3)

    def mean_loss(a):
        p = np.exp(a @ w2)
        return LOSSES[name](y, p / p.sum(axis=1, keepdims=True)).mean()

    a = np.tanh(x @ w1)
    instead = np.zeros_like(a) if ablation == "zero" else np.broadcast_to(a.mean(axis=0), a.shape)
    clean, spliced, ablated = map(mean_loss, (a, sae.reconstruct(a).astype("float64"), instead))
    expected = LossRecovered((ablated - spliced) / (ablated - clean), clean, spliced, ablated)
    splice = Splice(model, "hidden", sae)
    for found in (
        loss_recovered(splice, x, y, ablation, batch_size=5),
        loss_recovered(splice, Batches(x.astype("float32"), y.astype("float32")), ablation=ablation),
    ):
        np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_losses_of_positions():
    """Sparse labels of each token: the mean over tokens, then over examples."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 4, 2)).astype("float32"), rng.integers(0, 3, (5, 4))
    model = keras.Sequential([keras.Input((4, 2)), keras.layers.Dense(3, name="hidden"), keras.layers.Softmax()])
    model.compile(loss="sparse_categorical_crossentropy")
    found = loss_recovered(Splice(model, "hidden", dictionary(3)), x, y)
    assert found.clean == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)
    assert found.ablated == pytest.approx(np.log(3), rel=1e-5)


def test_what_has_no_loss_to_recover(model, sae):
    spliced = Splice(model, "hidden", sae)
    with raises(ValueError, 'Expected `ablation` as "zero" or "mean". Received: \'noise\''):
        loss_recovered(spliced, X, Y, "noise")
    with raises(ValueError, "Expected targets: (spliced, x, y), or a data set of (x, y). Received: x alone."):
        loss_recovered(spliced, X)
    untrained = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="hidden")], name="untrained")
    with raises(ValueError, "call untrained.compile(loss=...) first."):
        loss_recovered(Splice(untrained, "hidden", sae), X, Y)
