"""Rows of data that a run keeps, as .npz files: to check its exports on, and to measure the ranges of int8 on."""

import os
import pathlib
import typing
from typing import Any

from ..archives import expands_too_far, read_arrays, reading
from ..errors import InputError
from ..files import write_aside

if typing.TYPE_CHECKING:
    import numpy as np

KEPT = {"examples": 1000, "calibration": 200}  # rows at most


def kept_rows(name: str, x: Any, labels: Any = None) -> "dict[str, np.ndarray]":
    """Return what a run keeps of rows: as many of them as KEPT says for this name, spread over all.

    x: (examples, features), an array, a table or a sparse matrix.  labels: (examples,) integers, or None.
    """
    import numpy as np

    from ..data.containers import as_array, spread

    x = as_array(x)
    if labels is not None:
        labels = np.asarray(labels)
        _check_labels(labels, len(x))
        labels = spread(labels, KEPT[name])
    return _checked(name, spread(x, KEPT[name]), labels)


def save_examples(path: str | os.PathLike[str], x: Any, labels: Any = None) -> None:
    """Write inputs, (examples, features), with labels (examples,) if there are any: exports are checked on them.

    Raises:
        InputError: they have other shapes, or the labels are no integers.
    """
    write_rows(path, _checked(pathlib.Path(path).stem, x, labels))


def _checked(name: str, x: Any, labels: Any) -> "dict[str, np.ndarray]":
    """Return inputs as float32 with their labels, as files hold them."""
    import numpy as np

    x = np.asarray(x, "float32")
    if x.ndim != 2 or not len(x):
        raise InputError(f"Expected {name} of shape (examples, features). Received: shape {x.shape}.")
    if labels is None:
        return {"x": x}
    labels = np.asarray(labels)
    _check_labels(labels, len(x))
    return {"x": x, "labels": labels}


def _check_labels(labels: "np.ndarray", rows: int) -> None:
    if labels.shape != (rows,):
        raise InputError(f"Expected labels of shape ({rows},), one an example. Received: shape {labels.shape}.")
    if labels.dtype.kind not in "bui":
        raise InputError(
            f"Expected labels that are integers, the numbers of classes. Received: type {labels.dtype}. "
            "np.unique(labels, return_inverse=True)[1] numbers texts."
        )


def write_rows(path: str | os.PathLike[str], arrays: dict[str, Any]) -> None:
    """Write what `kept_rows` returned."""
    import numpy as np

    with write_aside(path) as aside:
        np.savez_compressed(aside, **arrays)
        if expands_too_far(aside.stat().st_size, sum(array.nbytes for array in arrays.values())):
            np.savez(aside, **arrays)  # of zeros nearly alone: packed, it would be refused when it is read


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
