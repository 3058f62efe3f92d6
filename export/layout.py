"""Where the files of an export lie: TensorFlow Serving's layout of versions, and a file for each other runtime."""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import NotRequired, TypedDict

FORMATS = ("saved_model", "litert", "onnx")
RECORD = "export.json"  # what is said of the files, with their checksums
SAVED_MODEL = "saved_model"  # the directory of the versions 1, 2, ...
LITERT, ONNX = "encoder.tflite", "encoder.onnx"
# What a run's record says on the meaning of rows, which export.json keeps for each file.
SCHEMA = ("feature_names", "low", "high", "image_shape", "pixel_range", "class_names", "categories", "usual_errors")


class Measured(TypedDict):
    """What is measured of each file of an export; export.json says it, and from which run the file is."""

    bytes: int
    difference: float  # to Keras, the largest
    root_mean_square: float  # of the differences to Keras
    accuracy: float | None  # of the classes, if there are labels
    milliseconds: float  # for one row
    quantization: NotRequired[dict[str, list[float]]]  # SIGNATURE/TENSOR in 8 bits -> scale, zero point


def versions(directory: pathlib.Path) -> list[int]:
    """Return the versions in a directory of SavedModels, newest first: subdirectories named 1, 2, ...

    Other names, such as 01 or ², are no versions. A directory that is not there has none.
    """
    try:
        names = [path.name for path in directory.iterdir() if path.is_dir()]
    except OSError:
        return []
    numbers = [int(name) for name in names if name.isascii() and name.isdigit() and name == str(int(name))]
    return sorted(numbers, reverse=True)


def newest_saved_model(export: pathlib.Path) -> pathlib.Path | None:
    """Return the directory of the newest SavedModel of an export, or None if it has none."""
    found = versions(export / SAVED_MODEL)
    return export / SAVED_MODEL / str(found[0]) if found else None


def litert_file(method: str) -> str:
    """Return the name of the LiteRT file that is quantised by this method: encoder_int8.tflite. "none" is float32."""
    return LITERT if method == "none" else LITERT.replace(".", f"_{method}.")


def calibrated(formats: Sequence[str], quantize: Sequence[str]) -> bool:
    """Return whether such files need inputs to measure the ranges of activations on."""
    return "litert" in formats and any(method in ("int8", "int8_io") for method in quantize)


def file_state(path: str | pathlib.Path) -> str:
    """Return a hash of the names, sizes and times of a file, or of all files below a directory.

    It is another after a change of a file. Where there are no files, it is that of none.
    """
    path = pathlib.Path(path).expanduser().resolve()
    below = [os.path.join(directory, name) for directory, _, names in os.walk(path) for name in names]
    found = []
    for file in sorted(below) if path.is_dir() else [str(path)]:
        with contextlib.suppress(OSError):  # it went away meanwhile
            status = os.stat(file)
            found.append((file, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(found).encode()).hexdigest()


def checksums(directory: pathlib.Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a directory, by its path there."""
    return {file.relative_to(directory).as_posix(): _sha256(file) for file in directory.rglob("*") if file.is_file()}


def check_files(model: pathlib.Path) -> None:
    """Raise ValueError unless the files of a model, if it lies in an export, are as they were exported.

    Runtimes read many damaged files without a word, and give other features. What is in no export, or in one of a
    version of this library that wrote no checksums, passes.
    """
    model = model.resolve()
    for directory in model.parents[:2]:  # of DIR/encoder.tflite and of DIR/saved_model/1
        if not (directory / RECORD).is_file():
            continue
        try:
            recorded = dict(json.loads((directory / RECORD).read_text()).get("sha256", {}))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{directory / RECORD} is damaged: {error}") from error
        name = model.relative_to(directory).as_posix()
        for file, checksum in recorded.items():
            if file == name or file.startswith(f"{name}/"):
                if not (directory / file).is_file():
                    raise ValueError(f"its file {file} is missing")
                if _sha256(directory / file) != checksum:
                    raise ValueError(f"{file} is damaged: its SHA-256 is not that in {RECORD}")


def _sha256(file: pathlib.Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
