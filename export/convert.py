"""A run's model as SavedModel, LiteRT and ONNX: python -m export.convert RUN DIR JSON, the first half of an export.

JSON holds "formats" (of saved_model, litert, onnx), "quantize" (of none, float16, dynamic, int8) and "version".
"""

import importlib.util
import json
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_sae import runs
from keras_sae.cli import reported
from keras_sae.errors import InputError

from . import signatures, warm_up

# Signatures of the LiteRT and ONNX files: those that a device wants, once each.
ON_DEVICE = ("encode", "decode", "reconstruct", "classify")
# What writing a format and checking it takes, and the extra that brings it.
NEEDED = (
    ("litert", ("ai_edge_litert",), "export"),
    ("onnx", ("tf2onnx", "onnx", "onnxruntime"), "onnx"),
)


def convert(run, directory, formats, quantize, version):
    """Write saved_model/VERSION/, encoder*.tflite, encoder.onnx as wanted, and check.npz with what Keras gives."""
    check_packages(formats)
    calibration = runs.load_examples(run, "calibration.npz")[0] if {"litert", "int8"} <= {*formats, *quantize} else None
    found = signatures.of_run(run)
    examples, labels = runs.load_examples(run)
    expected = expected_outputs(found, examples)
    # LiteRT is made from a SavedModel, which goes into the export if it is wanted.
    saved_model = (directory if "saved_model" in formats else directory.parent) / "saved_model" / str(version)
    write_saved_model(found, saved_model)
    if "litert" in formats:
        on_device = [name for name in ON_DEVICE if name in found and not found[name].pretrained]
        for method in quantize:
            write_litert(saved_model, directory / litert_name(method), method, on_device, found, calibration)
    if "onnx" in formats:
        write_onnx(found, directory / "encoder.onnx")
    if "saved_model" in formats:
        warm_up.write(saved_model, {name: signature.example(examples) for name, signature in found.items()})
    others = {} if labels is None else {"labels": labels}
    if "images" in found:
        others["images"] = found["images"].example(examples, len(examples))
    np.savez(directory / "check.npz", inputs=examples, **expected, **others)


def check_packages(formats):
    """Raise InputError where one is missing, which neither the conversion nor the check should be the first to find."""
    for name, packages, extra in NEEDED:
        missing = [package for package in packages if not importlib.util.find_spec(package)]
        if name in formats and missing:
            raise InputError(
                f"Expected {' and '.join(packages)} to write {name}. Received: Python without {' and '.join(missing)}. "
                f"pip install 'keras-sae[{extra}]'"
            )


def expected_outputs(found, examples):
    """What Keras gives for the examples, by "signature/output"."""
    expected = {}
    for name, signature in found.items():
        outputs = signature.function(tf.constant(signature.example(examples, len(examples))))
        expected |= {f"{name}/{output}": value.numpy() for output, value in outputs.items()}
    return expected


def write_saved_model(found, directory):
    """Write the signatures in TensorFlow Serving's layout (NAME/VERSION); a batch of any size."""
    archive = keras.export.ExportArchive()
    for number, model in enumerate({id(m): m for s in found.values() for m in s.models}.values()):
        setattr(archive, f"model_{number}", model)
        archive.track(model)
    for name, signature in found.items():
        archive.add_endpoint(name, signature.function, input_signature=[signature.spec])
    archive.write_out(str(directory), verbose=False)


def litert_name(method):
    return "encoder.tflite" if method == "none" else f"encoder_{method}.tflite"


def write_litert(saved_model, path, method, names, found, calibration):
    """Write signatures of a SavedModel as one LiteRT (TFLite) file, with the same names of inputs and outputs.

    LiteRT's own operations alone are allowed, so that it runs where TensorFlow's are missing. method: "none" (float32),
    "float16" (weights), "dynamic" (weights in 8 bits, activations quantised as they come), "int8" (both in 8 bits, by
    ranges measured on `calibration`, rows of the training set; inputs and outputs stay float32).
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=names)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if method != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if method == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if method == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        rows = {name: found[name].example(calibration, len(calibration)) for name in names}

        def representative():
            for name in names:
                for row in rows[name]:
                    yield name, {found[name].spec.name: row[None]}

        converter.representative_dataset = representative
    path.write_bytes(converter.convert())


def write_onnx(found, path):
    """Write an ONNX file: inputs -> features, and probabilities where there is a head."""
    import tf2onnx

    @tf.function(input_signature=[found["encode"].spec])
    def outputs(inputs):
        given = found["encode"].function(inputs)
        if "classify" in found:
            given["probabilities"] = found["classify"].function(inputs)["probabilities"]
        return {name: tf.identity(value, name) for name, value in given.items()}

    # tf2onnx.convert.from_function would take the constants of preprocessing layers for inputs of the graph.
    frozen = convert_variables_to_constants_v2(outputs.get_concrete_function())
    names = ["features"] + ["probabilities"] * ("classify" in found)
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
