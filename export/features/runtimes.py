"""Exported models of every kind behind one face: rows in, named arrays out. Open one with `open_model`."""

import hashlib
import importlib
import os
import pathlib

import numpy as np

from keras_sae.cli import stderr_suppressed
from keras_sae.errors import InputError

KINDS = ("saved_model", "litert", "onnx")
LAYOUT = "saved_model/1/, encoder.tflite or encoder.onnx"
_SAME = ("encode", "serving_default")  # exports give the features by both names, older LiteRT files by the second only
_PACKAGES = {
    "tensorflow": "tensorflow",
    "ai_edge_litert.interpreter": "ai-edge-litert",
    "onnxruntime": "onnxruntime",
}


def open_model(export, model=None, signature="encode"):
    """The `Model` of an export folder, or of a model file.

    model: one of KINDS, a file in the folder or elsewhere, or None for the first kind that is there.

    Raises:
        InputError: no such export, file or signature; a file that is damaged; a package that is not installed.
    """
    path = find(pathlib.Path(export), model)
    opened = SavedModel if path.is_dir() else {".tflite": LiteRT, ".onnx": ONNX}[path.suffix]
    try:
        with stderr_suppressed():
            return opened(path, signature)
    except InputError:
        raise
    except Exception as error:  # each runtime has its own kinds
        raise InputError(
            f"Expected a model that can be read. Received: {path}, which cannot be: {_first_line(error)}. Export it "
            "again."
        ) from error


def find(export, model):
    """The path of a model: a folder with saved_model.pb, a .tflite or a .onnx file."""
    if not export.exists():
        raise InputError(
            f"Expected an export, the --out of python -m export. Received: {export}, which does not exist."
        )
    if model is not None and model not in KINDS:
        return _named(export, model)
    if _is_model(export) and model is None:
        return export
    for kind in KINDS if model is None else (model,):
        found = _of_kind(export, kind)
        if found:
            return found
    holds = "which holds none" if model is None else f"which has no {model}"
    raise InputError(
        f"Expected an export with {LAYOUT}. Received: {export}, {holds}. Make one: python -m export RUN --out {export}"
    )


def _named(export, model):
    for path in (export / model, pathlib.Path(model)):
        if _is_model(path):
            return path
    raise InputError(
        f"Expected {', '.join(KINDS)} or a model: a .tflite or .onnx file, or a folder with saved_model.pb. Received: "
        f"{model}, which is none, here or in {export}."
    )


def _is_model(path):
    return (path / "saved_model.pb").is_file() or (path.is_file() and path.suffix in (".tflite", ".onnx"))


def _of_kind(export, kind):
    """The model of this kind in an export, or None: the newest SavedModel, encoder.tflite or the only other one."""
    if kind == "saved_model":
        versions = [path.parent for path in export.glob("saved_model/*/saved_model.pb") if path.parent.name.isdecimal()]
        return max(versions, key=lambda path: int(path.name), default=None)
    if kind == "onnx":
        return export / "encoder.onnx" if (export / "encoder.onnx").is_file() else None
    files = sorted(export.glob("encoder*.tflite"))
    if len(files) > 1 and export / "encoder.tflite" not in files:
        names = ", ".join(file.name for file in files)
        raise InputError(f"Expected one LiteRT file in {export}. Received: {names}. Name one: --model {files[0].name}")
    return (export / "encoder.tflite" if len(files) > 1 else files[0]) if files else None


def fingerprint(path):
    """A hash of a model's content, str."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(path)).encode())
        with open(file, "rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _package(module):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = _PACKAGES[module]
        raise InputError(
            f"Expected {name} to run this kind of model. Received: Python without it. pip install {name}"
        ) from error


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip().rstrip(".")[:200]


def _pick(signature, found, path):
    """The name of a signature among those found in a file."""
    for name in (signature, *(_SAME if signature in _SAME else ())):
        if name in found:
            return name
    raise InputError(
        f"Expected a signature of {path}: {', '.join(sorted(found)) or 'it has none'}. Received: {signature}. Name "
        "another: --signature"
    )


class Model:
    """A model as a function from rows, (examples, features) float, to a dict of arrays (examples, ...).

    path: of the file or folder.  input: the name of what it takes.  dtype: of that.  features: how many it takes, or
    None for any number.
    """

    def __init__(self, path, inputs):
        """inputs: name -> (shape with None where any size goes, dtype) of what the model takes."""
        self.path = path
        if len(inputs) != 1:
            raise InputError(f"Expected a model of one input. Received: {', '.join(inputs) or 'none'} in {path}.")
        [(self.input, (shape, self.dtype))] = inputs.items()
        if np.dtype(self.dtype).kind != "f":
            raise InputError(
                f"Expected a model of floats, as python -m export writes. Received: inputs of {self.dtype} in {path}."
            )
        if len(shape) != 2 or shape[0] is not None:
            raise InputError(
                f"Expected a model of rows, (any number, features). Received: inputs of shape {tuple(shape)} in {path}."
            )
        self.features = shape[1]

    def __call__(self, rows):
        try:
            return self.run(np.ascontiguousarray(rows, self.dtype))
        except Exception as error:  # each runtime has its own kinds
            raise InputError(
                f"Expected a model that can be run. Received: {self.path}, which cannot be: {_first_line(error)}. "
                "Export it again, or lower --batch-size."
            ) from error

    def check_features(self, number, data):
        """Raise InputError unless the data have as many features as the model takes."""
        if self.features not in (None, number):
            raise InputError(
                f"Expected rows of {self.features:,} features, as {self.path} takes. Received: {number:,} in {data}. "
                "Give data like those that it was trained on; --labels leaves a column of labels out."
            )


class SavedModel(Model):
    """A TensorFlow SavedModel."""

    def __init__(self, path, signature):
        self._tensorflow = _package("tensorflow")
        self._loaded = self._tensorflow.saved_model.load(str(path))  # kept: the signature's variables live in it
        self._function = self._loaded.signatures[_pick(signature, self._loaded.signatures, path)]
        specs = self._function.structured_input_signature[1]
        super().__init__(
            path, {name: (spec.shape.as_list(), spec.dtype.as_numpy_dtype) for name, spec in specs.items()}
        )

    def run(self, rows):
        outputs = self._function(**{self.input: self._tensorflow.constant(rows)})
        return {name: output.numpy() for name, output in outputs.items()}


class LiteRT(Model):
    """A LiteRT (TFLite) file, on all cores."""

    def __init__(self, path, signature):
        interpreter = _package("ai_edge_litert.interpreter").Interpreter(str(path), num_threads=os.cpu_count())
        name = _pick(signature, interpreter.get_signature_list(), path)
        self._interpreter, self.run_signature = interpreter, interpreter.get_signature_runner(name)
        inputs = {
            name: ([None if size == -1 else int(size) for size in detail["shape_signature"]], detail["dtype"])
            for name, detail in self.run_signature.get_input_details().items()
        }
        super().__init__(path, inputs)

    def run(self, rows):
        return self.run_signature(**{self.input: rows})


class ONNX(Model):
    """An ONNX file with onnxruntime on the CPU: one function, whose outputs are those of several signatures."""

    def __init__(self, path, signature):
        onnxruntime = _package("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        outputs = [output.name for output in self._session.get_outputs()]
        found = {"encode": ["features"] if "features" in outputs else outputs}
        if "probabilities" in outputs:
            found["classify"] = [name for name in outputs if name in ("probabilities", "label", "score")]
        self._names = found[_pick(signature, found, path)]
        types = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
        inputs = {
            put.name: ([size if isinstance(size, int) else None for size in put.shape], types.get(put.type, "uint8"))
            for put in self._session.get_inputs()
        }
        super().__init__(path, inputs)

    def run(self, rows):
        return dict(zip(self._names, self._session.run(self._names, {self.input: rows}), strict=True))
