"""Write a run's model as SavedModel, LiteRT and ONNX: python -m export.convert RUN WORK OPTIONS (see exporting.py)."""

import importlib.util
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_sae.cli import reported
from keras_sae.errors import InputError

from . import layout, signatures, warm_up
from .examples import check_features, codes_jump, encoders_of, rows_of, to_compare
from .signatures import Signatures

# Signatures of the LiteRT and ONNX files: those that a device wants, once each.
ON_DEVICE = ("encode", "encode_finetuned", "top", "decode", "reconstruct", "score", "classify")
LARGE = 2**20  # bytes of a constant
# What writing a format and checking it takes, and the extra that brings it.
NEEDED = (
    ("litert", ("ai_edge_litert",), "export"),
    ("onnx", ("tf2onnx", "onnx", "onnxruntime"), "onnx"),
)


def convert(
    run: pathlib.Path, work: pathlib.Path, formats: Sequence[str], quantize: Sequence[str], version: int
) -> dict[str, Any]:
    """Write saved_model/VERSION/, encoder*.tflite, encoder.onnx as wanted, and check.npz with what Keras gives.

    Return what the process prints.
    """
    check_packages(formats)
    calibration = rows_of(run, work, "calibration")[0] if layout.calibrated(formats, quantize) else None
    found = signatures.of_run(run)
    examples, labels, left_out = to_compare(found, run, work)
    if calibration is not None:
        check_features(found, calibration)
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
    np.savez_compressed(directory / "check.npz", **arrays)  # codes are zeros mostly
    return {"left_out": left_out, "jumps": any(map(codes_jump, encoders_of(found)))}


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
    """Write the signatures in TensorFlow Serving's layout (NAME/VERSION); a batch of any size.

    An ExportArchive keeps the variables that they use by itself. With models that it tracks as well, all weights would
    be in the files twice.
    """
    archive = keras.export.ExportArchive()
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
    import onnx
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
    graph = convert_variables_to_constants_v2(outputs.get_concrete_function()).graph.as_graph_def()
    weights = take_weights(graph)
    model, _ = tf2onnx.convert.from_graph_def(
        graph,
        input_names=["inputs:0", *weights],
        output_names=[f"{name}:0" for name in names],
        tensors_to_rename={f"{name}:0": name for name in ["inputs", *names]},
        opset=18,
    )
    for put in [put for put in model.graph.input if put.name in weights]:
        model.graph.input.remove(put)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights[put.name], put.name))
    path.write_bytes(model.SerializeToString())


def take_weights(graph: Any) -> dict[str, np.ndarray]:
    """Make inputs of the large constants of a graph, and return them by the names of their tensors.

    tf2onnx copies constants at each of its steps: without this it takes 60 times their memory.
    """
    weights = {}
    for node in graph.node:
        if node.op == "Const" and node.attr["value"].tensor.ByteSize() > LARGE:
            tensor = node.attr["value"].tensor
            weights[f"{node.name}:0"] = tf.make_ndarray(tensor)
            node.op = "Placeholder"
            node.attr["shape"].shape.CopyFrom(tensor.tensor_shape)
            del node.attr["value"]
    return weights


if __name__ == "__main__":
    with reported("export", lambda: "Nothing was written."):
        print(json.dumps(convert(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), **json.loads(sys.argv[3]))))
