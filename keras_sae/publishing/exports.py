"""What becomes of a preset when it is exported: each kind of file, with how far it is from Keras."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from ..errors import InputError

ONE_BY_ONE = ("float16", "dynamic", "int8")  # LiteRT files with fewer bits, of which a model may bear some
KEPT = ("bytes", "difference", "root_mean_square", "accuracy")


def measure(run: pathlib.Path, out: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Export a run in every way, and return what was measured of each file, by its name.

    A file with fewer bits that is too far from Keras has "refused" instead, with the reason.

    Raises:
        InputError: packages are missing, or a file in full precision differs from Keras.
    """
    _export(run, out, "--to", "saved_model", "litert", *(["onnx"] if importlib.util.find_spec("tf2onnx") else []))
    refused = {}
    for method in ONE_BY_ONE:
        try:
            _export(run, out, "--to", "litert", "--quantize", method)
        except InputError as error:
            refused[f"encoder_{method}.tflite"] = {"refused": str(error)}
    files = json.loads((out / "export.json").read_text())["files"]
    return {name: {key: values[key] for key in KEPT} for name, values in files.items()} | refused


def _export(run: pathlib.Path, out: pathlib.Path, *flags: str) -> None:
    """Run the command that exports, in a process of its own, as users do."""
    command = [sys.executable, "-m", "keras_sae", "export", str(run), "--out", str(out), *flags]
    root = pathlib.Path(__file__).parents[2]  # this copy of the library, if several are installed
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    if done.returncode == 2:
        raise InputError(done.stderr.splitlines()[-1].removeprefix("export: error: "))
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
