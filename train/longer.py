"""Longer training of a finished run: it grows in RUN/longer, beside the finished model, and takes its place at the end.

A kill at any moment leaves the finished run or the longer one; the same command resumes.
"""

import os
import pathlib
import shlex
import shutil

from keras_sae import runs
from keras_sae.cli import spelled
from keras_sae.errors import InputError

LONGER = "longer"


def finished_run(directory):
    """Return the finished run that the run in this directory goes on from, or None if it is none."""
    directory = pathlib.Path(directory)
    return directory.parent if directory.name == LONGER and (directory.parent / "model.keras").exists() else None


def begin(run, iterations):
    """Return what the settings of a finished run become, a dict: {} if there is nothing to go on with.

    iterations: of each stage, more than it had; or None to resume a longer training that was stopped.
    """
    run = pathlib.Path(run)
    place = run / LONGER
    if (place / "model.keras").exists():  # it was stopped while it took its place
        publish(place)
    if not runs.is_run(place):
        shutil.rmtree(place, ignore_errors=True)
    if not (run / "model.keras").exists() or (iterations is None and not place.exists()):
        return {}
    if place.exists():
        begun = runs.read_config(place)["settings"]["max_iterations"]
        if iterations not in (None, begun):
            raise InputError(
                f"Expected --max-iterations {begun}, to which {run} is being trained. Received: {iterations}. Leave it "
                f"out to resume, or remove {place} first."
            )
        return {"resume": str(place), "max_iterations": begun}
    done = runs.read_config(run)["settings"]["max_iterations"]
    if iterations <= done:
        raise InputError(
            f"Expected more iterations than the {done:,} that {run} was trained for. Received: --max-iterations "
            f"{iterations}."
        )
    return {"out": str(place), "max_iterations": iterations}


def lengthened(run, record):
    """Return what the record of a longer training, of the same data, says otherwise than that of the run.

    Raises:
        InputError: it has other data.
    """
    recorded = runs.read_config(run)
    runs.check_data(recorded, record)
    flags = f"--resume {shlex.quote(str(run))} --max-iterations {record['settings']['max_iterations']}"
    command = spelled(f"python -m {record['program']} {flags}")
    settings = record["settings"] | {"out": recorded["settings"]["out"]}
    return {"command": f"{recorded['command']} && {command}", "settings": settings}


def pretrained_stack(run):
    """Return the stack of a finished run as it was before labels, and for how many iterations it was trained."""
    model = runs.load_pretrained(run) or runs.load(run)
    if not hasattr(model, "autoencoders"):
        raise InputError(
            f"Expected a run that kept its pretrained stack, {runs.PRETRAINED}. Received: {run}, of an older version, "
            "without it. Train a new run."
        )
    return model, runs.read_config(run)["settings"]["max_iterations"]


def publish(place):
    """Move the files of a finished longer run over those of the run that it went on from, the model last."""
    run = place.parent
    for path in sorted(place.iterdir(), key=lambda path: path.name == "model.keras"):
        if path.is_dir() and path.name == "logs":
            shutil.rmtree(run / path.name, ignore_errors=True)
            os.replace(path, run / path.name)
        elif path.is_file():
            os.replace(path, run / path.name)
    shutil.rmtree(place)
    runs.write_card(run)  # which names its directory
    return run
