"""python -m export: files that run without keras_sae and give what Keras gives, all or nothing."""

import contextlib
import io
import json
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from export import __main__ as command
from export import check, convert, signatures
from keras_sae import runs
from keras_sae.preprocessing import fit_preprocessing

ROOT = pathlib.Path(__file__).parents[2]
LITERT = {
    "none": "encoder.tflite", "float16": "encoder_float16.tflite", "dynamic": "encoder_dynamic.tflite",
    "int8": "encoder_int8.tflite",
}  # fmt: skip
FILES = {"saved_model/1", "encoder.onnx", *LITERT.values()}  # as export names them in its measurements
EXACT = {"saved_model/1", "encoder.onnx", "encoder.tflite"}  # in float32
ALL = ("--to", "saved_model", "litert", "onnx", "--quantize", *LITERT)
IN_ANY_RUN = {"README.md", "check.npz", "export.json"}

# What somebody runs who has nothing but TensorFlow, or nothing but one interpreter: `call(x)` gives the outputs of
# `encode` by name. The code on the export's card runs after it.
CALLERS = {
    "tensorflow": """
import tensorflow as tf
found = tf.saved_model.load(str(folder / "saved_model" / "1")).signatures
encode = found["encode"]
call = lambda x: encode(inputs=tf.constant(x))
inputs = {name: list(spec.shape) for name, spec in encode.structured_input_signature[1].items()}
outputs = {name: list(spec.shape) for name, spec in encode.structured_outputs.items()}
""",
    "ai_edge_litert": """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(str(folder / "encoder.tflite"))
found = interpreter.get_signature_list()
encode = interpreter.get_signature_runner("encode")
call = lambda x: encode(inputs=x)
inputs = {name: detail["shape_signature"].tolist() for name, detail in encode.get_input_details().items()}
outputs = {name: detail["shape_signature"].tolist() for name, detail in encode.get_output_details().items()}
""",
    "onnxruntime": """
import onnxruntime
found = ["one graph"]
session = onnxruntime.InferenceSession(str(folder / "encoder.onnx"), providers=["CPUExecutionProvider"])
shape = lambda each: [-1 if isinstance(size, str) else size for size in each.shape]  # sizes that vary have names
inputs = {each.name: shape(each) for each in session.get_inputs()}
outputs = {each.name: shape(each) for each in session.get_outputs()}
call = lambda x: dict(zip(outputs, session.run(None, {"inputs": x})))
""",
}
CALL = """
import json, os, pathlib, sys
import numpy as np
folder, out = map(pathlib.Path, sys.argv[1:3])
with np.load(folder / "check.npz") as check:
    x = check["inputs"]
{caller}
results = {{str(n): np.array(call(x[:n])["features"]) for n in (1, 7)}}
os.chdir(folder)
namespace = {{"x": x[:7]}}
exec(sys.argv[3], namespace)
np.savez(out, snippet=namespace["features"], **results)
modules = sorted({{name.split(".")[0] for name in sys.modules}})
print(json.dumps({{"signatures": sorted(found), "inputs": inputs, "outputs": outputs, "modules": modules}}))
"""


def contents(folder):
    """Path -> bytes (None for a folder) of all that is in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """(folder of an export, what the command printed), made by the command itself in processes of its own."""
    out = tmp_path_factory.mktemp("exports") / "tiny"
    done = subprocess.run(
        [sys.executable, "-m", "export", str(tiny_run[0]), "--out", str(out), *ALL],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out, done.stdout


@pytest.fixture(scope="module")
def features(tiny_run):
    """Keras' features of the run's held-out images, (examples, 9)."""
    return keras_sae.load_encoder(tiny_run[0]).predict(runs.load_examples(tiny_run[0])[0], verbose=0)


@pytest.fixture(scope="module", params=CALLERS)
def called(request, exported, tmp_path_factory):
    """(package, what the files' signature is and what was imported, features): from a fresh isolated process."""
    folder = tmp_path_factory.mktemp("elsewhere")
    snippet = next(s for s in snippets(exported[0]) if request.param in s)
    code = CALL.format(caller=CALLERS[request.param])
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(exported[0]), str(folder / "called.npz"), snippet],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(folder / "called.npz") as results:
        return request.param, json.loads(done.stdout.splitlines()[-1]), dict(results)


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the run that a test may damage."""
    return pathlib.Path(shutil.copytree(tiny_run[0], tmp_path / "run"))


@pytest.fixture
def out(tmp_path):
    """Where a test exports to: a new folder in one of its own, so that nothing else should appear beside it."""
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports" / "new"


@pytest.fixture
def main(monkeypatch):
    """main(*arguments) as `python -m export ARGUMENTS` calls it."""

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
        command.main()

    return main


@pytest.fixture
def pretend(monkeypatch):
    """pretend(differences): converts nothing, writes something small, measures these differences to Keras."""

    def pretend(differences, content=b"converted"):
        def quietly(module, *arguments):
            if module == "export.convert":
                _, finished, wanted = arguments
                wanted = json.loads(wanted)
                if "saved_model" in wanted["formats"]:
                    version = finished / "saved_model" / str(wanted["version"])
                    (version / "variables").mkdir(parents=True)
                    (version / "saved_model.pb").write_bytes(content)
                    (version / "variables" / "variables.index").write_bytes(content)
                if "litert" in wanted["formats"]:
                    (finished / "encoder.tflite").write_bytes(content)
                return ""
            assert module == "export.check"
            others = {"accuracy": None, "milliseconds": 0.25, "bytes": 5000}
            return json.dumps(
                {
                    name: {"difference": value, "root_mean_square": value, **others}
                    for name, value in differences.items()
                }
            )

        monkeypatch.setattr(command, "quietly", quietly)

    return pretend


def run_here(arguments, **_):
    """subprocess.run of a module, here, where TensorFlow is loaded already, and not in a fresh process."""
    module, words = arguments[2], arguments[3:]
    if module == "export.check":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(check, "SECONDS", 0.01)  # a test needs no good median
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


@pytest.fixture
def in_this_process(monkeypatch):
    """Run the modules that export starts here."""
    monkeypatch.setattr(command.subprocess, "run", run_here)


def export_here(*arguments, **options):
    """As command.export, with all in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command.subprocess, "run", run_here)
        command.export(*arguments, **options)


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


def raw(folder):
    """A stack on pictures of 2 x 2 pixels in colour that scales their bytes itself."""
    x = np.random.default_rng(2).integers(0, 256, (60, 12)).astype("uint8")
    stack = keras_sae.StackedAutoencoder(
        [keras_sae.SparseAutoencoder(5), keras_sae.SparseAutoencoder(3)], fit_preprocessing(x)
    )
    stack.build((None, 12))
    for number, autoencoder in enumerate(stack.autoencoders):
        random_weights(autoencoder, number)
    keras_sae.save(stack, folder, {"pixel_range": 255, "image_shape": (2, 2, 3), "class_names": ["cat", "dog"]})
    (first, last), (second, third) = (pairs(autoencoder.get_weights()) for autoencoder in stack.autoencoders)
    x = x.astype("float32")
    return folder, x[:20], reconstruction([first, second], [third, last], x[:20] / 255.0), x[20:]


@pytest.fixture(scope="module", params=[plain, raw], ids=lambda make: make.__name__)
def autoencoder(request, tmp_path_factory):
    """(export of an autoencoder's run, the run, its examples, what `reconstruct` should give for them)."""
    folder = tmp_path_factory.mktemp(request.param.__name__)
    run, x, expected, calibration = request.param(folder / "run")
    runs.save_examples(run / "examples.npz", x)
    runs.save_examples(run / "calibration.npz", calibration)
    export_here(run, folder / "export", ("saved_model", "litert", "onnx"), tuple(LITERT))
    return folder / "export", run, x, expected


# The files


def test_a_moving_average_leaves_no_trace_in_the_exports(tmp_path):
    """The encoder's layer that keeps it passes features on; LiteRT would refuse its variables."""
    x = np.random.default_rng(0).uniform(size=(9, 6)).astype("float32")
    ae = keras_sae.SparseAutoencoder(4, keras_sae.KLSparsity(average="moving"))
    ae.fit(x, verbose=0)
    keras_sae.save(ae, tmp_path / "run")
    found = signatures.of_run(tmp_path / "run")
    convert.write_saved_model(found, tmp_path / "1")
    convert.write_litert(tmp_path / "1", tmp_path / "encoder.tflite", "none", ["encode"], found, None)
    for call in (saved_model(tmp_path / "1"), litert(tmp_path / "encoder.tflite")):
        np.testing.assert_allclose(call("encode", inputs=x)["features"], ae.encode(x), rtol=1e-5)


def test_the_export_holds_its_files_and_no_others(exported):
    out, _ = exported
    assert {p.name for p in out.iterdir()} == {"saved_model", *FILES - {"saved_model/1"}, *IN_ANY_RUN}
    assert [p.name for p in (out / "saved_model").iterdir()] == ["1"]
    assert {p.name for p in (out / "saved_model" / "1").iterdir()} >= {"saved_model.pb", "variables", "assets.extra"}
    assert [p.name for p in out.parent.iterdir()] == ["tiny"]


def test_the_check_holds_held_out_inputs_and_what_keras_gives_for_them(tiny_run, exported, features, classified, stack):
    inputs, labels = runs.load_examples(tiny_run[0])
    reconstructed = {f"reconstruct/{name}": value for name, value in by_hand_of_the_stack(stack, inputs).items()}
    expected = {
        "encode/features": features,
        "serving_default/features": features,
        **{f"classify/{name}": value for name, value in classified.items()},
        **reconstructed,
        "decode/outputs": reconstructed["reconstruct/outputs"],
    }
    with np.load(exported[0] / "check.npz") as content:
        assert set(content) == {"inputs", "labels", "images", "images/features", *expected}
        np.testing.assert_array_equal(content["inputs"], inputs)
        np.testing.assert_array_equal(content["images"], np.round(255 * inputs).reshape(-1, 28, 28))
        np.testing.assert_allclose(content["images/features"], features, atol=1e-2)  # of pixels in 256 steps
        np.testing.assert_array_equal(content["labels"], labels)
        for name, value in expected.items():
            np.testing.assert_allclose(content[name], value, rtol=2e-5, atol=1e-5, err_msg=name)


def test_the_features_tell_inputs_apart(features):
    """Without this, a parity check would pass for a file that gives the same features for everything."""
    assert features.shape == (40, 9)
    assert features.std(axis=0).min() > 100 * command.BOUNDS["none"]


def test_the_signature_names_inputs_and_features_for_a_batch_of_any_size(called):
    package, seen, _ = called
    assert seen["inputs"] == ({"inputs": [None, 784]} if package == "tensorflow" else {"inputs": [-1, 784]})
    assert set(seen["outputs"]) == ({"features", "probabilities"} if package == "onnxruntime" else {"features"})
    assert seen["outputs"]["features"][-1] == 9
    assert (
        seen["signatures"]
        == {
            "tensorflow": ["classify", "decode", "encode", "images", "reconstruct", "serving_default"],
            "ai_edge_litert": ["classify", "encode"],
            "onnxruntime": ["one graph"],
        }[package]
    )


@pytest.mark.parametrize("batch", [1, 7])
def test_the_files_give_keras_features(called, features, batch):
    found = called[2][str(batch)]
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, features[:batch], rtol=0, atol=1e-5)


def test_the_code_on_the_card_gives_keras_features(called, features):
    np.testing.assert_allclose(called[2]["snippet"], features[:7], rtol=0, atol=1e-5)


def test_the_files_need_nothing_of_this_project(called):
    package, seen, _ = called
    assert package in seen["modules"]
    needless = {"keras_sae", "train", "export"} | (set() if package == "tensorflow" else {"tensorflow", "keras"})
    assert needless & set(seen["modules"]) == set()


@pytest.mark.parametrize("method", LITERT)
def test_the_litert_file_uses_no_operation_of_tensorflow(exported, method):
    content = (exported[0] / LITERT[method]).read_bytes()
    assert content[4:8] == b"TFL3"
    assert b"Flex" not in content  # custom operations stand in the file by name, TensorFlow's as FlexNAME


def test_the_card_and_the_command_name_the_measured_differences(exported):
    out, printed = exported
    card = measured((out / "README.md").read_text())
    assert set(card) == FILES
    assert card == measured(printed)
    assert all(0 <= float(card[name]) <= 1e-5 for name in EXACT)
    assert all(0 < float(card[name]) < 1 for name in FILES)
    for file in FILES:
        assert str(out / file) in printed


# The signatures of a classifier's run


@pytest.fixture(scope="module")
def stack(tiny_run):
    """The pretrained stack that the run kept."""
    return keras.saving.load_model(tiny_run[0] / "checkpoints" / "stack.keras", compile=False)


def by_hand_of_the_stack(stack, x):
    (first, last), (second, third) = (pairs(autoencoder.get_weights()) for autoencoder in stack.autoencoders)
    return reconstruction([first, second], [third, last], x)


@pytest.fixture(scope="module")
def classified(tiny_run):
    """What `classify` should give for the run's examples, by hand."""
    *hidden, (kernel, bias) = pairs(keras_sae.load(tiny_run[0]).get_weights())
    logits = through(hidden, runs.load_examples(tiny_run[0])[0]) @ kernel + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return {"probabilities": probabilities, "label": probabilities.argmax(axis=1), "score": probabilities.max(axis=1)}


@pytest.fixture(scope="module")
def callers(exported):
    """File -> call(signature, input=array), of those in float32."""
    return {
        "saved_model": saved_model(exported[0] / "saved_model" / "1"),
        "litert": litert(exported[0] / "encoder.tflite"),
    }


def first(outputs, batch):
    return {name: value[:batch] for name, value in outputs.items()}


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("file", ["saved_model", "litert"])
def test_classify_gives_probabilities_the_label_and_its_score(tiny_run, callers, classified, file, batch):
    x = runs.load_examples(tiny_run[0])[0][:batch]
    assert_outputs(callers[file]("classify", inputs=x), first(classified, batch))
    of_keras = keras_sae.load(tiny_run[0]).predict(x, verbose=0)
    np.testing.assert_allclose(callers[file]("classify", inputs=x)["probabilities"], of_keras, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("name", ["encode", "serving_default"])
def test_encode_is_the_default(tiny_run, callers, features, name, batch):
    x = runs.load_examples(tiny_run[0])[0][:batch]
    assert_outputs(callers["saved_model"](name, inputs=x), {"features": features[:batch]})


@pytest.mark.parametrize("batch", [1, 7])
def test_a_classifier_reconstructs_by_the_stack_as_it_was_pretrained(tiny_run, callers, stack, features, batch):
    x = runs.load_examples(tiny_run[0])[0][:batch]
    found = callers["saved_model"]("reconstruct", inputs=x)
    assert_outputs(found, by_hand_of_the_stack(stack, x))
    np.testing.assert_allclose(found["outputs"], stack(x), atol=1e-6)
    assert np.abs(found["features"] - features[:batch]).max() > 1e-4  # fine-tuned
    decoded = callers["saved_model"]("decode", features=found["features"])
    assert_outputs(decoded, {"outputs": found["outputs"]})


@pytest.mark.parametrize("batch", [1, 7])
def test_images_takes_the_bytes_of_images(tiny_run, callers, features, batch):
    x = runs.load_examples(tiny_run[0])[0][:batch]
    pixels = np.round(x * 255).astype("uint8").reshape(-1, 28, 28)
    assert pixels.max() > 200
    np.testing.assert_allclose(pixels.reshape(-1, 784) / 255, x, atol=1e-6)
    assert_outputs(callers["saved_model"]("images", images=pixels), {"features": features[:batch]})


def test_saved_model_cli_lists_inputs_and_outputs_by_name(exported, capsys):
    from absl import flags
    from absl.testing import flagsaver
    from tensorflow.python.tools import saved_model_cli

    with flagsaver.flagsaver():  # here, because TensorFlow takes seconds to start
        flags.FLAGS(["saved_model_cli", "--dir", str(exported[0] / "saved_model" / "1"), "--all"])
        saved_model_cli.show()
    text = capsys.readouterr().out.split("Concrete Functions")[0]
    _, *sections = re.split(r"signature_def\['(.*?)'\]", text)
    found = {
        name: (re.findall(r"inputs\['(.*?)'\]", section), set(re.findall(r"outputs\['(.*?)'\]", section)))
        for name, section in zip(sections[::2], sections[1::2], strict=True)
    }
    found.pop("__saved_model_init_op")
    assert found == {
        "encode": (["inputs"], {"features"}),
        "serving_default": (["inputs"], {"features"}),
        "classify": (["inputs"], {"probabilities", "label", "score"}),
        "reconstruct": (["inputs"], {"features", "outputs", "error"}),
        "decode": (["features"], {"outputs"}),
        "images": (["images"], {"features"}),
    }
    assert "args_0" not in text


# Those of an autoencoder's run


def caller(folder, file):
    return saved_model(folder / "saved_model" / "1") if file == "saved_model" else litert(folder / file)


@pytest.mark.parametrize("file", ["saved_model", "encoder.tflite"])
def test_an_autoencoder_gives_what_numpy_gives(autoencoder, file):
    out, run, x, expected = autoencoder
    call, model = caller(out, file), keras_sae.load(run)
    for batch in (1, 7):
        encoded, reconstructed = call("encode", inputs=x[:batch]), call("reconstruct", inputs=x[:batch])
        assert_outputs(encoded, {"features": expected["features"][:batch]})
        assert_outputs(reconstructed, first(expected, batch))
        assert_outputs(call("decode", features=encoded["features"]), {"outputs": expected["outputs"][:batch]})
        np.testing.assert_allclose(encoded["features"], model.encode(x[:batch]), atol=1e-6)
        np.testing.assert_allclose(reconstructed["outputs"], model(x[:batch]), atol=1e-6)
    assert expected["features"].std(axis=0).min() > 0.02
    assert expected["error"].std() > 0.02


def test_an_autoencoder_has_the_signatures_that_it_can_have(autoencoder):
    from ai_edge_litert.interpreter import Interpreter

    out, run, *_ = autoencoder
    images = {"images"} if "pixel_range" in runs.read_config(run) else set()
    found = tf.saved_model.load(str(out / "saved_model" / "1")).signatures
    assert set(found) == {"encode", "serving_default", "reconstruct", "decode"} | images
    assert set(Interpreter(str(out / "encoder.tflite")).get_signature_list()) == {"encode", "reconstruct", "decode"}


@pytest.mark.parametrize("autoencoder", [raw], indirect=True, ids=["raw"])
@pytest.mark.parametrize("batch", [1, 7])
def test_images_of_a_run_on_raw_pixels_takes_them_as_they_are(autoencoder, batch):
    out, _, x, expected = autoencoder
    call = caller(out, "saved_model")
    images = x[:batch].astype("uint8").reshape(-1, 2, 2, 3)
    assert_outputs(call("images", images=images), {"features": expected["features"][:batch]})


def test_an_autoencoder_has_no_accuracy(autoencoder):
    out = autoencoder[0]
    assert set(rows_of_card(out)) == FILES
    assert {cells[2] for cells in rows_of_card(out).values()} == {""}
    record = json.loads((out / "export.json").read_text())
    assert {values["accuracy"] for values in record["files"].values()} == {None}


def test_the_onnx_file_of_an_autoencoder_gives_features(autoencoder):
    import onnxruntime

    out, _, x, expected = autoencoder
    session = onnxruntime.InferenceSession(str(out / "encoder.onnx"), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["features"]
    for batch in (1, 7):
        [found] = session.run(None, {"inputs": x[:batch]})
        np.testing.assert_allclose(found, expected["features"][:batch], atol=1e-5)


# Quantised files


@pytest.mark.parametrize("method", LITERT)
def test_quantised_files_stay_near_keras_and_tell_inputs_apart(tiny_run, exported, features, classified, method):
    x, call = runs.load_examples(tiny_run[0])[0], litert(exported[0] / LITERT[method])
    for signature, output, wanted in [("encode", "features", features), ("classify", "probabilities", classified)]:
        wanted = wanted[output] if isinstance(wanted, dict) else wanted
        found = call(signature, inputs=x)[output]
        assert np.sqrt(np.mean((found - wanted) ** 2)) <= command.BOUNDS[method]
        assert found.dtype == "float32"
    found = call("encode", inputs=x)["features"]
    assert min(np.corrcoef(found[:, unit], features[:, unit])[0, 1] for unit in range(9)) > 0.98
    if method != "none":
        assert np.abs(found - features).max() > 1e-6  # it is quantised


@pytest.mark.parametrize("method", ["float16", "dynamic", "int8"])
def test_quantised_autoencoders_stay_near_keras(autoencoder, method):
    out, _, x, expected = autoencoder
    found = litert(out / LITERT[method])("reconstruct", inputs=x)
    for name, value in expected.items():
        relative = np.abs(found[name] - value) / np.maximum(1, np.abs(value))
        assert np.sqrt(np.mean(relative**2)) <= command.BOUNDS[method], name
        assert np.corrcoef(found[name].ravel(), value.ravel())[0, 1] > 0.98, name


def test_fewer_bits_make_smaller_files(exported):
    size = {method: (exported[0] / file).stat().st_size for method, file in LITERT.items()}
    assert max(size["int8"], size["dynamic"]) < 0.75 * size["float16"]
    assert size["float16"] < 0.75 * size["none"]


# Requests to warm a server up


@pytest.mark.parametrize("kind", ["classifier", "autoencoder"])
def test_the_warm_up_file_holds_a_request_for_each_signature(kind, exported, request):
    from tensorflow_serving.apis import prediction_log_pb2

    out = exported[0] if kind == "classifier" else request.getfixturevalue("plain_export")
    folder = out / "saved_model" / "1"
    found = tf.saved_model.load(str(folder)).signatures
    records = tf.data.TFRecordDataset(str(folder / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    names = [log.predict_log.request.model_spec.signature_name for log in logs]
    assert sorted(names) == sorted(found)
    for log in logs:
        request = log.predict_log.request
        signature = found[request.model_spec.signature_name]
        [(name, spec)] = signature.structured_input_signature[1].items()
        assert list(request.inputs) == [name]
        value = tf.make_ndarray(request.inputs[name])
        assert value.shape == (1, *spec.shape[1:])
        assert value.dtype == spec.dtype.as_numpy_dtype
        assert all(len(output) == 1 for output in signature(**{name: tf.constant(value)}).values())


@pytest.fixture
def plain_export(tmp_path):
    """An export of a SavedModel alone."""
    run, x, _, _ = plain(tmp_path / "plain")
    runs.save_examples(run / "examples.npz", x)
    export_here(run, tmp_path / "plain_export", ("saved_model",))
    return tmp_path / "plain_export"


def test_without_the_serving_api_there_is_an_export_and_no_warm_up(monkeypatch, request):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    out = request.getfixturevalue("plain_export")
    assert {p.name for p in out.iterdir()} == {"saved_model", *IN_ANY_RUN}
    assert not (out / "saved_model" / "1" / "assets.extra").exists()
    assert set(rows_of_card(out)) == {"saved_model/1"}


# The card and export.json


def test_the_accuracy_is_that_of_the_examples_with_their_labels(tiny_run, exported, classified):
    _, labels = runs.load_examples(tiny_run[0])
    accuracy = float(np.mean(classified["label"] == labels))
    assert 0 < accuracy < 1
    cells = rows_of_card(exported[0])
    for name in EXACT:
        assert cells[name][2] == f"{accuracy:.2%}"
    x = runs.load_examples(tiny_run[0])[0]
    for file in LITERT.values():
        found = litert(exported[0] / file)("classify", inputs=x)["probabilities"].argmax(axis=1)
        assert cells[file][2] == f"{np.mean(found == labels):.2%}"


def test_the_record_for_programs_is_complete(tiny_run, exported):
    out, _ = exported
    record = json.loads((out / "export.json").read_text())
    assert set(record) == {"run", "files", "formats", "quantize", "version"}
    assert record["run"] == tiny_run[0].name
    assert (record["formats"], record["quantize"]) == (["saved_model", "litert", "onnx"], list(LITERT))
    assert record["version"] == 1
    assert set(record["files"]) == FILES
    cells = rows_of_card(out)
    for name, values in record["files"].items():
        assert values["run"] == tiny_run[0].name
        assert set(values) == {"run", "difference", "root_mean_square", "accuracy", "milliseconds", "bytes"}
        files = [out / name] if (out / name).is_file() else [p for p in (out / name).rglob("*") if p.is_file()]
        assert values["bytes"] == sum(file.stat().st_size for file in files)
        assert 0 < values["milliseconds"] < 1000
        assert cells[name] == [
            f"{values['bytes'] / 1e3:,.0f}",
            f"{values['difference']:.1e}",
            f"{values['accuracy']:.2%}",
            f"{values['milliseconds']:.3f}",
            f"{values['root_mean_square']:.1e}",
        ]


def test_class_names_stand_on_the_card(main, pretend, run, out):
    pretend(dict.fromkeys(EXACT, 0.0))
    config = runs.read_config(run)
    assert "Classes" not in command.card(run, {})
    (run / "config.json").write_text(json.dumps(config | {"class_names": ["cat", "dog"]}))
    main(run, "--out", out)
    assert "\nClasses, by `label`: 0 cat, 1 dog.\n" in (out / "README.md").read_text()


# What a difference does


def test_small_differences_pass_and_stand_on_the_card(main, pretend, run, out, capsys):
    pretend({"saved_model/1": 2.5e-07, "encoder.tflite": 9.9e-06})
    main(run, "--out", out)
    expected = {"saved_model/1": "2.5e-07", "encoder.tflite": "9.9e-06"}
    assert measured((out / "README.md").read_text()) == expected
    assert measured(capsys.readouterr().out) == expected
    files = {"README.md", "encoder.tflite", "export.json", "saved_model"}
    assert {p.name for p in out.iterdir()} == files
    assert [p.name for p in out.parent.iterdir()] == ["new"]


@pytest.mark.parametrize("error", [float("nan"), float("inf"), 1e-3, 5.1e-5], ids=str)
@pytest.mark.parametrize("file", sorted(EXACT))
def test_a_conversion_that_differs_from_keras_fails_and_leaves_nothing(refused, pretend, run, out, error, file):
    before = contents(run)
    pretend({**dict.fromkeys(EXACT, 1e-7), file: error})
    line = refused(run, "--out", out)
    assert f"Expected {file} within 5e-05 of Keras. Received: a difference of {error:.1e}" in line
    assert "Nothing was written" in line
    assert contents(out.parent) == {}
    assert contents(run) == before


@pytest.mark.parametrize(("method", "bound"), [("float16", 1e-3), ("dynamic", 2e-2), ("int8", 5e-2)])
def test_quantised_files_may_differ_by_what_rounding_gives(refused, main, pretend, run, out, method, bound):
    pretend({LITERT[method]: 1.1 * bound})
    assert f"Expected {LITERT[method]} within {bound} of Keras" in refused(run, "--out", out)
    assert contents(out.parent) == {}
    pretend({LITERT[method]: 0.9 * bound})
    main(run, "--out", out)
    assert (out / "README.md").is_file()


def test_a_conversion_that_crashes_shows_why_and_leaves_nothing(main, monkeypatch, run, out):
    crashed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback ...\nOpError: no such operation\n")
    monkeypatch.setattr(command.subprocess, "run", lambda *_, **__: crashed)
    with pytest.raises(RuntimeError, match=r"export\.convert failed:\n(?s:.*)no such operation"):
        main(run, "--out", out)
    assert contents(out.parent) == {}


def test_ctrl_c_ends_with_130_and_leaves_nothing(main, monkeypatch, run, out, capsys):
    def quietly(module, *arguments):
        (arguments[1] / "half").write_text("written")
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "quietly", quietly)
    with pytest.raises(SystemExit) as ended:
        main(run, "--out", out)
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == "export: interrupted. Nothing was written."
    assert contents(out.parent) == {}


@pytest.fixture
def compare(monkeypatch):
    """compare(given, expected, labels) -> what the check measures of a file that gives this for every input."""
    monkeypatch.setattr(check, "SECONDS", 0.01)

    def compare(given, expected, labels=None):
        return check.measure(lambda name, values: given.get(name), np.zeros((3, 2)), labels, expected, {})

    return compare


def test_the_difference_is_the_largest_of_all_outputs(compare):
    expected = {
        "classify/probabilities": np.array([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]]),
        "classify/label": np.array([1, 0, 0]),
        "encode/features": np.array([[1.0], [-200.0], [0.0]]),
    }
    given = {name: {} for name in ("classify", "encode")}
    for key, value in expected.items():
        signature, output = key.split("/")
        given[signature][output] = value.copy()
    assert compare(given, expected)["difference"] == 0
    given["encode"]["features"][1] += 4  # of 200
    assert compare(given, expected)["difference"] == pytest.approx(0.02)
    given["classify"]["probabilities"][0, 0] += 0.03  # of less than 1: absolute
    assert compare(given, expected)["difference"] == pytest.approx(0.03)
    given["classify"]["label"][2] = 1  # two equal probabilities
    assert compare(given, expected)["difference"] == pytest.approx(0.03)
    assert compare(given, expected)["accuracy"] is None
    assert compare(given, expected, np.array([1, 1, 0]))["accuracy"] == pytest.approx(2 / 3)
    given["classify"]["probabilities"][2, 1] = np.nan
    assert np.isnan(compare(given, expected)["difference"])


def test_a_file_of_which_nothing_can_be_compared_does_not_pass(compare, refused, pretend, run, out):
    difference = compare({}, {"encode/features": np.ones((3, 1))})["difference"]
    pretend({"encoder.tflite": difference})
    assert "encoder.tflite within" in refused(run, "--out", out)


# Where it goes


def test_an_empty_folder_may_be_the_place(main, pretend, run, out):
    pretend(dict.fromkeys(EXACT, 0.0))
    out.mkdir()
    main(run, "--out", out)
    assert (out / "README.md").is_file()


def test_folders_above_are_made(main, pretend, run, out):
    pretend(dict.fromkeys(EXACT, 0.0))
    main(run, "--out", out / "a" / "b")
    assert {p.name for p in (out / "a" / "b").iterdir()} == {
        "README.md",
        "encoder.tflite",
        "export.json",
        "saved_model",
    }


def test_without_out_it_goes_into_the_run(main, pretend, run):
    pretend(dict.fromkeys(EXACT, 0.0))
    before = contents(run)
    main(run)
    after = contents(run)
    assert {p.name for p in (run / "export").iterdir()} == {"README.md", "encoder.tflite", "export.json", "saved_model"}
    assert all(name.startswith("export") for name in set(after) - set(before))
    assert {name: after[name] for name in before} == before


def test_a_folder_that_holds_something_is_refused(refused, tiny_run, out):
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    assert f"{out}, which holds something" in refused(tiny_run[0], "--out", out)
    assert contents(out.parent) == {"new": None, "new/thesis.tex": b"mine"}


def test_a_file_and_a_place_below_a_file_are_refused(refused, tiny_run, out):
    out.write_text("mine")
    assert f"{out}, which holds something" in refused(tiny_run[0], "--out", out)
    assert f"{out / 'below'}" in refused(tiny_run[0], "--out", out / "below")
    assert contents(out.parent) == {"new": b"mine"}


# Again, to the same place


def test_a_second_export_is_a_second_version(tmp_path):
    """Of another model, so that what is left of the first shows."""
    out = tmp_path / "export"
    outputs = []
    for seed in (0, 1):
        run, x, expected, _ = plain(tmp_path / f"run_{seed}", seed)
        runs.save_examples(run / "examples.npz", x)
        export_here(run, out, ("saved_model", "litert") if seed == 0 else ("litert", "saved_model"))
        outputs.append(expected["features"])
        if seed == 0:
            before = contents(out)
    after = contents(out)
    of_version_1 = {name for name in before if name.startswith("saved_model/1/")}
    assert "saved_model/1/saved_model.pb" in of_version_1
    assert {name: after[name] for name in of_version_1} == {name: before[name] for name in of_version_1}
    for version, features in enumerate(outputs, 1):
        call = saved_model(out / "saved_model" / str(version))
        np.testing.assert_allclose(call("encode", inputs=x)["features"], features, atol=1e-5)
    np.testing.assert_allclose(litert(out / "encoder.tflite")("encode", inputs=x)["features"], outputs[1], atol=1e-5)
    with np.load(out / "check.npz") as content:
        np.testing.assert_allclose(content["encode/features"], outputs[1], atol=1e-5)
    assert {p.name for p in out.iterdir()} == {"saved_model", "encoder.tflite", *IN_ANY_RUN}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export", "run_0", "run_1"]
    assert set(rows_of_card(out)) == {"saved_model/1", "saved_model/2", "encoder.tflite"}
    record = json.loads((out / "export.json").read_text())
    assert set(record["files"]) == set(rows_of_card(out))
    assert (record["run"], record["version"]) == ("run_1", 2)
    assert {name: values["run"] for name, values in record["files"].items()} == {
        "saved_model/1": "run_0", "saved_model/2": "run_1", "encoder.tflite": "run_1"
    }  # fmt: skip
    card = (out / "README.md").read_text()
    assert "Made from the run `run_1`" in card
    assert "\nExported here earlier, from the run `run_0`: `saved_model/1`.\n" in card
    assert 'saved_model.load("saved_model/2")' in snippets(out)[0]


def test_a_version_appears_whole_by_one_rename(main, pretend, monkeypatch, run, out):
    pretend(dict.fromkeys(EXACT, 0.0))
    main(run, "--out", out)
    pretend({"saved_model/2": 0.0, "encoder.tflite": 0.0}, content=b"changed")
    rename, renamed = os.rename, []

    def watched(source, target):
        assert not target.exists()
        renamed.append((sorted(contents(source)), target))
        rename(source, target)

    monkeypatch.setattr(command.os, "rename", watched)
    main(run, "--out", out)
    [(whole, target)] = renamed
    assert whole == ["saved_model.pb", "variables", "variables/variables.index"]
    assert target == out.resolve() / "saved_model" / "2"
    assert (out / "saved_model" / "1" / "saved_model.pb").read_bytes() == b"converted"
    assert (out / "saved_model" / "2" / "saved_model.pb").read_bytes() == b"changed"
    assert (out / "encoder.tflite").read_bytes() == b"changed"
    assert [p.name for p in out.parent.iterdir()] == ["new"]


def test_versions_are_counted_as_numbers(main, pretend, run, out):
    for version in range(1, 12):
        pretend({f"saved_model/{version}": 0.0})
        main(run, "--out", out, "--to", "saved_model")
    assert {p.name for p in (out / "saved_model").iterdir()} == {str(version) for version in range(1, 12)}
    assert 'saved_model.load("saved_model/11")' in snippets(out)[0]


@pytest.mark.parametrize("file", ["saved_model/2", "encoder.tflite"])
def test_a_failed_check_leaves_an_earlier_export_as_it_was(refused, main, pretend, run, out, file):
    pretend(dict.fromkeys(EXACT, 0.0))
    main(run, "--out", out)
    before = contents(out.parent)
    pretend({"saved_model/2": 0.0, "encoder.tflite": 0.0, file: 1e-3}, content=b"wrong")
    assert "Nothing was written" in refused(run, "--out", out)
    assert contents(out.parent) == before


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"files": {"encoder.tflite": {}}}', '{"files": [1]}'])
def test_a_damaged_record_of_an_earlier_export_is_refused(refused, main, pretend, run, out, damage):
    pretend(dict.fromkeys(EXACT, 0.0))
    main(run, "--out", out)
    (out / "export.json").write_text(damage)
    before = contents(out.parent)
    line = refused(run, "--out", out)
    assert f"Received: {out / 'export.json'}, which is damaged. Name a new folder: --out" in line
    assert contents(out.parent) == before


def test_litert_alone_leaves_no_saved_model_behind(tmp_path):
    """It is made from one, which is on no account left where a server would take it up."""
    run, x, expected, _ = plain(tmp_path / "run")
    runs.save_examples(run / "examples.npz", x)
    for _ in range(2):
        export_here(run, tmp_path / "export", ("litert",))
        assert {p.name for p in (tmp_path / "export").iterdir()} == {"encoder.tflite", *IN_ANY_RUN}
        assert sorted(p.name for p in tmp_path.iterdir()) == ["export", "run"]
    found = litert(tmp_path / "export" / "encoder.tflite")("encode", inputs=x)["features"]
    np.testing.assert_allclose(found, expected["features"], atol=1e-5)
    assert json.loads((tmp_path / "export" / "export.json").read_text())["formats"] == ["litert"]
    assert "saved_model" not in "".join(snippets(tmp_path / "export"))


# What it refuses to read


@pytest.mark.parametrize(
    "flags", [["--outt", "x"], ["--o", "x"], ["one", "two"], []], ids=lambda flags: " ".join(flags)
)
def test_a_wrong_command_line_ends_with_one_line(refused, flags):
    assert refused(*flags).endswith(" See --help.")


@pytest.mark.parametrize(
    "make",
    [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("a file")],
    ids=["nothing", "an empty folder", "a file"],
)
def test_what_is_no_run_is_refused(refused, tmp_path, out, make):
    make(tmp_path / "other")
    assert f"{tmp_path / 'other'}, which has no config.json" in refused(tmp_path / "other", "--out", out)
    assert contents(out.parent) == {}


def unfinished(run):
    (run / "model.keras").unlink()


def cut_off(run):
    os.truncate(run / "model.keras", 2_000)


def another_archive(run):
    with zipfile.ZipFile(run / "model.keras", "w") as archive:
        archive.writestr("holiday.txt", "sun")


def no_weights(run):
    with zipfile.ZipFile(run / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(run / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, b"" if name.endswith(".h5") else content)


def no_examples(run):
    (run / "examples.npz").unlink()


def broken_examples(run):
    os.truncate(run / "examples.npz", 500)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (unfinished, ["did not finish"]),
        (cut_off, ["model.keras"]),
        (another_archive, ["model.keras"]),
        (no_weights, ["model.keras"]),
        (no_examples, ["examples.npz", "save_examples"]),
        (broken_examples, ["examples.npz"]),
    ],
)
def test_a_run_that_cannot_be_read_is_refused(refused, run, out, damage, words):
    damage(run)
    before = contents(run)
    line = refused(run, "--out", out)
    assert [word for word in [str(run), *words] if word not in line] == []
    assert contents(out.parent) == {}
    assert contents(run) == before


@pytest.mark.usefixtures("in_this_process")
def test_a_saved_autoencoder_without_examples_says_how_to_give_some(refused, tmp_path, out):
    run, *_ = plain(tmp_path / "run")
    line = refused(run, "--out", out)
    assert f"{run / 'examples.npz'} with inputs to check results on" in line
    assert "keras_sae.runs.save_examples(path, x)" in line
    assert contents(out.parent) == {}


@pytest.mark.usefixtures("in_this_process")
def test_int8_needs_rows_to_measure_ranges_on(refused, monkeypatch, tmp_path, out):
    """Which is said before anything is converted."""
    run, x, *_ = plain(tmp_path / "run")
    runs.save_examples(run / "examples.npz", x)
    monkeypatch.setattr(keras.export, "ExportArchive", None)
    line = refused(run, "--out", out, "--quantize", "int8")
    assert f"{run / 'calibration.npz'} with inputs to measure ranges on" in line
    assert "keras_sae.runs.save_examples(path, x)" in line
    assert contents(out.parent) == {}


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("to", "package", "extra"),
    [
        ("onnx", "tf2onnx", "onnx"),
        ("onnx", "onnx", "onnx"),
        ("onnx", "onnxruntime", "onnx"),
        ("litert", "ai_edge_litert", "export"),
    ],
)
def test_without_its_packages_a_format_says_what_to_install(refused, monkeypatch, tmp_path, out, to, package, extra):
    """Before anything is converted."""
    run, x, *_ = plain(tmp_path / "run")
    runs.save_examples(run / "examples.npz", x)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(keras.export, "ExportArchive", None)
    line = refused(run, "--out", out, "--to", "saved_model", to)
    assert f"to write {to}. Received: Python without {package}. pip install 'keras-sae[{extra}]'" in line
    assert contents(out.parent) == {}


def test_a_broken_model_ends_a_fresh_process_with_one_line(run, out):
    cut_off(run)
    done = subprocess.run(
        [sys.executable, "-m", "export", str(run), "--out", str(out)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("export: error: ")
    assert "model.keras" in done.stderr
    assert contents(out.parent) == {}


def test_help_teaches(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main("--help")
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for taught in (
        "RUN",
        "--out DIR",
        "default: RUN/export",
        "saved_model/1",
        "encoder.tflite",
        "python -m export runs",
    ):
        assert taught in text
