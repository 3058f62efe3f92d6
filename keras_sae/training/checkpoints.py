"""Files that training resumes from: arrays and a small record; the path always holds a complete file or none."""

import json
import pathlib
import zipfile
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import write_aside

SECONDS = 20  # from one checkpoint to the next, at least

Checkpoint = tuple[dict[str, list[np.ndarray]], dict[str, Any]]  # (arrays, record)


def write(path: str | pathlib.Path, arrays: dict[str, list[np.ndarray]], **record: Any) -> None:
    """Write lists of arrays by name, `write(path, {"variables": [...]}, epoch=3)`, and a record of JSON values."""
    numbered: dict[str, Any] = {f"{name}/{i}": array for name, group in arrays.items() for i, array in enumerate(group)}
    with write_aside(path) as aside, open(aside, "wb") as file:
        np.savez(file, record=np.frombuffer(json.dumps(record).encode(), "uint8"), **numbered)


def read(path: str | pathlib.Path) -> Checkpoint | None:
    """Return (arrays, record) as given to `write`, or None if there is no file. Raise InputError if it is broken."""
    try:
        with open(path, "rb") as file, np.load(file) as content:
            record = json.loads(content["record"].tobytes())
            arrays: dict[str, list[np.ndarray]] = {}
            for name in content.files:
                if name != "record":
                    arrays.setdefault(name.rsplit("/", 1)[0], []).append(content[name])
            return arrays, record
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"Expected a checkpoint to resume from. Received: {path}, which cannot be read: {error}. Remove it to "
            "train this stage from its start."
        ) from error
