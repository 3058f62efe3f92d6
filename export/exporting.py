"""Export a model: convert it, check the files against Keras, and publish them only if they give what Keras gives.

Both steps run in processes of their own, so that the check sees the files as a user has them: without Keras and without
this library. The processes share WORK, a temporary directory beside the place of the export:

    python -m export.convert RUN WORK OPTIONS
        RUN      a run directory: the user's, or WORK/runs/NAME for a model in memory or of a file
        OPTIONS  JSON: "formats", "quantize", and "version", the number of the SavedModel
        reads    WORK/examples.npz and WORK/calibration.npz if they are there, else those of RUN; without examples it
                 makes up rows at random
        writes   WORK/export, to be published: saved_model/VERSION/, encoder*.tflite, encoder.onnx and check.npz
        prints   JSON as its last line: "left_out", how many examples are not in check.npz, because rounding decides on
                 their codes; "jumps", whether codes jump if a pre-activation changes a little
    python -m export.check WORK/export
        prints   JSON as its last line: what was measured of each file, as `layout.Measured` has it

check.npz holds `inputs`, (rows, features) float32; `labels`, (rows,), if there are any; `images`, the same rows as
bytes, if there is a signature of that name; and what Keras gives for them, one array for each SIGNATURE/OUTPUT.

A process ends with status 2 and one line on stderr, "export: error: MESSAGE", if the user can fix what is wrong.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_sae.archives import reading
from keras_sae.errors import InputError

from . import layout, sources
from .card import card
from .layout import Measured

if TYPE_CHECKING:
    import keras
    from numpy.typing import ArrayLike

PROGRAM = "export"

# How far a file may be from Keras, for values of about 1. Rounding in float32 gives differences of 1e-5 at most. Fewer
# bits give many small ones and a few large ones, if a unit is about to change sides, so their root mean square is
# bounded (0.0001, 0.003 and 0.016 of the zoo's digit encoder). A wrong conversion gives much more.
BOUNDS = {"none": 5e-5, "float16": 1e-3, "dynamic": 2e-2, "int8": 5e-2, "int8_io": 5e-2}
# If codes jump, as those of TopK and of thresholds, fewer bits bring some units to the other side, each a large
# difference: 0.0052 and 0.027 by float16 and dynamic with 2,304 features and 16,384 thresholds.
BOUNDS_OF_JUMPS = {**BOUNDS, "float16": 1e-2, "dynamic": 5e-2, "int8": 1e-1, "int8_io": 1e-1}


def export_model(
    model: "keras.Model | str | os.PathLike[str]",
    out: str | os.PathLike[str],
    *,
    formats: Sequence[str] = ("saved_model", "litert"),
    quantize: Sequence[str] = ("none",),
    examples: "ArrayLike | None" = None,
    labels: "ArrayLike | None" = None,
    calibration: "ArrayLike | None" = None,
) -> dict[str, Measured]:
    """Write a model as files to deploy, each only if it gives what Keras gives, with a card on how to call them.

    Args:
        model: an autoencoder, a stack or a classifier of one; or the path of a run directory, of a .keras file of such
            a model, or of a sparse autoencoder of another library, anything that `keras_sae.load_sae` reads.
        out: a new or empty directory, or an earlier export, which gets another version of its SavedModel.
        formats: of "saved_model", "litert" and "onnx".
        quantize: the LiteRT files to write, of "none", "float16", "dynamic", "int8", and "int8_io", whose inputs and
            outputs are int8 as well.
        examples: (examples, features), inputs to check the files on, a few hundred held-out rows; by default the run's
            or, if it has none, rows at random in the range of its inputs.
        labels: (examples,) integers, for the accuracy of a classifier's files.
        calibration: (examples, features), training inputs to measure the ranges of int8 on; by default the run's.

    Returns:
        What was measured of each file, by its name in `out`: "bytes", "difference" (the largest to Keras),
        "root_mean_square" (of the differences), "accuracy" (or None) and "milliseconds" (for one row).

    Raises:
        InputError: the model, the inputs or `out` cannot be used, or a file differs from Keras. Nothing was written.

    >>> export_model(autoencoder, "exports/digits", examples=x_test[:500])
    """
    from keras_sae import runs

    _check_choices("formats", formats, layout.FORMATS)
    _check_choices("quantize", quantize, tuple(BOUNDS))
    out = pathlib.Path(out)
    earlier = _earlier_record(out)
    model = sources.opened(model)
    newest = next(iter(layout.versions(out / layout.SAVED_MODEL)), 0)
    options = {"formats": list(formats), "quantize": list(quantize), "version": newest + 1}
    with _working_directory(out) as directory:
        work = pathlib.Path(directory)
        (work / "export").mkdir()
        if labels is not None and examples is None:
            raise InputError(
                "Expected examples, rows with these labels. Received: labels alone. Give examples= as well."
            )
        if examples is not None:
            runs.save_examples(work / "examples.npz", examples, labels)
        if calibration is not None:
            runs.save_examples(work / "calibration.npz", calibration)
        run = model if isinstance(model, pathlib.Path) else sources.as_run(model, work, options)
        config = runs.read_config(run)
        converted = json.loads(_run_module("convert", run, work, json.dumps(options)))
        measured: dict[str, Measured] = json.loads(_run_module("check", work / "export"))
        _check_bounds(measured, BOUNDS_OF_JUMPS if converted["jumps"] else BOUNDS)
        schema = {name: config[name] for name in layout.SCHEMA if name in config}
        described = {name: {"run": run.name, **values, "schema": schema} for name, values in measured.items()}
        files = earlier["files"] | described
        version = newest + 1 if "saved_model" in formats else newest or None
        record = {"run": run.name, "files": files, **options, "version": version}
        record["sha256"] = earlier["sha256"] | layout.checksums(work / "export")
        made_up = not any((place / "examples.npz").exists() for place in (work, run))
        text = card(run.name, config, files, version, sources.keeps_pretrained(run), made_up, converted["left_out"])
        (work / "export" / "README.md").write_text(text, encoding="utf-8", errors="backslashreplace")
        (work / "export" / layout.RECORD).write_text(json.dumps(record, indent=2) + "\n")
        _publish(work / "export", out)
    return measured


def _check_choices(name: str, received: Sequence[str], known: tuple[str, ...]) -> None:
    if not received or isinstance(received, str) or not set(received) <= set(known):
        raise InputError(f"Expected {name} to be a list of some of {', '.join(known)}. Received: {name}={received!r}")


def _earlier_record(out: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Return what an earlier export says of its files, "files" and "sha256": nothing if there is no export yet.

    Raises:
        InputError: there is something else, or its record is damaged.
    """
    path = out / layout.RECORD
    if not path.is_file():
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise InputError(
                f"Expected a new or empty directory to write to, or an earlier export. Received: {out}, which holds "
                "something else. Nothing was changed."
            )
        return {"files": {}, "sha256": {}}
    with reading(path, "the export.json of an earlier export", "Export to a new directory."):
        record = json.loads(path.read_text())
        for name, values in record["files"].items():
            numbers = [values["accuracy"] or 0, *(values[key] for key in Measured.__required_keys__ - {"accuracy"})]
            if not all(isinstance(number, int | float) for number in numbers) or not isinstance(values["run"], str):
                raise ValueError(f"it is damaged at {name!r}")
            if not re.fullmatch(r"[\w./-]+", name):
                raise ValueError(f"it names a file {name!r}")
        return {"files": record["files"], "sha256": dict(record.get("sha256", {}))}


def _working_directory(out: pathlib.Path) -> tempfile.TemporaryDirectory[str]:
    """Return a temporary directory beside the place of the export, from where files can be renamed to it."""
    place = out.resolve()
    try:
        str(place).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"Expected a place whose name is text, in UTF-8. Received: {place}. TensorFlow writes to no other."
        ) from error
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-")
    except OSError as error:
        raise InputError(f"Expected a place that can be written to. Received: {out} ({error.strerror}).") from error


def _run_module(name: str, *arguments: object) -> str:
    """Run a module of this package in a process of its own, and return the last line that it prints."""
    root = pathlib.Path(__file__).parents[__package__.count(".") + 1]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", f"{__package__}.{name}", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": "tensorflow"}  # takes models of any backend
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode == 2:
        raise InputError(done.stderr.splitlines()[-1].removeprefix(f"{PROGRAM}: error: "))
    if done.returncode < 0:  # by the system, for its memory, or by a runtime that does not bear what it was given
        raise InputError(
            f"Expected a model that can be exported. Received: {arguments[0]}, at which {__package__}.{name} was ended "
            f"by signal {-done.returncode}. Nothing was written. Give it more memory, or train the model again."
        )
    if done.returncode:
        raise RuntimeError(f"{__package__}.{name} failed:\n{done.stderr}")
    return done.stdout.splitlines()[-1] if done.stdout else ""


def _check_bounds(measured: dict[str, Measured], bounds: dict[str, float]) -> None:
    """Raise InputError unless every file gives what Keras gives."""
    quantised = {layout.litert_file(method): bound for method, bound in bounds.items() if method != "none"}
    for name, values in measured.items():
        bound, found, kind = bounds["none"], values["difference"], ""
        if name in quantised:
            bound, found, kind = quantised[name], values["root_mean_square"], "root mean square "
        if not found <= bound:  # NaN fails as well
            raise InputError(
                f"Expected {name} within {bound} of Keras. Received: a {kind}difference of {found:.1e}. Nothing was "
                "written."
            )


def _publish(finished: pathlib.Path, out: pathlib.Path) -> None:
    """Rename a finished export to its place: a new one at once, a later one version by version and file by file."""
    place = out.resolve()
    try:
        if not (place / layout.RECORD).is_file():
            os.replace(finished, place)
            return
        for version in finished.glob(f"{layout.SAVED_MODEL}/*"):
            (place / layout.SAVED_MODEL).mkdir(exist_ok=True)
            os.rename(version, place / layout.SAVED_MODEL / version.name)  # complete at once: a server may be watching
        for file in sorted(path for path in finished.iterdir() if path.is_file()):
            os.replace(file, place / file.name)
    except OSError as error:
        raise InputError(f"Expected a directory that can be put at {out}. Received: {error.strerror}.") from error
