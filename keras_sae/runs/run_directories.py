"""Run directories: what a training run leaves behind, what the zoo holds, what export reads.

RUN/run.json      how the model was made: enough to repeat the run (config.json in runs of earlier versions)
RUN/metrics.json  measured numbers, flat names -> numbers
RUN/model.keras   the trained model
RUN/pretrained.keras   of a classifier, the stack as it was before the labels (not in runs of earlier versions)
RUN/README.md     the card, rendered from the JSON files
RUN/preset.json   of a preset: what it says of itself, and the sha256 of its files
RUN/report.html   what the model learned, a page that needs no network, if the packages of the extra `report` are there
RUN/*.png, RUN/logs/ (TensorBoard), RUN/checkpoints/ (finished stages), RUN/examples.npz (held-out inputs, that
exports are checked on) and RUN/calibration.npz (training inputs, that exports in int8 are measured on), if any

Keras is loaded by the functions that need it, so that commands can look at a run before.
"""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import re
import typing
from collections.abc import Mapping, Sequence

from .. import __version__, locks
from ..errors import InputError
from ..files import PARTIAL, as_json, check_space, remove_partial, write_aside, write_json
from . import cards
from .examples import kept_rows, load_examples as load_examples, save_examples as save_examples, write_rows
from .records import RECORD, check_digest, is_run, read_config, read_metrics, record_path

if typing.TYPE_CHECKING:
    import keras

PRETRAINED = "pretrained.keras"
NEEDED_BYTES = 100 * 10**6  # of free disk, for a run's checkpoints and pictures

Path = str | os.PathLike[str]


def start(directory: Path, config: Mapping[str, typing.Any]) -> pathlib.Path:
    """Create a run directory and write its record. Return its path.

    Raises:
        InputError: the directory holds another run or other files, or cannot be written to, or its disk is full.
    """
    directory = pathlib.Path(directory)
    check_free(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        check_space(directory, NEEDED_BYTES)  # before anything is written, so that the directory can be used later
        remove_partial(directory)
        (directory / "checkpoints").mkdir(exist_ok=True)
        write_json(directory / RECORD, {**config, "versions": versions()})
    except OSError as error:
        raise InputError(
            f"Expected a directory that can be written to. Received: {directory} ({error.strerror})."
        ) from error
    return directory


def unfinished(directory: Path) -> dict[str, typing.Any]:
    """Return the record of a run that was stopped before its end. Raise InputError if there is no such run."""
    directory = pathlib.Path(directory)
    if (directory / "model.keras").exists():
        raise InputError(
            f"Expected a run that was stopped. Received: {directory}, which is finished: see its README.md."
        )
    if not is_run(directory):
        raise InputError(
            f"Expected the directory of a run that was stopped. Received: {directory}, which has no {RECORD}: nothing "
            "was trained there. Start a new run instead."
        )
    return read_config(directory)


def resume(directory: Path, config: Mapping[str, typing.Any]) -> list[str]:
    """Return the names of the packages whose versions changed since the run with this `config` was stopped.

    Raises:
        InputError: there is no such run, or it has other data.
    """
    recorded = unfinished(directory)
    check_data(recorded, config)
    directory = pathlib.Path(directory)
    (directory / "checkpoints").mkdir(exist_ok=True)  # a kill may have come before
    for killed in (directory, directory / "checkpoints", *directory.glob("logs/*")):
        remove_partial(killed)
    return [name for name, version in versions().items() if recorded.get("versions", {}).get(name) != version]


def check_data(recorded: Mapping[str, typing.Any], config: Mapping[str, typing.Any]) -> None:
    """Raise InputError unless a run that goes on, `config`, has the data of its record: described alike, and equal."""
    if recorded.get("data") != config.get("data"):
        raise InputError(
            f"Expected the data that the run had: {recorded.get('data')}. Received: {config.get('data')}. Give it the "
            "same, or start a new run."
        )
    from ..data import fingerprints

    fingerprints.check(recorded.get("fingerprint", {}), config.get("fingerprint", {}), "the run")


def check_free(directory: Path) -> None:
    """Raise InputError unless the directory can take a new run: it does not exist yet, or is empty.

    So is one in which a start was killed before the record of its run was in place.
    """
    directory = pathlib.Path(directory)
    if str(directory) != str(directory).encode("utf-8", "replace").decode():
        raise InputError(
            f"Expected a name of UTF-8 for the directory of the run, as TensorFlow does. Received: {directory}. Name "
            "another one."
        )
    if directory.exists() and not directory.is_dir():
        raise InputError(f"Expected a directory for the run. Received: {directory}, which is a file.")
    if directory.is_dir() and not all(map(_is_of_a_start, directory.iterdir())):
        what = "holds another run" if is_run(directory) else "is not empty"
        raise InputError(
            f"Expected a new or empty directory for the run. Received: {directory}, which {what}. Nothing was changed. "
            "Name another one, or remove that one."
        )


def _is_of_a_start(path: pathlib.Path) -> bool:
    """Return whether a path is what `start` leaves before the record of the run is in place, or its lock."""
    if path.name == "checkpoints":
        return path.is_dir() and not any(path.iterdir())
    return path.name in (locks.LOCK, locks.HOLDER) or (path.name.startswith(".") and PARTIAL in path.suffixes)


def save(
    model: "keras.Model",
    directory: Path,
    config: Mapping[str, typing.Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    meanings: Mapping[str, str] | None = None,
    pretrained: "keras.Model | None" = None,
    cautions: Sequence[str] = (),
    facts: Mapping[str, typing.Any] | None = None,
    *,
    examples: typing.Any = None,
    labels: typing.Any = None,
    calibration: typing.Any = None,
) -> None:
    """Write a trained model as a run directory: model.keras, run.json, metrics.json and the card README.md.

    Args:
        model: an autoencoder, a stack or a classifier. The `origin` of what `load_sae` loaded is kept in the record.
        directory: a new or empty directory, or a run that `start` began and that has no model yet.
        config: what is needed to repeat the run; by default what `start` wrote, or the model's own config.
        metrics: measured numbers.
        meanings: what the numbers are, for the card, by the beginnings of their names; the first that fits counts.
        pretrained: of a classifier, the stack as it was before the labels: then features are those of this stack.
        cautions: sentences for the card on what the numbers say against the model.
        facts: what is known once it is trained, for its record: "usual_errors", say, of `anomalies.UsualErrors`.
        examples: (examples, features), held-out inputs, of which a thousand at most are kept, to check exports on.
            Without them exports are checked on rows at random.
        labels: (examples,) integers, the classes of `examples`, for the accuracy of a classifier's exports.
        calibration: (examples, features), training inputs, of which 200 at most are kept, for exports in int8.

    Raises:
        InputError: the directory holds another finished run or other files, or the rows have another shape.

    >>> keras_sae.save(ae, "runs/digits", examples=x_test, calibration=x_train)
    """
    import keras

    from . import model_files

    directory = pathlib.Path(directory)
    metrics = dict(metrics or {})
    # What cannot be kept is refused before anything is written.
    if labels is not None and examples is None:
        raise InputError("Expected examples, rows with these labels. Received: labels alone. Give examples= as well.")
    for content in (config, metrics, facts):
        as_json(content)
    rows = {} if examples is None else {"examples": kept_rows("examples", examples, labels)}
    rows |= {} if calibration is None else {"calibration": kept_rows("calibration", calibration)}
    if (directory / "model.keras").exists() or not is_run(directory):
        start(directory, config or {"model": keras.saving.serialize_keras_object(model)})
    elif config is not None:
        write_json(record_path(directory), {**config, "versions": versions()})
    for name, arrays in rows.items():
        write_rows(directory / f"{name}.npz", arrays)
    write_json(directory / "metrics.json", metrics)
    if meanings:
        found = {name: _meaning(name, meanings) for name in metrics}
        write_json(record_path(directory), {**read_config(directory), "meanings": found, "cautions": list(cautions)})
    facts = {**({"origin": dict(model.origin)} if hasattr(model, "origin") else {}), **(facts or {})}
    if facts:
        write_json(record_path(directory), {**read_config(directory), **facts})
    if pretrained is not None:
        model_files.save_model(pretrained, directory / PRETRAINED)
    write_card(directory)
    model_files.save_model(model, directory / "model.keras")  # last: a run with a model is a finished run


def _meaning(name: str, meanings: Mapping[str, str]) -> str:
    return next((meaning for beginning, meaning in meanings.items() if name.startswith(beginning)), "")


def load(directory: Path) -> "keras.Model":
    """Return the trained model of a run directory: an autoencoder, a stack or a classifier.

    Raises:
        InputError: not a run directory, or an unfinished one, or one that this version cannot read.
    """
    return _load(pathlib.Path(directory), "model.keras")


def load_pretrained(directory: Path) -> "keras.Model | None":
    """Return the stack of a classifier's run as it was before the labels, or None if the run did not keep it."""
    directory = pathlib.Path(directory)
    return _load(directory, PRETRAINED) if (directory / PRETRAINED).exists() else None


def _load(directory: pathlib.Path, name: str) -> "keras.Model":
    """Return a model that a finished run holds as a file of this name, compiled as it was."""
    from .model_files import load_model

    path = directory / name
    if not (directory / "model.keras").is_file() or not is_run(directory):
        raise InputError(f"Expected a run directory, with {RECORD} and model.keras. Received: {_described(directory)}")
    check_digest(path)
    try:
        return load_model(path)
    except InputError as error:
        raise InputError(f"{error}{_newer(directory)}") from error


def _newer(directory: pathlib.Path) -> str:
    """Return words on a run of a newer version of this library, whose major or minor number is higher than ours."""
    made = str(read_config(directory).get("versions", {}).get("keras_sae", ""))
    ours, theirs = (re.match(r"(\d{1,9})\.(\d{1,9})", version) for version in (__version__, made))
    if theirs and ours and tuple(map(int, theirs.groups())) > tuple(map(int, ours.groups())):
        return f" It was made by keras_sae {made} (this is {__version__}: pip install --upgrade keras-sae)."
    return ""


def load_encoder(directory: Path, finetuned: bool = False) -> "keras.Model":
    """Return the encoder of a run directory alone: (examples, features) -> (examples, units).

    It is what was learned without labels, as `encode` of an export.  finetuned: of a classifier's run, the network
    below the softmax instead, as `encode_finetuned`. A run of an earlier version has that network alone.
    """
    pretrained = None if finetuned else load_pretrained(directory)
    return encoder_of(load(directory) if pretrained is None else pretrained)


def encoder_of(model: "keras.Model") -> "keras.Model":
    """Return the encoder of a model as runs hold it: of a classifier, the network below its softmax."""
    from ..autoencoder import Autoencoder

    if isinstance(model, Autoencoder):
        return model.encoder
    found = [layer for layer in getattr(model, "layers", []) if layer.name == "encoder"]
    if not found:
        raise InputError(
            f"Expected an autoencoder, a stack, or a classifier of one. Received: a {type(model).__name__} without a "
            "layer that is called encoder."
        )
    return found[0]


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on, by name."""
    import keras

    backend = keras.backend.backend()
    found = {"python": platform.python_version(), "backend": backend, "keras_sae": __version__}
    found["keras"] = keras.__version__  # not the package's, which keras-nightly is as well
    for name in (backend, "numpy", "scipy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def write_card(directory: Path) -> None:
    """Write the README.md of a run directory."""
    with write_aside(pathlib.Path(directory) / "README.md") as path:
        path.write_text(card(directory), encoding="utf-8", errors="backslashreplace")


def card(directory: Path) -> str:
    """Return the README.md of a run directory, Markdown, as its record and its metrics.json have it."""
    directory = pathlib.Path(directory)
    return cards.render(directory, read_config(directory), read_metrics(directory))


def _described(directory: pathlib.Path) -> str:
    """Return words on a directory that is not a finished run, with what to do."""
    if not directory.exists():
        return f"{directory}, which does not exist."
    if not directory.is_dir():
        return f"{directory}, which is a file. Name the directory it is in."
    if is_run(directory):
        return f"{directory}, a run that did not finish. Resume its training first."
    found = ", ".join(sorted(p.name for p in directory.iterdir())[:6]) or "nothing"
    return f"{directory}, a directory with: {found}. Name the directory of a run."
