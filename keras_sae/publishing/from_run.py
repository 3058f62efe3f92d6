"""A finished run becomes a preset: looked at, measured, described, hashed, and put in its place at once."""

import hashlib
import math
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from .. import runs
from ..autoencoder import Autoencoder
from ..errors import InputError
from ..files import write_aside, write_json
from ..runs import presets
from ..runs.model_files import repack
from ..runs.records import PRESET, RECORD, read_config, read_metrics, read_preset
from . import card, exports, sample

SAID = ("title", "data", "data_license", "dataset", "license", "use", "limits", "hardware", "headline")
NEEDED = tuple(name for name in SAID if name != "dataset")
MODELS = ("model.keras", runs.PRETRAINED)
KEPT = ("metrics.json", "examples.npz", "calibration.npz")  # and pictures
FLOAT16 = "float16"
ROUNDING = 1e-3  # what weights in float16 may change of what is measured, relative to it; of an accuracy nothing
NAMES_OF_DATA = ("class_names", "feature_names", "categories")
NO_RESULTS = ("seconds", "num_")  # how the names of numbers begin that seeds have no part in
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_DIRECTORIES = re.compile(r"(?<![\w.:/~])/(?:[^\s/'\",;]+/)+(?=[^\s/'\",;])")  # of an absolute path


def publish(
    run: runs.Path,
    name: str,
    to: runs.Path | None = None,
    said: Mapping[str, str | None] | None = None,
    seeds: Sequence[runs.Path] = (),
    float16: bool = False,
    address: str | None = None,
) -> pathlib.Path:
    """Make a preset of a finished run, and return its directory. An earlier preset of the same name is replaced.

    Args:
        run: directory of the run, or a preset.
        name: of the preset, in lower case.
        to: directory of presets, by default that of this library.
        said: what is not measured. "title" and "hardware" are by default what the run recorded, "license" (of the
            weights) "apache-2.0", and all others what an earlier preset said that `run` is or that is replaced.
            "headline" names the one number of its metrics.json that tells most, "dataset" the data's address on the
            Hugging Face Hub, if it has one; "data", "data_license", "use" and "limits" are texts.
        seeds: directories of the same run with other seeds, for the spread of its numbers.
        float16: whether weights are stored in half as many bits. It is refused if that changes what is measured.
        address: of the preset on the Hugging Face Hub, which its card then names.

    Raises:
        InputError: the run is not finished, or lacks numbers or examples; something was not said; its model cannot be
            exported; `float16` would change what is measured.
    """
    run, place = pathlib.Path(run), pathlib.Path(to or presets.ZOO)
    _check_name(name, place)
    config, metrics = _portable(read_config(run)), read_metrics(run)
    described = _described(run, place / name, config, metrics, said or {})
    spread = _spread(metrics, config, seeds)
    card.rows(place)  # if another preset there is damaged, it is said before the work
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".publishing-") as aside:
        directory = pathlib.Path(aside) / name
        directory.mkdir()
        _copy(run, directory, config, FLOAT16 if float16 else None)
        found = sample.measure(directory)
        record = {
            "name": name,
            **described,
            "seeds": spread,
            "sample": found,
            "stored": _stored(run, sample.measure(run), found) if float16 else "float32",
            **_sizes(runs.load(directory)),
            "exports": exports.measure(directory, pathlib.Path(aside) / "export"),
            "sha256": {path.name: _sha256(path) for path in sorted(directory.iterdir())},
        }
        write_json(directory / PRESET, record)
        write_card(directory, address)
        if (place / name).exists():
            os.replace(place / name, pathlib.Path(aside) / "former")
        os.replace(directory, place / name)
    if place == presets.ZOO:
        write_cards(place)
    return place / name


def write_card(directory: pathlib.Path, address: str | None = None) -> None:
    """Write the README.md of a preset as its records have it. address: on the Hub, if that is where it lies."""
    with write_aside(directory / "README.md") as path:
        path.write_text(card.render(directory, address), encoding="utf-8")


def write_cards(place: pathlib.Path = presets.ZOO) -> None:
    """Write the cards of all presets in a directory, and its index, README.md, as their records have them."""
    for record in place.glob(f"*/{PRESET}"):
        write_card(record.parent)
    with write_aside(place / "README.md") as path:
        path.write_text(card.index(place), encoding="utf-8")


def _check_name(name: str, place: pathlib.Path) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(f"Expected a name of a-z, 0-9, _, - and . for the preset. Received: {name!r}.")
    if (place / name).exists() and not (place / name / PRESET).is_file():
        raise InputError(f"Expected a new name, or a preset to replace. Received: {place / name}, which is no preset.")


def _portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without the directories of the machine that it was written on: of such paths the last name."""

    def shortened(value: Any) -> Any:
        if isinstance(value, str):
            return _DIRECTORIES.sub("", value)
        if isinstance(value, dict):  # names of classes and columns are as they are in the data
            return {name: inner if name in NAMES_OF_DATA else shortened(inner) for name, inner in value.items()}
        return [shortened(inner) for inner in value] if isinstance(value, list) else value

    return shortened(config)


def _described(
    run: pathlib.Path,
    replaced: pathlib.Path,
    config: Mapping[str, Any],
    metrics: Mapping[str, float],
    said: Mapping[str, str | None],
) -> dict[str, str]:
    """Return what is said of the preset. Raise InputError if the run or the words are incomplete."""
    for name in ("command", "data"):
        if name not in config:
            raise InputError(
                f"Expected a run with its {name} in {RECORD}. Received: {run} without. Train by a command."
            )
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    if wrong or "seconds_total" not in metrics:
        raise InputError(
            f"Expected finite numbers, with seconds_total, in metrics.json. Received: {run}, "
            f"{f'whose {wrong[0]} is {metrics[wrong[0]]}' if wrong else 'without seconds_total'}."
        )
    if not (run / "examples.npz").is_file():
        raise InputError(
            f"Expected a run with examples.npz, held-out rows. Received: {run} without. Save some with it."
        )
    earlier: dict[str, str] = {"license": "apache-2.0", "title": config.get("title", ""), "dataset": ""}
    for directory in (replaced, run):
        if (directory / PRESET).is_file():
            earlier |= {name: text for name, text in read_preset(directory).items() if name in SAID}
    earlier["hardware"] = config.get("device") or earlier.get("hardware", "")
    found = earlier | {name: text for name, text in said.items() if text is not None}
    missing = [f"{name}=..." for name in NEEDED if not found.get(name)]
    if missing:
        raise InputError(f"Expected all that a card says. Received: nothing for {', '.join(missing)}.")
    if found["headline"] not in metrics:
        raise InputError(
            f"Expected the headline as one of the run's numbers: {', '.join(metrics)}. Received: {found['headline']!r}."
        )
    return {name: found[name] for name in SAID}


def _spread(
    metrics: Mapping[str, float], config: Mapping[str, Any], seeds: Sequence[runs.Path]
) -> dict[str, list[float]]:
    """Return the numbers of this run and of runs that differ from it by their seed alone, a list for each.

    Raises:
        InputError: they differ by more, or two have the same seed.
    """
    if not seeds:
        return {}
    settings = [{**_portable(one).get("settings", {}), "out": None} for one in (config, *map(read_config, seeds))]
    others = [{**one, "seed": None} for one in settings]
    if any(one != others[0] for one in others) or len({one.get("seed") for one in settings}) < len(settings):
        raise InputError(
            f"Expected runs that differ from the first by their seed. Received: {', '.join(map(str, seeds))}, of which "
            "another setting differs, or no seed."
        )
    numbers = [metrics, *map(read_metrics, seeds)]
    return {
        name: [found[name] for found in numbers]
        for name in metrics
        if not name.startswith(NO_RESULTS) and all(name in found for found in numbers)
    }


def _copy(run: pathlib.Path, directory: pathlib.Path, config: Mapping[str, Any], dtype: str | None) -> None:
    """Copy what a preset keeps of a run, with weights stored as `dtype` unless it is None."""
    for path in (*(run / name for name in KEPT), *run.glob("*.png")):
        if path.is_file():
            shutil.copyfile(path, directory / path.name)
    write_json(directory / RECORD, config)
    for name in MODELS:
        if (run / name).is_file():
            repack(run / name, directory / name, dtype)


def _stored(run: pathlib.Path, before: dict[str, float], after: dict[str, float]) -> str:
    """Return words on weights in float16. Raise InputError if they change what is measured on the examples."""

    def change(name: str) -> float:
        return abs(after[name] - before[name]) / max(abs(before[name]), 1e-12)

    most = max(before, key=change)
    told = f"{most} from {before[most]:.6g} to {after[most]:.6g}"
    if after.get("accuracy") != before.get("accuracy") or change(most) > ROUNDING:
        raise InputError(f"Expected weights that float16 can hold. Received: {run}, of which it changes {told}.")
    changes = f"changes most {told}" if change(most) else "changes none"
    return f"{FLOAT16}; of the numbers on the examples it {changes}"


def _sizes(model: keras.Model) -> dict[str, int]:
    """Return the numbers of columns of a model's inputs, codes and outputs, and of its parameters."""
    encoder = runs.encoder_of(model)
    inputs, codes = encoder.input_shape[-1], encoder.output_shape[-1]
    outputs = inputs if isinstance(model, Autoencoder) else model.output_shape[-1]
    return {"inputs": inputs, "codes": codes, "outputs": outputs, "parameters": model.count_params()}


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
