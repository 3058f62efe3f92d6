"""Rows of data that a run keeps, as .npz files: to check its exports on, and to measure the ranges of int8 on."""

import os
import pathlib
import typing
from typing import Any

from ..archives import read_arrays, reading
from ..errors import InputError
from ..files import write_aside

if typing.TYPE_CHECKING:
    import numpy as np

KEPT = {"examples": 1000, "calibration": 200}  # rows at most


def keep_rows(directory: pathlib.Path, name: str, x: Any, labels: Any = None) -> None:
    """Write NAME.npz, with as many of the rows as KEPT says.

    x: (examples, features), an array, a table or a sparse matrix.  labels: (examples,), or None.
    """
    import numpy as np

    from ..data.containers import as_array, spread

    x = spread(as_array(x), KEPT[name])
    save_examples(directory / f"{name}.npz", x, None if labels is None else spread(np.asarray(labels), KEPT[name]))


def save_examples(path: str | os.PathLike[str], x: Any, labels: Any = None) -> None:
    """Write inputs, (examples, features), with labels (examples,) if there are any: exports are checked on them.

    Raises:
        InputError: they have other shapes.
    """
    import numpy as np

    x = np.asarray(x, "float32")
    if x.ndim != 2 or not len(x):
        name = pathlib.Path(path).stem
        raise InputError(f"Expected {name} of shape (examples, features). Received: shape {x.shape}.")
    if labels is not None and np.shape(labels) != x.shape[:1]:
        raise InputError(f"Expected labels of shape ({len(x)},), one an example. Received: shape {np.shape(labels)}.")
    with write_aside(path) as aside:
        if labels is None:
            np.savez_compressed(aside, x=x)
        else:
            np.savez_compressed(aside, x=x, labels=np.asarray(labels))


def load_examples(
    directory: str | os.PathLike[str], name: str = "examples.npz"
) -> "tuple[np.ndarray, np.ndarray | None]":
    """Return inputs of a run, (examples, features), and their labels (examples,) or None.

    name: "examples.npz", held out, to check results on; "calibration.npz", of the training set, to measure ranges on.
    """
    path = pathlib.Path(directory) / name
    if not path.is_file():
        raise InputError(
            f"Expected {path} with inputs to {'check results' if name == 'examples.npz' else 'measure ranges'} on. "
            f"Received a run without it. Save the model with {path.stem}=x, a few hundred rows of data, or write one: "
            "keras_sae.runs.save_examples(path, x)."
        )
    with reading(path, "inputs that NumPy can read"):
        content = read_arrays(path)
        x, labels = content["x"], content.get("labels")
        if x.ndim != 2 or not len(x) or x.dtype.kind not in "buif":
            raise ValueError(f"its x is of shape {x.shape} and type {x.dtype}, not numbers (examples, features)")
        if labels is not None and (labels.shape != x.shape[:1] or labels.dtype.kind not in "bui"):
            raise ValueError(
                f"its labels are of shape {labels.shape} and type {labels.dtype}, not a whole number a row"
            )
    return x, labels
