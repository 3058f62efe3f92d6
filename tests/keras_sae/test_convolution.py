"""An encoder of patches over whole images: each place by itself, in NumPy, is what the convolution gives."""

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.data.preprocessing import fit_preprocessing, fit_zca
from tests.keras_sae.conftest import raises, randomise

IMAGE, PATCH, UNITS = (9, 11), (3, 4), 5


def stack(channels=1, layers=(UNITS,), preprocessing=True, **options):
    """A stack of random weights for patches of PATCH, with a ZCA of random patches, in float64."""
    features = PATCH[0] * PATCH[1] * channels
    x = np.random.default_rng(1).uniform(size=(100, features)) ** 2
    autoencoders = [keras_sae.SparseAutoencoder(n, dtype="float64", **options) for n in layers]
    steps = fit_zca(x, 0.1) if preprocessing is True else preprocessing
    model = keras_sae.StackedAutoencoder(autoencoders, steps, dtype="float64")
    model.build((None, features))
    return randomise(model)


def images(channels=1, number=3):
    return np.random.default_rng(0).uniform(size=(number, *IMAGE, channels))


def by_patches(encoder, x, pool):
    """What `encoder` makes of each patch of images (number, height, width, channels), averaged over squares."""
    places = [x.shape[axis + 1] - PATCH[axis] + 1 for axis in range(2)]
    activations = np.stack(
        [
            [
                keras.ops.convert_to_numpy(encoder(x[:, r : r + PATCH[0], c : c + PATCH[1]].reshape(len(x), -1)))
                for c in range(places[1])
            ]
            for r in range(places[0])
        ]
    )  # (rows, columns, images, units)
    squares = [
        activations[r : r + pool, c : c + pool].mean(axis=(0, 1))
        for r in range(0, places[0] - pool + 1, pool)
        for c in range(0, places[1] - pool + 1, pool)
    ]
    return np.concatenate(squares, axis=1)


@pytest.mark.parametrize("pool", [1, 3, 7])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_encoder_on_every_patch_averaged(channels, pool):
    model, x = stack(channels), images(channels)
    shape = (*IMAGE, 3) if channels == 3 else IMAGE
    encoder = keras_sae.convolutional_encoder(model, shape, PATCH, pool)
    expected = by_patches(model.encoder, x, pool)
    assert expected.std() > 0.01
    assert encoder.output_shape == (None, (7 // pool) * (8 // pool) * UNITS)
    np.testing.assert_allclose(encoder(x.reshape(len(x), -1)), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("model", ["two layers", "alone", "tied"])
def test_stacks_and_single_autoencoders(model):
    if model == "two layers":
        model = stack(layers=(UNITS, 4), activation="tanh")
    else:
        model = stack(preprocessing=None, tied=model == "tied").autoencoders[0]
    x = images()
    encoder = keras_sae.convolutional_encoder(model, IMAGE, PATCH, 2)
    np.testing.assert_allclose(encoder(x.reshape(3, -1)), by_patches(model.encoder, x, 2), rtol=2e-5, atol=2e-6)


def test_it_is_a_copy_of_plain_layers_that_saves_and_trains(tmp_path):
    model, x = stack(), images().reshape(3, -1)
    encoder = keras_sae.convolutional_encoder(model, IMAGE, PATCH, 2)
    before = keras.ops.convert_to_numpy(encoder(x))
    encoder.save(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "encoder.keras")(x), before)
    randomise(model, seed=5)
    np.testing.assert_array_equal(encoder(x), before)
    assert [len(layer.trainable_weights) for layer in encoder.layers] == [0, 0, 2, 0, 0]


def test_the_shapes_must_fit():
    model = stack()
    with raises(
        ValueError, "Expected an autoencoder of patches of 4 x 4 x 1 = 16 numbers. Received: one of 12. Give the patch"
    ):
        keras_sae.convolutional_encoder(model, IMAGE, (4, 4), 2)
    with raises(ValueError, "patches of 3 x 4 x 3 = 36 numbers. Received: one of 12.", "the number of its channels"):
        keras_sae.convolutional_encoder(model, (*IMAGE, 3), PATCH, 2)
    for pool in (0, 8):
        with raises(
            ValueError,
            "Expected a pool_size from 1 to the number of places in either direction.",
            f"Received: {pool}, with 7 x 8 places of patches of 3 x 4 in images of 9 x 11.",
        ):
            keras_sae.convolutional_encoder(model, IMAGE, PATCH, pool)


def test_preprocessing_that_no_convolution_does():
    model = stack(preprocessing=fit_preprocessing(np.random.default_rng(0).uniform(size=(20, 12))))
    with raises(ValueError, "a linear Dense layer, as fit_zca gives it", "Received: Sequential 'preprocessing'"):
        keras_sae.convolutional_encoder(model, IMAGE, PATCH, 2)
    dense = keras.layers.Dense(12, "sigmoid", name="curved")
    with raises(ValueError, "Received: Dense 'curved'"):
        keras_sae.convolutional_encoder(stack(preprocessing=dense), IMAGE, PATCH, 2)


def test_it_computes_in_the_precision_of_the_model():
    model = keras_sae.convolutional_encoder(stack(), IMAGE, PATCH, 3)
    assert model.output.dtype == "float64"


def test_a_preprocessing_without_a_bias():
    turn = keras.layers.Dense(12, use_bias=False, trainable=False, dtype="float64")
    model, x = stack(preprocessing=turn), images()
    found = keras_sae.convolutional_encoder(model, IMAGE, PATCH, 3)(x.reshape(len(x), -1))
    np.testing.assert_allclose(found, by_patches(model.encoder, x, 3), rtol=1e-10)
