"""Exported models of every format behind one face.

`open_model` opens a model that a user names, for rows of data; `open_file` opens all signatures of a file.

Of keras_sae only errors and the like are imported, when they are needed: the check of an export runs without it.
"""

import hashlib
import importlib
import os
import pathlib
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from . import layout

_SAME = ("encode", "serving_default")  # exports give the features by both names, older LiteRT files by the second only
_PACKAGES = {
    "tensorflow": "tensorflow",
    "ai_edge_litert.interpreter": "ai-edge-litert",
    "onnxruntime": "onnxruntime",
}


class Function(NamedTuple):
    """One signature of a file.

    inputs: what it takes, name -> (shape, with None for any size; dtype).  run: for functions of one input, an array
    -> the outputs by name.  quantization: of tensors in 8 bits, name -> (scale, zero point); `run` takes and gives the
    numbers that these stand for, scale (q - zero point).
    """

    inputs: dict[str, tuple[list[int | None], Any]]
    run: Callable[[np.ndarray], dict[str, np.ndarray]]
    quantization: dict[str, tuple[float, int]] = {}  # noqa: RUF012


def open_model(
    export: str | os.PathLike[str],
    model: str | os.PathLike[str] | None = None,
    signature: str = "encode",
    cure: str = "Name another: --signature",
) -> "Model":
    """Return the `Model` of an export directory, or of a model file.

    model: a format, a file in the directory or elsewhere, or None for the first format that is there.  cure: what to do
    if there is no such signature.

    Raises:
        InputError: no such export, file or signature; a file that is damaged; a package that is not installed.
    """
    from keras_sae.cli import stderr_suppressed
    from keras_sae.errors import InputError

    path = find(pathlib.Path(export), model)
    try:
        with stderr_suppressed():
            layout.check_files(path)
            functions = open_file(path)
    except InputError:
        raise
    except Exception as error:  # each runtime has its own kinds
        raise InputError(
            f"Expected a model that can be read. Received: {path}, which cannot be: {_first_line(error)}. Export it "
            "again."
        ) from error
    return Model(path, functions[_pick(signature, functions, path, cure)])


def open_file(path: pathlib.Path) -> dict[str, Function]:
    """Return the functions of a SavedModel's directory, a .tflite or a .onnx file, by the names of its signatures."""
    return (_saved_model if path.is_dir() else {".tflite": _litert, ".onnx": _onnx}[path.suffix])(path)


def _saved_model(path: pathlib.Path) -> dict[str, Function]:
    tensorflow = _package("tensorflow")
    loaded = tensorflow.saved_model.load(str(path))

    def function(name: str) -> Function:
        specs = loaded.signatures[name].structured_input_signature[1]

        def run(values: np.ndarray) -> dict[str, np.ndarray]:
            # By `loaded`, which is kept with it, because the variables live in there.
            outputs = loaded.signatures[name](**{next(iter(specs)): tensorflow.constant(values)})
            return {output: outputs[output].numpy() for output in sorted(outputs)}  # a SavedModel keeps no order

        shapes = {key: list(spec.shape) if spec.shape.rank else [] for key, spec in specs.items()}
        return Function({key: (shapes[key], spec.dtype.as_numpy_dtype) for key, spec in specs.items()}, run)

    return {name: function(name) for name in loaded.signatures}


def _litert(path: pathlib.Path) -> dict[str, Function]:
    """Open a LiteRT file, to run on all cores."""
    interpreter = _package("ai_edge_litert.interpreter").Interpreter(str(path), num_threads=os.cpu_count())

    def function(name: str) -> Function:
        runner = interpreter.get_signature_runner(name)
        details = runner.get_input_details()
        in_8_bits = {
            key: (float(detail["quantization"][0]), int(detail["quantization"][1]))
            for key, detail in {**details, **runner.get_output_details()}.items()
            if detail["dtype"] == np.int8
        }
        inputs = {
            key: (
                [None if size == -1 else int(size) for size in detail["shape_signature"]],
                np.float32 if key in in_8_bits else detail["dtype"],
            )
            for key, detail in details.items()
        }

        def run(values: np.ndarray) -> dict[str, np.ndarray]:
            name = next(iter(inputs))
            outputs = runner(**{name: _to_8_bits(values, *in_8_bits[name]) if name in in_8_bits else values})
            return {
                key: _from_8_bits(value, *in_8_bits[key]) if key in in_8_bits else value
                for key, value in outputs.items()
            }

        return Function(inputs, run, in_8_bits)

    return {name: function(name) for name in interpreter.get_signature_list()}


def _to_8_bits(values: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    return np.clip(np.rint(np.asarray(values) / scale) + zero_point, -128, 127).astype("int8")


def _from_8_bits(values: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    return np.float32(scale) * (values.astype("float32") - zero_point)


def _onnx(path: pathlib.Path) -> dict[str, Function]:
    """Open an ONNX file on the CPU: one graph, whose outputs are those of several signatures."""
    onnxruntime = _package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
    inputs = {
        put.name: ([size if isinstance(size, int) else None for size in put.shape], types.get(put.type, "uint8"))
        for put in session.get_inputs()
    }

    def function(names: list[str]) -> Function:
        called = [name.removesuffix("_finetuned") for name in names]
        return Function(
            inputs, lambda values: dict(zip(called, session.run(names, {next(iter(inputs)): values}), strict=True))
        )

    outputs = [output.name for output in session.get_outputs()]
    head = [name for name in outputs if name in ("probabilities", "label", "score")]
    found = {"encode": function(["features"] if "features" in outputs else outputs)}
    found |= {"encode_finetuned": function(["features_finetuned"])} if "features_finetuned" in outputs else {}
    return {**found, "classify": function(head)} if "probabilities" in head else found


class Model:
    """A model as a function from rows, (examples, features) float, to a dict of arrays (examples, ...).

    path: of the file or directory.  features: how many it takes, or None for any number.  dtype: of the rows.
    scale: what rows are multiplied by first.
    """

    scale = 1.0

    def __init__(self, path: pathlib.Path, function: Function):
        self.path, self.run = path, function.run
        if len(function.inputs) != 1:
            names = ", ".join(function.inputs) or "none"
            raise _refused(f"Expected a model of one input. Received: {names} in {path}.")
        [(shape, self.dtype)] = function.inputs.values()
        if np.dtype(self.dtype).kind != "f":
            raise _refused(
                f"Expected a model of floats, as python -m export writes. Received: inputs of {self.dtype} in {path}."
            )
        if len(shape) != 2 or shape[0] is not None:
            raise _refused(
                f"Expected a model of rows, (any number, features). Received: inputs of shape {tuple(shape)} in {path}."
            )
        self.features = shape[1]

    def __call__(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        values = np.ascontiguousarray(rows, self.dtype)
        try:
            return self.run(values if self.scale == 1 else values * np.asarray(self.scale, self.dtype))
        except Exception as error:  # each runtime has its own kinds
            raise _refused(
                f"Expected a model that can be run. Received: {self.path}, which cannot be: {_first_line(error)}. "
                "Export it again, or lower --batch-size."
            ) from error

    def check_features(self, number: int, data: object) -> None:
        """Raise InputError unless the data have as many features as the model takes."""
        if self.features not in (None, number):
            raise _refused(
                f"Expected rows of {self.features:,} features, as {self.path} takes. Received: {number:,} in {data}. "
                "Give data like those that it was trained on; --labels leaves a column of labels out."
            )


def find(export: pathlib.Path, model: str | os.PathLike[str] | None) -> pathlib.Path:
    """Return the path of a model: a directory with saved_model.pb, a .tflite or a .onnx file."""
    if not export.exists():
        raise _refused(f"Expected an export, the --out of python -m export. Received: {export}, which does not exist.")
    if model is not None and model not in layout.FORMATS:
        return _named(export, model)
    if _is_model(export) and model is None:
        return export
    for kind in layout.FORMATS if model is None else (str(model),):
        found = _of_kind(export, kind)
        if found:
            return found
    holds = "which holds none" if model is None else f"which has no {model}"
    raise _refused(
        f"Expected an export with {layout.SAVED_MODEL}/1/, {layout.LITERT} or {layout.ONNX}. Received: {export}, "
        f"{holds}. Make one: python -m export RUN --out {export}"
    )


def _named(export: pathlib.Path, model: str | os.PathLike[str]) -> pathlib.Path:
    for path in (export / model, pathlib.Path(model)):
        if _is_model(path):
            return path
    raise _refused(
        f"Expected {', '.join(layout.FORMATS)} or a model: a .tflite or .onnx file, or a directory with "
        f"saved_model.pb. Received: {model}, which is none, here or in {export}."
    )


def _is_model(path: pathlib.Path) -> bool:
    return (path / "saved_model.pb").is_file() or (path.is_file() and path.suffix in (".tflite", ".onnx"))


def _of_kind(export: pathlib.Path, kind: str) -> pathlib.Path | None:
    """Return an export's model of a format: the newest SavedModel, encoder.tflite or the only other LiteRT file."""
    if kind == "saved_model":
        return layout.newest_saved_model(export)
    path = export / (layout.LITERT if kind == "litert" else layout.ONNX)
    if path.is_file() or kind == "onnx":
        return path if path.is_file() else None
    files = sorted(export.glob("encoder*.tflite"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise _refused(f"Expected one LiteRT file in {export}. Received: {names}. Name one: --model {files[0].name}")
    return files[0] if files else None


def fingerprint(path: pathlib.Path) -> str:
    """Return a hash of a model's content."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(path)).encode())
        with open(file, "rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _package(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = _PACKAGES[module]
        raise _refused(
            f"Expected {name} to run this kind of model. Received: Python without it. pip install {name}"
        ) from error


def _pick(signature: str, found: Collection[str], path: pathlib.Path, cure: str) -> str:
    """Return the name of a signature among those found in a file."""
    for name in (signature, *(_SAME if signature in _SAME else ())):
        if name in found:
            return name
    raise _refused(
        f"Expected a signature of {path}: {', '.join(sorted(found)) or 'it has none'}. Received: {signature}. {cure}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip().rstrip(".")[:200]


def _refused(message: str) -> ValueError:
    """Return the library's InputError, which commands print in one line."""
    from keras_sae.errors import InputError

    return InputError(message)
