"""Settings of a training command as the flags of its command line, and the command line of settings."""

import argparse
import dataclasses
import shlex
import types
import typing

from keras_sae import cli as shared
from keras_sae.cli import fail

NO_SETTINGS = ("resume", "quiet")  # flags that do not change what is trained


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
