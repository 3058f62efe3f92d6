import numpy as np

import keras_sae
from keras_sae import presets, runs
from keras_sae.errors import InputError
from tests.keras_sae.conftest import autoencoder, raises, same_weights


def test_a_preset_and_the_directory_of_a_run_are_loaded(tmp_path):
    name = keras_sae.list_presets()[0]
    assert same_weights(keras_sae.from_preset(name), keras_sae.load(presets.ZOO / name))
    ae = autoencoder()
    keras_sae.save(ae, tmp_path / "run")
    for path in (tmp_path / "run", str(tmp_path / "run")):
        assert same_weights(keras_sae.from_preset(path), ae)


def test_digits_that_come_with_the_library():
    found = keras_sae.sample_digits()
    assert repr(found) == "LabelledImages(800 to train, 200 to test, 28 x 28; 1,000 digits that come with keras_sae)"
    assert (found.x_train.shape, found.x_test.shape, found.num_classes) == ((800, 784), (200, 784), 10)
    assert set(np.unique(found.y_test)) == set(range(10))
    predicted = keras_sae.from_preset("mnist_784_200_200_10").predict(found.x_test, verbose=0).argmax(axis=1)
    assert np.mean(predicted == found.y_test) > 0.95  # digits, with the labels that they have


def test_what_is_neither_a_preset_nor_a_run(tmp_path):
    for name in ("nowhere", tmp_path):
        expected = f"Expected one of the presets {', '.join(keras_sae.list_presets())}, or the directory of a run."
        with raises(InputError, f"{expected} Received: {str(name)!r}."):
            keras_sae.from_preset(name)


def test_the_zoo_of_an_installed_library_and_of_a_checkout_have_the_same_form():
    assert all(runs.is_run(presets.find(name)) for name in keras_sae.list_presets())
