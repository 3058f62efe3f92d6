"""Configurations of other libraries, in JSON, with one-line errors."""

import json
import pathlib
from typing import Any

from ..errors import InputError


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Return the content of a configuration."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"Expected the configuration {path}. Received: no such file.") from error
    except ValueError as error:
        raise InputError(f"Expected JSON in {path}. Received: what is none, or cut off ({error}).") from error
    if not isinstance(content, dict):
        raise InputError(f"Expected a JSON object in {path}. Received: a {type(content).__name__}.")
    return content


def needed(config: dict[str, Any], name: str, path: pathlib.Path) -> Any:
    """Return a value of a configuration that has to be there."""
    if config.get(name) is None:
        raise InputError(f"Expected {name!r} in {path}. Received: {', '.join(sorted(config)) or 'an empty object'}.")
    return config[name]


def check_sizes(path: pathlib.Path, found: dict[str, int], config: dict[str, Any]) -> None:
    """Raise InputError if the configuration has other numbers of features or units than the tensors."""
    for name, size in found.items():
        if config.get(name) not in (None, size):
            raise InputError(
                f"Expected tensors with {name}={config[name]}, as their configuration says, in {path}. Received: "
                f"{size}. The two are of different autoencoders."
            )


def refuse(what: str, path: pathlib.Path, understood: str) -> InputError:
    """Return the error for what this version does not understand."""
    return InputError(f"Expected {understood} in {path}. Received: {what}, which this version cannot compute.")
