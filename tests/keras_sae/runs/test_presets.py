import shutil

import numpy as np
import pytest

import keras_sae
from keras_sae import runs
from keras_sae.data.preprocessing import fit_zca
from keras_sae.errors import InputError
from keras_sae.runs import presets
from keras_sae.sparsity import TopK
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
    predicted = keras_sae.from_preset("mnist_stacked").predict(found.x_test, verbose=0).argmax(axis=1)
    assert np.mean(predicted == found.y_test) > 0.95  # digits, with the labels that they have


def test_what_is_neither_a_preset_nor_a_run(tmp_path):
    for name in ("nowhere", tmp_path):
        expected = f"Expected one of the presets {', '.join(keras_sae.list_presets())}, or the directory of a run, or "
        with raises(InputError, f"{expected}hf://user/repository. Received: {str(name)!r}."):
            keras_sae.from_preset(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("mnist_staked", "mnist_stacked"), ("digits-tiny", "digits_tiny"), ("patches8x8", "patches_8x8"), ("qqq", None)],
)
def test_the_nearest_name_is_asked_for(name, meant):
    with pytest.raises(InputError) as raised:
        keras_sae.from_preset(name)
    assert str(raised.value).endswith(f"Received: {name!r}.{f' Did you mean {meant}?' if meant else ''}")


def test_a_former_name():
    assert presets.find("mnist_784_200_200_10") == presets.ZOO / "mnist_stacked"


def test_the_autoencoder_of_a_classifier():
    ae = keras_sae.from_preset("digits_tiny", part="autoencoder")
    assert isinstance(ae, keras_sae.StackedAutoencoder)
    assert same_weights(ae, keras_sae.runs.load_pretrained(presets.ZOO / "digits_tiny"))
    assert isinstance(keras_sae.from_preset("patches_8x8", part="autoencoder"), keras_sae.SparseAutoencoder)
    with raises(InputError, "Expected `part` as model or autoencoder. Received: 'encoder'."):
        keras_sae.from_preset("digits_tiny", part="encoder")


def test_a_classifier_that_kept_no_autoencoder(tmp_path):
    shutil.copytree(presets.ZOO / "digits_tiny", tmp_path / "run")
    (tmp_path / "run" / "pretrained.keras").unlink()
    with raises(InputError, "Expected a preset with an autoencoder. Received: ", "run, a classifier that kept none."):
        keras_sae.from_preset(tmp_path / "run", part="autoencoder")


def test_the_architecture_with_fresh_weights():
    trained = keras_sae.from_preset("digits_tiny")
    one, other = (keras_sae.from_preset("digits_tiny", load_weights=False) for _ in range(2))
    assert [w.shape for w in one.weights] == [w.shape for w in trained.weights]
    kernels = [[w.numpy() for w in model.weights if w.name == "kernel"] for model in (trained, one, other)]
    for ours, first, second in zip(*kernels, strict=True):
        assert not np.allclose(ours, first)
        assert not np.allclose(first, second)
        assert abs(first).max() <= (6 / sum(first.shape)) ** 0.5  # Glorot's uniform weights, as Keras begins
    assert all(np.all(w == 0) for w in one.weights if w.name == "bias")
    x = runs.load_examples(presets.ZOO / "digits_tiny")[0]
    np.testing.assert_allclose(one(x).numpy().sum(axis=1), 1, atol=1e-5)


def test_fresh_weights_leave_what_does_not_learn_and_what_begins_with_the_data_begins(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 6)).astype("float32")
    ae = keras_sae.SparseAutoencoder(8, TopK(2), input_scale=True)
    stack = keras_sae.StackedAutoencoder([ae], preprocessing=fit_zca(x, 0.1))
    stack.build((None, 6))
    stack.start(x)
    keras_sae.save(stack, tmp_path / "run")
    fresh = keras_sae.from_preset(tmp_path / "run", load_weights=False)
    np.testing.assert_array_equal(fresh.preprocessing.kernel, stack.preprocessing.kernel)
    assert (ae.started, fresh.autoencoders[0].started) == (True, False)
    fresh.start(x)
    np.testing.assert_allclose(fresh.autoencoders[0].centring.scale, ae.centring.scale, rtol=1e-6)


@pytest.mark.parametrize("name", ["model.keras", "pretrained.keras"])
def test_a_file_that_is_not_the_one_that_was_published(name, tmp_path):
    run = shutil.copytree(presets.ZOO / "digits_tiny", tmp_path / "run")
    content = bytearray((run / name).read_bytes())
    content[-1] ^= 1
    (run / name).write_bytes(content)
    part = "autoencoder" if name == "pretrained.keras" else "model"
    with raises(InputError, f"Expected {run / name} with the sha256 ", "as preset.json beside it says. Received: "):
        keras_sae.from_preset(run, part=part)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "which cannot be read: "), ("[]", "it is none."), ("{}", "preset.json, whose name is None.")],
)
def test_a_preset_whose_record_is_damaged(content, message, tmp_path):
    run = shutil.copytree(presets.ZOO / "digits_tiny", tmp_path / "run")
    (run / "preset.json").write_text(content)
    with raises(InputError, "Received: ", message):
        keras_sae.from_preset(run)
