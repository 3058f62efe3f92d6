"""Files that training goes on from: arrays and a small record, written so that the path always holds a whole file."""

import json
import zipfile

import numpy as np

from ..errors import InputError
from ..files import write_aside

SECONDS = 20  # between checkpoints: at most so much work is done again after a kill


def write(path, arrays, **record):
    """Write lists of arrays by name, `write(path, {"variables": [...]}, epoch=3)`, and a record of JSON values."""
    numbered = {f"{name}/{i}": array for name, group in arrays.items() for i, array in enumerate(group)}
    with write_aside(path) as aside, open(aside, "wb") as file:
        np.savez(file, record=np.frombuffer(json.dumps(record).encode(), "uint8"), **numbered)


def read(path):
    """(arrays, record) as given to `write`, or None where there is no file. Raises InputError if it is broken."""
    try:
        with open(path, "rb") as file, np.load(file) as content:
            record = json.loads(content["record"].tobytes())
            arrays = {}
            for name in content.files:
                if name != "record":
                    arrays.setdefault(name.rsplit("/", 1)[0], []).append(content[name])
            return arrays, record
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"Expected a checkpoint to go on from. Received: {path}, which cannot be read: {error}. Remove it to train "
            "this stage from its start."
        ) from error
