"""What python -m export writes: files that run without keras_sae and give what Keras gives, and their card."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from export import convert, runtimes, signatures
from export.exporting import BOUNDS
from keras_sae import runs
from keras_sae.data.preprocessing import fit_preprocessing
from tests.export.conftest import (
    ALL,
    EXACT,
    FILES,
    IN_ANY_RUN,
    LITERT,
    ROOT,
    assert_outputs,
    export_here,
    litert,
    measured,
    pairs,
    plain,
    random_weights,
    reconstruction,
    rows_of_card,
    saved_model,
    snippets,
    through,
)

# What somebody runs who has nothing but TensorFlow, or nothing but one interpreter: `call(x)` gives the outputs of
# `encode` by name. The code on the export's card runs after it.
SIGNATURES = ("encode", "encode_finetuned", "top", "classify", "decode", "reconstruct", "score", "images")
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


def raw(folder):
    """A stack on pictures of 2 x 2 pixels in colour that scales their bytes itself."""
    x = np.random.default_rng(2).integers(0, 256, (60, 12)).astype("uint8")
    stack = keras_sae.StackedAutoencoder(
        [keras_sae.SparseAutoencoder(5), keras_sae.SparseAutoencoder(3)], fit_preprocessing(x, value_range=(0, 255))
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
    export_here(run, folder / "export", formats=("saved_model", "litert", "onnx"), quantize=tuple(LITERT))
    return folder / "export", run, x, expected


# The files


def test_a_moving_average_leaves_no_trace_in_the_exports(tmp_path):
    """The encoder's layer that keeps it passes features on; LiteRT would refuse its variables."""
    x = np.random.default_rng(0).uniform(size=(9, 6)).astype("float32")
    ae = keras_sae.SparseAutoencoder(4, keras_sae.KLSparsity(window=128))
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


def test_the_check_holds_held_out_inputs_and_what_keras_gives_for_them(
    tiny_run, exported, features, finetuned, classified, stack
):
    inputs, labels = runs.load_examples(tiny_run[0])
    reconstructed = {f"reconstruct/{name}": value for name, value in by_hand_of_the_stack(stack, inputs).items()}
    expected = {
        "encode/features": features,
        "serving_default/features": features,
        "encode_finetuned/features": finetuned,
        "top/indices": np.argsort(-features, axis=1),
        "top/values": -np.sort(-features, axis=1),
        **{f"classify/{name}": value for name, value in classified.items()},
        **reconstructed,
        "decode/outputs": reconstructed["reconstruct/outputs"],
        "score/error": reconstructed["reconstruct/error"],
        "score/column_errors": (reconstructed["reconstruct/outputs"] - inputs) ** 2 / 2,
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
    assert features.std(axis=0).min() > 50 * BOUNDS["none"]


def test_the_signature_names_inputs_and_features_for_a_batch_of_any_size(called):
    package, seen, _ = called
    assert seen["inputs"] == ({"inputs": [None, 784]} if package == "tensorflow" else {"inputs": [-1, 784]})
    of_onnx = {"features", "features_finetuned", "probabilities"}
    assert set(seen["outputs"]) == (of_onnx if package == "onnxruntime" else {"features"})
    assert seen["outputs"]["features"][-1] == 9
    assert (
        seen["signatures"]
        == {
            "tensorflow": sorted([*SIGNATURES, "serving_default"]),
            "ai_edge_litert": ["classify", "encode", "encode_finetuned", "top"],
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


def test_the_check_needs_nothing_of_this_project_but_its_own_package(exported):
    code = """
import json, runpy, sys
runpy.run_module("export.check", run_name="__main__")
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, str(exported[0])], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *_, measured, modules = map(json.loads, done.stdout.splitlines())
    assert set(measured) == FILES
    assert {"export.runtimes", "tensorflow", "ai_edge_litert", "onnxruntime"} <= set(modules)
    assert [name for name in modules if name.split(".")[0] in ("keras_sae", "train")] == []


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
    assert all(0 <= float(card[name]) < 1 for name in FILES)
    assert all(float(card[name]) > 0 for name in FILES - EXACT)
    for file in FILES:
        assert str(out / file) in printed


# The signatures of a classifier's run


@pytest.fixture(scope="module")
def stack(tiny_run):
    """The pretrained stack that the run kept."""
    return runs.load_pretrained(tiny_run[0])


@pytest.fixture(scope="module")
def finetuned(tiny_run):
    """What `encode_finetuned` should give for the run's examples, by hand."""
    *hidden, _ = pairs(keras_sae.load(tiny_run[0]).get_weights())
    return through(hidden, runs.load_examples(tiny_run[0])[0])


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


@pytest.mark.parametrize("file", ["saved_model", "litert", "onnx"])
def test_encode_is_what_was_learned_without_labels(tiny_run, exported, stack, finetuned, file):
    """One rule for all files: `encode` is of the stack, `encode_finetuned` of the network below the softmax."""
    x = runs.load_examples(tiny_run[0])[0]
    path = {"saved_model": "saved_model/1", "litert": "encoder.tflite", "onnx": "encoder.onnx"}[file]
    functions = runtimes.open_file(exported[0] / path)
    found = {name: functions[name].run(x) for name in ("encode", "encode_finetuned")}
    np.testing.assert_allclose(found["encode"]["features"], stack.encode(x), atol=1e-5)
    np.testing.assert_allclose(found["encode_finetuned"]["features"], finetuned, atol=1e-5)
    assert np.abs(found["encode"]["features"] - finetuned).max() > 1e-4


@pytest.mark.parametrize("batch", [1, 7])
def test_a_classifier_reconstructs_by_the_stack_as_it_was_pretrained(tiny_run, callers, stack, features, batch):
    x = runs.load_examples(tiny_run[0])[0][:batch]
    found = callers["saved_model"]("reconstruct", inputs=x)
    assert_outputs(found, by_hand_of_the_stack(stack, x))
    np.testing.assert_allclose(found["outputs"], stack(x), atol=1e-6)
    assert_outputs(found, {**found, "features": features[:batch]})
    terms = (by_hand_of_the_stack(stack, x)["outputs"] - x) ** 2 / 2
    assert_outputs(callers["saved_model"]("score", inputs=x), {"error": found["error"], "column_errors": terms})
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
        "encode_finetuned": (["inputs"], {"features"}),
        "top": (["inputs"], {"indices", "values"}),
        "classify": (["inputs"], {"probabilities", "label", "score"}),
        "reconstruct": (["inputs"], {"features", "outputs", "error"}),
        "decode": (["features"], {"outputs"}),
        "score": (["inputs"], {"error", "column_errors"}),
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
        scored = call("score", inputs=x[:batch])
        assert_outputs(scored, {"error": expected["error"][:batch], "column_errors": scored["column_errors"]})
        np.testing.assert_allclose(scored["column_errors"].sum(axis=1), expected["error"][:batch], rtol=1e-5)
        np.testing.assert_allclose(encoded["features"], model.encode(x[:batch]), atol=1e-6)
        np.testing.assert_allclose(reconstructed["outputs"], model(x[:batch]), atol=1e-6)
    assert expected["features"].std(axis=0).min() > 0.02
    assert expected["error"].std() > 0.02


def test_an_autoencoder_has_the_signatures_that_it_can_have(autoencoder):
    from ai_edge_litert.interpreter import Interpreter

    out, run, *_ = autoencoder
    images = {"images"} if "pixel_range" in runs.read_config(run) else set()
    found = tf.saved_model.load(str(out / "saved_model" / "1")).signatures
    assert set(found) == {"encode", "serving_default", "top", "reconstruct", "decode", "score"} | images
    on_device = {"encode", "top", "reconstruct", "decode", "score"}
    assert set(Interpreter(str(out / "encoder.tflite")).get_signature_list()) == on_device


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
def test_quantised_files_stay_near_keras_and_tell_inputs_apart(
    tiny_run, exported, features, finetuned, classified, method
):
    x, call = runs.load_examples(tiny_run[0])[0], litert(exported[0] / LITERT[method])
    for signature, output, wanted in [
        ("encode", "features", features),
        ("encode_finetuned", "features", finetuned),
        ("classify", "probabilities", classified["probabilities"]),
    ]:
        found = call(signature, inputs=x)[output]
        assert np.sqrt(np.mean((found - wanted) ** 2)) <= BOUNDS[method]
        assert found.dtype == "float32"
    found = call("encode_finetuned", inputs=x)[
        "features"
    ]  # `encode` of so short a training varies by few steps of int8
    assert min(np.corrcoef(found[:, unit], finetuned[:, unit])[0, 1] for unit in range(9)) > 0.98
    if method != "none":
        assert np.abs(found - finetuned).max() > 1e-6  # it is quantised


@pytest.mark.parametrize("method", ["float16", "dynamic", "int8"])
def test_quantised_autoencoders_stay_near_keras(autoencoder, method):
    out, _, x, expected = autoencoder
    found = litert(out / LITERT[method])("reconstruct", inputs=x)
    for name, value in expected.items():
        relative = np.abs(found[name] - value) / np.maximum(1, np.abs(value))
        assert np.sqrt(np.mean(relative**2)) <= BOUNDS[method], name
        assert np.corrcoef(found[name].ravel(), value.ravel())[0, 1] > 0.98, name


# Programs that know no signatures, as on phones


def without_signatures(path, x):
    """What the plain interpreter gives for rows, one after the other and all at once: two arrays (rows, outputs)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()

    def call(rows):
        interpreter.resize_tensor_input(taken["index"], rows.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], rows)
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])

    interpreter.allocate_tensors()
    assert interpreter.get_input_details()[0]["shape"].tolist() == [1, x.shape[1]]
    return np.concatenate([call(row[None]) for row in x]), call(x)


@pytest.mark.parametrize("method", LITERT)
def test_without_signatures_a_classifiers_file_gives_features(tiny_run, exported, features, method):
    x = runs.load_examples(tiny_run[0])[0]
    by_signature = litert(exported[0] / LITERT[method])("encode", inputs=x)["features"]
    for found in without_signatures(exported[0] / LITERT[method], x):
        assert np.sqrt(np.mean((found - features) ** 2)) <= BOUNDS[method]
        np.testing.assert_allclose(found, by_signature, atol=1e-6 if method in ("none", "float16") else 2e-2)


@pytest.mark.parametrize("method", LITERT)
def test_without_signatures_an_autoencoders_file_gives_features(autoencoder, method):
    out, run, x, _ = autoencoder
    features = keras_sae.load_encoder(run).predict(x, verbose=0)
    for found in without_signatures(out / LITERT[method], x):
        assert np.sqrt(np.mean((found - features) ** 2)) <= BOUNDS[method]
        assert np.corrcoef(found.ravel(), features.ravel())[0, 1] > 0.98


def test_a_file_for_microcontrollers_takes_and_gives_int8(autoencoder, tmp_path):
    """By hand: q = x / scale + zero point. The card and export.json have the numbers that the file has."""
    from ai_edge_litert.interpreter import Interpreter

    _, run, x, expected = autoencoder
    measured = export_here(run, tmp_path / "export", formats=["litert"], quantize=["int8_io"])
    file = "encoder_int8_io.tflite"
    assert measured[file]["root_mean_square"] <= BOUNDS["int8_io"]
    runner = Interpreter(str(tmp_path / "export" / file)).get_signature_runner("encode")
    [taken], [given] = runner.get_input_details().values(), runner.get_output_details().values()
    assert (taken["dtype"], given["dtype"]) == (np.int8, np.int8)
    (scale, zero), (scale_out, zero_out) = taken["quantization"], given["quantization"]
    q = np.clip(np.rint(x / scale) + zero, -128, 127).astype("int8")
    found = scale_out * (runner(inputs=q)["features"].astype("float64") - zero_out)
    assert np.sqrt(np.mean((found - expected["features"]) ** 2)) <= BOUNDS["int8_io"]
    assert np.corrcoef(found.ravel(), expected["features"].ravel())[0, 1] > 0.98
    opened = runtimes.open_model(tmp_path / "export", file)
    np.testing.assert_allclose(opened(x)["features"], found, atol=1e-6)
    assert measured[file]["quantization"]["encode/inputs"] == [scale, zero]
    text = (tmp_path / "export" / "README.md").read_text()
    assert f"| `encode/inputs` | {float(scale)!r} | {zero} |" in text
    assert f"| `encode/features` | {float(scale_out)!r} | {zero_out} |" in text


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
    export_here(run, tmp_path / "plain_export", formats=["saved_model"])
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
    assert set(record) == {"run", "files", "formats", "quantize", "version", "sha256"}
    assert record["run"] == tiny_run[0].name
    assert (record["formats"], record["quantize"]) == (["saved_model", "litert", "onnx"], list(LITERT))
    assert record["version"] == 1
    assert set(record["files"]) == FILES
    cells = rows_of_card(out)
    for name, values in record["files"].items():
        assert values["run"] == tiny_run[0].name
        assert set(values) == {"run", "difference", "root_mean_square", "accuracy", "milliseconds", "bytes", "schema"}
        config = runs.read_config(tiny_run[0])
        assert values["schema"] == {name: config[name] for name in ("image_shape", "pixel_range") if name in config}
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
