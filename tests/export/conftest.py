"""What the tests of the export commands share."""

import contextlib
import io
import json
import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from export import check, exporting
from tests.keras_sae.interchange.files import rows, saelens, tensors

ROOT = pathlib.Path(__file__).parents[2]
LITERT = {
    "none": "encoder.tflite", "float16": "encoder_float16.tflite", "dynamic": "encoder_dynamic.tflite",
    "int8": "encoder_int8.tflite",
}  # fmt: skip
FILES = {"saved_model/1", "encoder.onnx", *LITERT.values()}  # as export names them in its measurements
EXACT = {"saved_model/1", "encoder.onnx", "encoder.tflite"}  # in float32
ALL = ("--to", "saved_model", "litert", "onnx", "--quantize", *LITERT)
IN_ANY_RUN = {"README.md", "check.npz", "export.json"}


@pytest.fixture
def refused(main, capfd):
    """refused(*arguments) -> the one line on stderr with which the command ended, status 2.

    main: a fixture of each file, which calls its command with arguments, under its name in sys.argv.
    """

    def refused(*arguments):
        capfd.readouterr()  # what TensorFlow says as it starts
        with pytest.raises(SystemExit) as ended:
            main(*arguments)
        assert ended.value.code == 2
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(f"{sys.argv[0]}: error: ")
        return lines[0]

    return refused


def run_here(arguments, **_):
    """subprocess.run of a module, here, where TensorFlow is loaded already, and not in a fresh process."""
    module, words = arguments[2], arguments[3:]
    if module == "export.check":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(check, "ONE_ROW_SECONDS", 0.01)  # a test needs no good median
            return subprocess.CompletedProcess(arguments, 0, json.dumps(check.check(pathlib.Path(*words))), "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *words])
        patch.delitem(sys.modules, module, raising=False)
        code = 0
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            try:
                runpy.run_module(module, run_name="__main__")
            except SystemExit as ended:
                code = ended.code
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def export_here(*arguments, **options):
    """As export_model, with all in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting.subprocess, "run", run_here)
        return exporting.export_model(*arguments, **options)


def snippets(folder):
    """The Python code on the card of an export."""
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def measured(text, files=FILES):
    """Differences to Keras on a card or in what the command printed, file -> number as it stands there."""
    found = {
        name: re.findall(rf"{re.escape(name)}(?: \| \S+ \| |  largest difference to Keras: )(\S+)", text)
        for name in files
    }
    return {name: numbers[0] for name, numbers in found.items() if len(numbers) == 1}


def rows_of_card(folder):
    """The table of files on an export's card: name -> its other cells."""
    lines = re.findall(
        r"^\| ((?:saved_model|encoder)\S*) \| (.*) \|$", (folder / "README.md").read_text(), re.MULTILINE
    )
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in lines}


def saved_model(folder):
    """call(signature, input=array) -> outputs by name, of a SavedModel in this process."""
    loaded = tf.saved_model.load(str(folder))

    def call(signature, **inputs):
        found = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in found.items()}

    return call


def litert(path):
    """The same of a LiteRT file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))

    def call(signature, **inputs):
        found = interpreter.get_signature_runner(signature)(**inputs)
        return {name: value.copy() for name, value in found.items()}

    return call


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, "float64")))


def through(layers, x):
    """Dense sigmoid layers by hand, [(kernel, bias), ...]."""
    for kernel, bias in layers:
        x = sigmoid(x @ kernel.astype("float64") + bias)
    return x


def pairs(weights):
    return list(zip(weights[::2], weights[1::2], strict=True))


def reconstruction(encoders, decoders, x):
    """What `reconstruct` should give for inputs as preprocessed, by hand."""
    features = through(encoders, x)
    outputs = through(decoders, features)
    return {"features": features, "outputs": outputs, "error": ((outputs - x) ** 2).sum(axis=1) / 2}


def assert_outputs(found, expected, rtol=2e-5):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert found[name].dtype == ("int64" if name == "label" else "float32"), name
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=1e-5, err_msg=name)


# Runs of autoencoders, as `keras_sae.save` writes them


def of_another_library(folder):
    """Write a JumpReLU autoencoder of SAELens that scales its inputs, 6 to 150, and return what it computes, in NumPy.

    (rows, codes, outputs): 40 rows, of which no pre-activation is within 1e-4 of its threshold.
    """
    weights = tensors(6, 150, threshold=np.linspace(0, 2, 150).astype("float32"))
    saelens(folder, weights, architecture="jumprelu", normalize_activations="expected_average_only_in")
    (folder / "activation_scaler.json").write_text('{"scaling_factor": 0.5}')
    w, x = {name: value.astype("float64") for name, value in weights.items()}, rows(6, 60)
    pre = (0.5 * x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    x, pre = (values[np.abs(pre - w["threshold"]).min(axis=1) > 1e-4][:40] for values in (x, pre))
    assert len(x) == 40
    codes = np.where(pre > w["threshold"], pre, 0)
    return x, codes, (codes @ w["W_dec"] + w["b_dec"]) / 0.5


@pytest.fixture(scope="session")
def loaded(tmp_path_factory):
    """(directory of an autoencoder of SAELens, its export in all formats, rows, codes, outputs by hand)."""
    folder = tmp_path_factory.mktemp("loaded")
    x, codes, outputs = of_another_library(folder / "sae")
    export_here(folder / "sae", folder / "export", formats=["saved_model", "litert", "onnx"], examples=x)
    return folder / "sae", folder / "export", x, codes, outputs


def random_weights(model, seed):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])


def plain(folder, seed=0):
    """A sparse autoencoder of 6 inputs. Returns (run, examples, expected outputs of `reconstruct` by hand)."""
    x = np.random.default_rng(1).uniform(size=(60, 6)).astype("float32")
    autoencoder = keras_sae.SparseAutoencoder(4)
    autoencoder.build((None, 6))
    random_weights(autoencoder, seed)
    keras_sae.save(autoencoder, folder)
    encoder, decoder = pairs(autoencoder.get_weights())
    return folder, x[:20], reconstruction([encoder], [decoder], x[:20]), x[20:]
