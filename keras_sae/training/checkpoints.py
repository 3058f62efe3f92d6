"""Files that training resumes from: arrays and a small record; the path always holds a complete file or none."""

import contextlib
import contextvars
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from ..archives import read_arrays, reading
from ..data import fingerprints
from ..files import write_aside

SECONDS = 20  # from one checkpoint to the next, at least

Checkpoint = tuple[dict[str, list[np.ndarray]], dict[str, Any]]  # (arrays, record)

_data: contextvars.ContextVar[fingerprints.Fingerprint] = contextvars.ContextVar("data")


@contextlib.contextmanager
def of(data: fingerprints.Fingerprint) -> Iterator[None]:
    """Let checkpoints that are written within the block be of these data, and refuse to read those of others."""
    before = _data.set(data)
    try:
        yield
    finally:
        _data.reset(before)


def write(path: str | pathlib.Path, arrays: dict[str, list[np.ndarray]], **record: Any) -> None:
    """Write lists of arrays by name, `write(path, {"variables": [...]}, epoch=3)`, and a record of JSON values."""
    content: dict[str, Any] = {f"{name}/{i}": array for name, group in arrays.items() for i, array in enumerate(group)}
    halves = [name for name, array in content.items() if array.dtype == ml_dtypes.bfloat16]  # which NumPy cannot write
    content |= {name: content[name].view("uint16") for name in halves}
    record |= {"data": {**_data.get({})}, "bfloat16": halves}
    content["record"] = np.frombuffer(json.dumps(record).encode(), "uint8")
    with write_aside(path) as aside, open(aside, "wb") as file:
        np.savez(file, **content, sha256=np.frombuffer(_sha256(content), "uint8"))


def read(path: str | pathlib.Path) -> Checkpoint | None:
    """Return (arrays, record) as given to `write`, or None if there is no file.

    Raises:
        InputError: it is broken, or of other data.
    """
    if not os.path.lexists(path):
        return None
    with reading(path, "a checkpoint to resume from", "Remove it to train this stage from its start."):
        content = read_arrays(path)
        checksum = content.pop("sha256", None)
        if checksum is None or checksum.tobytes() != _sha256(content):
            raise ValueError("it has no checksum, or another")
        record = json.loads(content.pop("record").tobytes())
    fingerprints.check(record.pop("data", {}), _data.get({}), str(path))
    content |= {name: content[name].view(ml_dtypes.bfloat16) for name in record.pop("bfloat16", ())}
    arrays: dict[str, list[np.ndarray]] = {}
    for name, array in content.items():
        arrays.setdefault(name.rpartition("/")[0], []).append(array)
    return arrays, record


def _sha256(content: dict[str, np.ndarray]) -> bytes:
    """Return a hash of arrays and their names: those of the archive leave out its own directory."""
    digest = hashlib.sha256()
    for name, array in content.items():
        digest.update(f"{name} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view("uint8").data)
    return digest.digest()
