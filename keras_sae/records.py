"""The JSON files of a run, as they are read from disk: whoever made them, and however.

They are run.json, called config.json in runs of earlier versions, metrics.json and, of presets, preset.json.
"""

import hashlib
import json
import os
import pathlib
import types
import typing
from collections.abc import Mapping

from .archives import reading
from .errors import InputError

RECORD, FORMER_RECORD, PRESET = "run.json", "config.json", "preset.json"
KINDS: Mapping[str, type | types.UnionType] = {  # of what a record holds, as far as this library reads it
    "title": str, "program": str, "command": str, "data": str, "device": str, "settings": dict, "versions": dict,
    "meanings": dict, "class_names": list, "feature_names": list, "categories": dict, "notes": list, "cautions": list,
    "image_shape": list, "picture": str, "pixel_range": int | float, "usual_errors": dict, "origin": dict,
    "fingerprint": dict,
}  # fmt: skip
OF_PRESETS: Mapping[str, type] = {  # what preset.json holds, all of it
    "name": str, "title": str, "data": str, "data_license": str, "dataset": str, "license": str, "use": str,
    "limits": str, "hardware": str, "headline": str, "seeds": dict, "inputs": int, "codes": int, "outputs": int,
    "parameters": int, "stored": str, "sample": dict, "exports": dict, "sha256": dict,
}  # fmt: skip

Path = str | os.PathLike[str]


def is_run(directory: Path) -> bool:
    """Return whether a directory holds a run, finished or not."""
    return record_path(directory).is_file()


def record_path(directory: Path) -> pathlib.Path:
    """Return the path of a run's record: by its former name if that is what the run has."""
    path, former = (pathlib.Path(directory) / name for name in (RECORD, FORMER_RECORD))
    return former if former.is_file() and not path.is_file() else path


def read_config(directory: Path) -> dict[str, typing.Any]:
    """Return the record of how a run was made.

    Raises:
        InputError: there is none, or it is damaged, or is not as runs write it.
    """
    if not is_run(directory):
        raise InputError(
            f"Expected a run directory, with {RECORD}. Received: {directory}, which has no record of a run."
        )
    path = record_path(directory)
    config = _read_object(path)
    _check_kinds(path, config, {name: kind for name, kind in KINDS.items() if name in config})
    return config


def read_preset(directory: Path) -> dict[str, typing.Any]:
    """Return what a preset says of itself beside its run. Raise InputError if it is none, or is damaged."""
    path = pathlib.Path(directory) / PRESET
    preset = _read_object(path)
    _check_kinds(path, preset, OF_PRESETS)
    return preset


def check_digest(path: pathlib.Path) -> None:
    """Raise InputError if a file is of a preset, and not as it was published."""
    if not (path.parent / PRESET).is_file():
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    published = read_preset(path.parent)["sha256"].get(path.name)
    if digest != published:
        raise InputError(
            f"Expected {path} with the sha256 {published}, as {PRESET} beside it says. Received: {digest}. It is "
            "damaged or was changed: install or download it again."
        )


def _check_kinds(path: pathlib.Path, record: Mapping[str, typing.Any], kinds: Mapping[str, typing.Any]) -> None:
    for name, kind in kinds.items():
        if not isinstance(record.get(name), kind):
            raise InputError(
                f"Expected a record of a run, as training writes it. Received: {path}, whose {name} is "
                f"{record.get(name)!r:.100}."
            )


def read_metrics(directory: Path) -> dict[str, float]:
    """Return the measured numbers of a run by their names. Raise InputError if they cannot be read."""
    path = pathlib.Path(directory) / "metrics.json"
    metrics = _read_object(path)
    wrong = [name for name, value in metrics.items() if not isinstance(value, int | float)]
    if wrong:
        raise InputError(f"Expected numbers by their names. Received: {path}, whose {wrong[0]!r:.100} is none.")
    return metrics


def _read_object(path: pathlib.Path) -> dict[str, typing.Any]:
    with reading(path, "a JSON object, as training writes it"):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is none")
    return found
