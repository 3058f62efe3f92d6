"""export_model: models in memory, inputs of one's own, and what it refuses."""

import dataclasses
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_sae
from export import examples, export_model, exporting, signatures
from keras_sae import runs
from keras_sae.data.preprocessing import fit_preprocessing
from keras_sae.errors import InputError
from tests.export.conftest import IN_ANY_RUN, ROOT, export_here, litert, plain, random_weights, saved_model

RNG = np.random.default_rng(3)
X = RNG.uniform(size=(50, 6)).astype("float32")
LABELS = RNG.integers(0, 3, 50)


def autoencoder():
    model = keras_sae.SparseAutoencoder(4, name="of_six")
    model.build((None, 6))
    random_weights(model, 0)
    return model


def stack():
    model = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(5), keras_sae.SparseAutoencoder(3)])
    model.build((None, 6))
    for number, layer in enumerate(model.autoencoders):
        random_weights(layer, number)
    return model


def classifier():
    model = stack().classifier(3)
    random_weights(model, 4)
    return model


@pytest.fixture
def out(tmp_path):
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports" / "new"


# Models in memory


@pytest.mark.parametrize("make", [autoencoder, stack, classifier], ids=lambda make: make.__name__)
def test_a_model_in_memory_is_exported(make, out):
    model = make()
    weights = model.get_weights()
    measured = export_here(
        model, out, formats=["saved_model", "litert"], quantize=["none", "int8"], examples=X[:20], calibration=X[20:]
    )
    assert set(measured) == {"saved_model/1", "encoder.tflite", "encoder_int8.tflite"}
    assert max(measured[name]["difference"] for name in ("saved_model/1", "encoder.tflite")) < 1e-5
    assert {values["accuracy"] for values in measured.values()} == {None}
    assert [path.name for path in out.parent.iterdir()] == ["new"]
    assert {path.name for path in out.iterdir()} == {
        "saved_model",
        "encoder.tflite",
        "encoder_int8.tflite",
        *IN_ANY_RUN,
    }
    assert f"Made from the run `{model.name}`" in (out / "README.md").read_text()

    features = np.asarray(runs.encoder_of(model)(X))
    assert features.std(axis=0).min() > 0.02
    for call in (saved_model(out / "saved_model" / "1"), litert(out / "encoder.tflite")):
        np.testing.assert_allclose(call("encode", inputs=X)["features"], features, atol=1e-5)
        if make is classifier:
            np.testing.assert_allclose(call("classify", inputs=X)["probabilities"], model(X), atol=1e-5)
        else:
            np.testing.assert_allclose(call("reconstruct", inputs=X)["outputs"], model(X), atol=1e-5)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_labels_give_the_accuracy(out):
    model = classifier()
    measured = export_here(model, out, formats=["litert"], examples=X, labels=LABELS)
    expected = np.mean(np.argmax(model(X), axis=1) == LABELS)
    assert 0 < expected < 1
    assert measured["encoder.tflite"]["accuracy"] == pytest.approx(expected)


def test_another_model_becomes_another_version(out):
    for number, make in enumerate([autoencoder, stack], 1):
        assert set(export_here(make(), out, formats=["saved_model"], examples=X)) == {f"saved_model/{number}"}
    found = saved_model(out / "saved_model" / "2")("encode", inputs=X)["features"]
    np.testing.assert_allclose(found, stack().encode(X), atol=1e-5)


def test_inputs_may_be_lists_and_integers(out):
    model = autoencoder()
    rows = [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]]
    export_here(model, out, formats=["litert"], examples=rows)
    with np.load(out / "check.npz") as content:
        np.testing.assert_array_equal(content["inputs"], np.array(rows, "float32"))
        np.testing.assert_allclose(content["encode/features"], model.encode(np.array(rows, "float32")), atol=1e-6)


def test_the_code_in_the_readme_works_in_any_directory(tmp_path, monkeypatch):
    """In processes of their own, which find this package wherever they are started."""
    monkeypatch.chdir(tmp_path)
    code, _ = re.findall(r"```python\n(.*?)```", (ROOT / "export" / "README.md").read_text(), re.DOTALL)
    namespace = {"autoencoder": autoencoder(), "x_test": X}
    exec(code, namespace)
    assert set(namespace["measured"]) == {"saved_model/1", "encoder.tflite"}
    found = litert(tmp_path / "exports" / "digits" / "encoder.tflite")("encode", inputs=X)["features"]
    np.testing.assert_allclose(found, autoencoder().encode(X), atol=1e-5)


# Without rows to check the files on


@pytest.mark.parametrize("make", [autoencoder, classifier], ids=lambda make: make.__name__)
def test_rows_at_random_check_a_model_that_comes_without(make, out):
    measured = export_here(make(), out, formats=["litert"])
    assert measured["encoder.tflite"]["difference"] < 1e-5
    with np.load(out / "check.npz") as content:
        assert content["inputs"].shape == (200, 6)
        np.testing.assert_allclose(content["encode/features"], runs.encoder_of(make())(content["inputs"]), atol=1e-6)
        assert "labels" not in content
    card = (out / "README.md").read_text()
    assert "outputs on rows at random in the range of inputs, as the run has no real ones" in card


@pytest.mark.parametrize("options", [{}, {"contrast": True}, {"whiten": True}], ids=str)
def test_rows_at_random_are_in_the_range_of_raw_inputs(options):
    """So that most are not cut off."""
    x = RNG.uniform([0, 1000, -5], [1, 2000, -4], (500, 3)).astype("float32")
    model = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(2)], fit_preprocessing(x, **options))
    model.build((None, 3))
    rows = examples.made_up_rows({"encode": signatures.Signature(None, None, (model.encoder,), None)})
    scaled = np.asarray(model.preprocessing(rows))
    assert rows.dtype == "float32"
    assert np.mean((scaled > 0) & (scaled < 1)) > 0.8
    assert scaled.std(axis=0).min() > 0.1


@pytest.mark.parametrize(("activation", "low", "high"), [("sigmoid", 0, 1), ("tanh", -1, 1), ("linear", -2, 2)])
def test_rows_at_random_are_in_the_range_of_outputs(activation, low, high):
    model = keras_sae.SparseAutoencoder(2, output_activation=activation)
    model.build((None, 3))
    signature = signatures.Signature(None, None, (model.encoder,), None)
    rows = examples.made_up_rows({"encode": signature, "reconstruct": dataclasses.replace(signature, models=(model,))})
    assert rows.min() == pytest.approx(low, abs=0.02)
    assert rows.max() == pytest.approx(high, abs=0.02)


# Runs


def test_a_model_that_was_saved_with_rows_is_checked_on_them(tmp_path, out):
    keras_sae.save(classifier(), tmp_path / "run", examples=X, labels=LABELS, calibration=X[:20])
    measured = export_here(tmp_path / "run", out, formats=["litert"], quantize=["none", "int8"])
    assert set(measured) == {"encoder.tflite", "encoder_int8.tflite"}
    assert measured["encoder.tflite"]["accuracy"] > 0
    with np.load(out / "check.npz") as content:
        np.testing.assert_array_equal(content["inputs"], X)
    assert "outputs on held-out inputs, relative" in (out / "README.md").read_text()


def test_inputs_that_are_given_come_before_those_of_the_run(tmp_path, out):
    run, x, expected, _ = plain(tmp_path / "run")
    runs.save_examples(run / "examples.npz", x[:3])
    before = sorted(path.name for path in run.iterdir())
    export_here(str(run), str(out), formats=["litert"], quantize=["int8"], examples=x, calibration=x)
    with np.load(out / "check.npz") as content:
        np.testing.assert_array_equal(content["inputs"], x)
        np.testing.assert_allclose(content["encode/features"], expected["features"], atol=1e-5)
    assert sorted(path.name for path in run.iterdir()) == before


# What it refuses, before anything is converted


@pytest.fixture
def refused(out, monkeypatch):
    """refused(model, **options) -> the message."""

    def refused(model, **options):
        with pytest.raises(InputError) as raised:
            export_here(model, out, **options)
        assert list(out.parent.iterdir()) == []
        return str(raised.value)

    return refused


def test_int8_of_a_model_in_memory_needs_calibration(refused, out):
    line = refused(autoencoder(), examples=X, quantize=["int8"])
    assert line.startswith(
        "Expected calibration=, inputs to measure the ranges of int8 on. Received: a model in memory"
    )
    export_here(autoencoder(), out, formats=["saved_model"], examples=X, quantize=["int8"])  # which has no int8 file


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (keras_sae.SparseAutoencoder(4), "has no weights yet"),
        (keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)]), "without a layer that is called encoder"),
        (5, "Received: 5"),
    ],
    ids=["not trained", "another model", "a number"],
)
def test_what_is_no_trained_model_of_ours_is_refused(refused, model, words):
    line = refused(model, examples=X)
    assert line.startswith("Expected a trained autoencoder, a stack or a classifier of one, or the path of a run.")
    assert words in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": X[0]}, "Expected examples of shape (examples, features). Received: shape (6,)."),
        ({"examples": X[:0]}, "Expected examples of shape (examples, features). Received: shape (0, 6)."),
        ({"labels": LABELS}, "Expected examples, rows with these labels. Received: labels alone."),
        ({"examples": X, "labels": [1, 2]}, "Expected labels of shape (50,), one an example. Received: shape (2,)."),
        ({"examples": X, "calibration": [1.0]}, "Expected calibration of shape (examples, features). Received: "),
        ({"examples": X[:, :5]}, "Expected rows of 6 features, as the model takes. Received: shape (50, 5)."),
        ({"examples": X, "formats": "litert"}, "Expected formats to be a list of some of saved_model, litert, onnx."),
        ({"examples": X, "formats": ["coreml"]}, "Received: formats=['coreml']"),
        ({"examples": X, "formats": []}, "Received: formats=[]"),
        ({"examples": X, "quantize": ["int4"]}, "Expected quantize to be a list of some of none, float16"),
    ],
)  # fmt: skip
def test_inputs_and_settings_that_do_not_fit_are_refused(refused, options, message):
    assert message in refused(autoencoder(), **options)


def test_tensorflow_converts_whatever_backend_a_process_has(out, monkeypatch):
    """A second process does, whose backend neither the environment nor the user's keras.json decides."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    called = []

    def run(command, **options):
        called.append(options["env"]["KERAS_BACKEND"])
        raise OSError("no process")

    monkeypatch.setattr(exporting.subprocess, "run", run)
    with pytest.raises(OSError, match="no process"):
        export_model(autoencoder(), out, examples=X)
    assert called == ["tensorflow"]


def test_the_message_of_a_process_is_that_of_the_error(tmp_path, refused):
    """Without the name of the command, which nobody called."""
    assert refused(pathlib.Path(tmp_path / "none")).startswith("Expected a run directory")
    run, *_ = plain(tmp_path / "run")
    line = refused(run, quantize=["int8"])
    assert line.startswith(
        f"Expected {run / 'calibration.npz'} with inputs to measure ranges on. Received a run without"
    )
    assert "Save the model with calibration=x, a few hundred rows of data, or write one:" in line


def test_the_function_is_that_of_the_package():
    assert export_model.__module__ == "export.exporting"
