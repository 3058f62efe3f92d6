"""Write a run's model as SavedModel, LiteRT and ONNX: python -m export.convert RUN WORK OPTIONS (see exporting.py)."""

import importlib.util
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_sae import runs
from keras_sae.cli import reported
from keras_sae.errors import InputError

from . import layout, signatures, warm_up

# Signatures of the LiteRT and ONNX files: those that a device wants, once each.
ON_DEVICE = ("encode", "encode_finetuned", "decode", "reconstruct", "score", "classify")
MADE_UP = 200  # rows
# What writing a format and checking it takes, and the extra that brings it.
NEEDED = (
    ("litert", ("ai_edge_litert",), "export"),
    ("onnx", ("tf2onnx", "onnx", "onnxruntime"), "onnx"),
)

Signatures = Mapping[str, signatures.Signature]


def convert(
    run: pathlib.Path, work: pathlib.Path, formats: Sequence[str], quantize: Sequence[str], version: int
) -> None:
    """Write saved_model/VERSION/, encoder*.tflite, encoder.onnx as wanted, and check.npz with what Keras gives."""
    check_packages(formats)
    calibration = rows_of(run, work, "calibration")[0] if layout.calibrated(formats, quantize) else None
    found = signatures.of_run(run)
    has_examples = any((place / "examples.npz").exists() for place in (work, run))
    examples, labels = rows_of(run, work, "examples") if has_examples else (made_up_rows(found), None)
    for rows in (examples, calibration):
        if rows is not None and rows.shape[1:] != found["encode"].spec.shape[1:]:
            raise InputError(
                f"Expected rows of {found['encode'].spec.shape[1]:,} features, as the model takes. Received: shape "
                f"{rows.shape}. Give rows like those that it was trained on."
            )
    directory = work / "export"
    # LiteRT is made from a SavedModel, which goes into the export if it is wanted.
    saved_model = (directory if "saved_model" in formats else work) / layout.SAVED_MODEL / str(version)
    write_saved_model(found, saved_model)
    if "litert" in formats:
        on_device = [name for name in ON_DEVICE if name in found and found[name].on_device]
        for method in quantize:
            write_litert(saved_model, directory / layout.litert_file(method), method, on_device, found, calibration)
    if "onnx" in formats:
        write_onnx(found, directory / layout.ONNX)
    if "saved_model" in formats:
        warm_up.write(saved_model, {name: signature.example(examples) for name, signature in found.items()})
    arrays: dict[str, Any] = {"inputs": examples, **expected_outputs(found, examples)}
    if labels is not None:
        arrays["labels"] = labels
    if "images" in found:
        arrays["images"] = found["images"].example(examples, len(examples))
    np.savez(directory / "check.npz", **arrays)


def rows_of(run: pathlib.Path, work: pathlib.Path, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the inputs of this name that were given, or else the run's, and their labels or None."""
    given = (work / f"{name}.npz").exists()
    x, labels = runs.load_examples(work if given else run, f"{name}.npz")
    return np.asarray(x, "float32"), labels


def made_up_rows(found: Signatures) -> np.ndarray:
    """Return rows at random in the range of a model's inputs, as far as the model tells it: (MADE_UP, features).

    They show a wrong conversion as real rows do, for runs that keep none of these.
    """
    encoder, random = found["encode"].models[0], np.random.default_rng(0)
    shape = (MADE_UP, encoder.input_shape[1])
    steps = [step for layer in encoder.layers if layer.name == "preprocessing" for step in getattr(layer, "layers", [])]
    if len(steps) > 1 and all(isinstance(step, keras.layers.Rescaling) for step in steps[:2]):
        # (x - low) / (high - low), or the same with mean and standard deviation before contrast or whitening.
        scaled = random.uniform(size=shape) if steps[1].name == "scale" else random.normal(size=shape)
        return (scaled / np.asarray(steps[1].scale) - np.asarray(steps[0].offset)).astype("float32")
    activation = getattr(found["reconstruct"].models[0], "output_activation", None) if "reconstruct" in found else None
    low, high = {"tanh": (-1, 1), "linear": (-2, 2)}.get(getattr(activation, "__name__", ""), (0, 1))
    return random.uniform(low, high, shape).astype("float32")


def check_packages(formats: Sequence[str]) -> None:
    """Raise InputError if a package is missing, before anything is converted."""
    for name, packages, extra in NEEDED:
        missing = [package for package in packages if not importlib.util.find_spec(package)]
        if name in formats and missing:
            raise InputError(
                f"Expected {' and '.join(packages)} to write {name}. Received: Python without {' and '.join(missing)}. "
                f"pip install 'keras-sae[{extra}]'"
            )


def expected_outputs(found: Signatures, examples: np.ndarray) -> dict[str, np.ndarray]:
    """Return what Keras gives for the examples, by "signature/output"."""
    expected: dict[str, np.ndarray] = {}
    for name, signature in found.items():
        outputs = signature.function(tf.constant(signature.example(examples, len(examples))))
        expected |= {f"{name}/{output}": value.numpy() for output, value in outputs.items()}
    return expected


def write_saved_model(found: Signatures, directory: pathlib.Path) -> None:
    """Write the signatures in TensorFlow Serving's layout (NAME/VERSION); a batch of any size."""
    archive = keras.export.ExportArchive()
    for number, model in enumerate({id(m): m for s in found.values() for m in s.models}.values()):
        setattr(archive, f"model_{number}", model)
        archive.track(model)
    for name, signature in found.items():
        archive.add_endpoint(name, signature.function, input_signature=[signature.spec])
    archive.write_out(str(directory), verbose=False)


def write_litert(
    saved_model: pathlib.Path,
    path: pathlib.Path,
    method: str,
    names: Sequence[str],
    found: Signatures,
    calibration: np.ndarray | None,
) -> None:
    """Write signatures of a SavedModel as one LiteRT (TFLite) file, with the same names of inputs and outputs.

    LiteRT's own operations alone are allowed, so that it runs where TensorFlow's are missing. method: "none" (float32),
    "float16" (weights), "dynamic" (weights in 8 bits, activations quantised as they come), "int8" (both in 8 bits, by
    ranges measured on `calibration`, rows of the training set; inputs and outputs stay float32), "int8_io" (the same
    with inputs and outputs in 8 bits, as microcontrollers take them).
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=names)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if method != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if method == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if method in ("int8", "int8_io") and calibration is not None:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        rows = {name: found[name].example(calibration, len(calibration)) for name in names}

        def representative():
            for name in names:
                for row in rows[name]:
                    yield name, {found[name].spec.name: row[None]}

        converter.representative_dataset = representative
    if method == "int8_io":
        converter.inference_input_type = converter.inference_output_type = tf.int8
    path.write_bytes(encode_first(converter.convert()))


def encode_first(content: bytes) -> bytes:
    """Return a LiteRT file whose first subgraph is that of `encode`: programs that know no signatures run the first.

    The converter sorts them by name. Two change places, so that all others keep the index by which operators find them.
    """
    model = flatbuffer_utils.read_model_from_bytearray(content)
    encode = next(signature for signature in model.signatureDefs if signature.signatureKey == b"encode")
    first = next(signature for signature in model.signatureDefs if signature.subgraphIndex == 0)
    place = encode.subgraphIndex
    model.subgraphs[0], model.subgraphs[place] = model.subgraphs[place], model.subgraphs[0]
    first.subgraphIndex, encode.subgraphIndex = place, 0
    return flatbuffer_utils.convert_object_to_bytearray(model)


def write_onnx(found: Signatures, path: pathlib.Path) -> None:
    """Write an ONNX file: inputs -> features, features_finetuned and probabilities, as far as they are there."""
    import tf2onnx

    graph = {  # name of an output -> signature, its output
        "features": ("encode", "features"),
        "features_finetuned": ("encode_finetuned", "features"),
        "probabilities": ("classify", "probabilities"),
    }
    names = [name for name, (signature, _) in graph.items() if signature in found]

    @tf.function(input_signature=[found["encode"].spec])
    def outputs(inputs):
        given = {name: found[graph[name][0]].function(inputs)[graph[name][1]] for name in names}
        return {name: tf.identity(value, name) for name, value in given.items()}

    # tf2onnx.convert.from_function would take the constants of preprocessing layers for inputs of the graph.
    frozen = convert_variables_to_constants_v2(outputs.get_concrete_function())
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=["inputs:0"],
        output_names=[f"{name}:0" for name in names],
        tensors_to_rename={f"{name}:0": name for name in ["inputs", *names]},
        opset=18,
    )
    path.write_bytes(model.SerializeToString())


if __name__ == "__main__":
    with reported("export", lambda: "Nothing was written."):
        convert(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), **json.loads(sys.argv[3]))
