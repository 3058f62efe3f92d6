"""How far an output has come, as its progress.json says: read from disk, where it may have been damaged."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from keras_sae.archives import reading
from keras_sae.files import write_json

NAME = "progress.json"


def write(directory: pathlib.Path, rows: int, settings: dict[str, Any]) -> None:
    """Write how many rows are done, and the settings that they were computed with."""
    write_json(directory / NAME, {"rows": rows, "settings": settings})


def read(directory: pathlib.Path, output: pathlib.Path) -> tuple[int, dict[str, Any]]:
    """Return how many rows of an output are done, and the settings that they were computed with: (0, {}) if none are.

    Raises:
        InputError: what is said of them is damaged.
    """
    path = directory / NAME
    if not (path.exists() and output.exists()):  # what is in its place already is not resumed
        return 0, {}
    with reading(path, "what an earlier command has done", _cure(directory)):
        found = json.loads(path.read_text())
        rows, settings = found["rows"], found["settings"]
        if type(rows) is not int or rows < 0 or not isinstance(settings, dict):
            raise ValueError("it names no rows and settings")
        return rows, settings


@contextlib.contextmanager
def resuming(directory: pathlib.Path, output: pathlib.Path, rows: int, total: int, part_rows: int) -> Iterator[None]:
    """Raise InputError if so many rows of an output cannot be done, or the block finds that it lacks some of them."""
    if not rows:
        yield
        return
    with reading(output, "the output that an earlier command has begun", _cure(directory)):
        if rows > total or (rows < total and rows % part_rows):
            raise ValueError(f"it cannot have {rows:,} of {total:,} rows")
        yield


def _cure(directory: pathlib.Path) -> str:
    return f"Delete {directory} to start anew."
