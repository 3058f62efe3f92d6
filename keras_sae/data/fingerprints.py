"""Fingerprints of data, by which a training that is resumed knows them again: SHA-256 of each part of them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import InputError

Fingerprint = Mapping[str, str]  # what it is of -> the checksum


def of_array(x: np.ndarray, digest: "hashlib._Hash | None" = None) -> "hashlib._Hash":
    """Return a digest to which the numbers of rows, (rows, ...), are added: the same however they are cut in pieces."""
    digest = hashlib.sha256(f"{x.dtype.str} {x.shape[1:]}".encode()) if digest is None else digest
    digest.update(np.ascontiguousarray(x).reshape(-1).view("uint8").data)
    return digest


def of(**parts: Any) -> dict[str, str]:
    """Return the fingerprint of arrays (rows, ...), in memory, or of JSON values, by names that messages use."""
    return {name: _of(part) for name, part in parts.items()}


def of_tensors(tensors: Iterable[Any]) -> str:
    """Return the checksum of the numbers in tensors, such as weights."""
    from keras import ops

    total = hashlib.sha256()
    for tensor in tensors:
        total.update(np.ascontiguousarray(ops.convert_to_numpy(tensor)).tobytes())
    return total.hexdigest()


def of_images(images: Any) -> dict[str, str]:
    """Return the fingerprint of `datasets.LabelledImages`."""
    found = of(images=images.x_train, test_images=images.x_test)
    return found | of(labels=images.y_train, test_labels=images.y_test)


def _of(part: Any) -> str:
    if isinstance(part, np.ndarray):
        return of_array(part).hexdigest()
    return hashlib.sha256(json.dumps(part).encode()).hexdigest()


def check(recorded: Fingerprint, found: Fingerprint, what: str) -> None:
    """Raise InputError that names what is another, unless these are fingerprints of the same data.

    what: has the recorded one.  Where there is none, of an earlier version, nothing is compared.
    """
    changed = [name for name in {**recorded, **found} if recorded.get(name) != found.get(name)]
    if recorded and changed:
        raise InputError(
            f"Expected the data that {what} had. Received: other {', '.join(changed).replace('_', ' ')}. Give it the "
            "same, or start a new run."
        )
