"""Measure whether exported files give what Keras gives: python -m export.check DIR (see exporting.py).

Nothing of keras_sae or Keras is imported, so the check also shows that the files need neither.
"""

import collections
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from . import layout
from .runtimes import Function, open_file

ONE_ROW_SECONDS = 0.5  # for calls with one row, whose median time is taken

Outputs = dict[str, np.ndarray]


def check(directory: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Return what was measured of each exported file in a directory, by its name there: see `layout.Measured`."""
    with np.load(directory / "check.npz") as content:
        expected = dict(content)
    inputs = expected.pop("inputs")
    labels, images = expected.pop("labels", None), expected.pop("images", None)
    features = expected.get("reconstruct/features")
    inputs_of: dict[str, Any] = collections.defaultdict(lambda: inputs, decode=features, images=images)
    measured = {}
    for path in [*directory.glob(f"{layout.SAVED_MODEL}/*"), *sorted(directory.glob("encoder*"))]:
        functions = open_file(path)
        outputs = {name: function.run(inputs_of[name]) for name, function in functions.items()}
        measured[str(path.relative_to(directory))] = {
            **compare(outputs, expected, labels),
            "milliseconds": one_row_milliseconds(functions["encode"].run, inputs[:1]),
            **quantization(functions),
            "bytes": sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()),
        }
    return measured


def quantization(functions: Mapping[str, Function]) -> dict[str, dict[str, list[float]]]:
    """Return what turns the integers that a file takes and gives into numbers, if it does so."""
    found = {
        f"{name}/{tensor}": [*scale]
        for name, function in functions.items()
        for tensor, scale in function.quantization.items()
    }
    return {"quantization": found} if found else {}


def compare(
    outputs: Mapping[str, Outputs], expected: Mapping[str, np.ndarray], labels: np.ndarray | None
) -> dict[str, Any]:
    """Return the largest difference between what a file and Keras give, the root mean square, and the accuracy.

    Differences are `relative`. The root mean square is that of the output whose is largest; the accuracy is None
    without labels or probabilities.

    Args:
        outputs: by the name of the signature, then of the output.
        expected: what Keras gives, by "signature/output".
    """
    differences = [np.array(np.nan)] if not outputs else []  # NaN is within no bound: a file with nothing to compare
    differences += [relative(found, wanted) for found, wanted in pairs(outputs, expected)]
    accuracy = None
    if labels is not None and "classify" in outputs:
        accuracy = float(np.mean(outputs["classify"]["probabilities"].argmax(axis=1) == labels))
    return {
        "difference": float(np.max([d.max() for d in differences])),  # NaN if any is
        "root_mean_square": float(np.max([np.sqrt(np.mean(d**2)) for d in differences])),
        "accuracy": accuracy,
    }


def pairs(
    outputs: Mapping[str, Outputs], expected: Mapping[str, np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield what a file and Keras give, for each output but numbers of classes and units.

    Two that are nearly equal may change places: so of `top` are compared the sizes in their order, and the values with
    the features that are at these indices.
    """
    for name, values in outputs.items():
        for output in values.keys() - {"label", "indices", "values"}:
            yield values[output], expected[f"{name}/{output}"]
        if "values" in values:
            yield np.abs(values["values"]), np.abs(expected[f"{name}/values"])
            yield values["values"], np.take_along_axis(expected["encode/features"], values["indices"], axis=1)


def relative(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return |found - wanted| as a part of the largest |wanted| of the row, or as it is if that is below 1.

    An output is a sum over the row, and its rounding a part of what is added up.
    """
    largest = np.abs(wanted).max(axis=tuple(range(1, wanted.ndim)), keepdims=True, initial=1)
    return np.abs(found - wanted) / largest


def one_row_milliseconds(encode: Callable[[np.ndarray], Outputs], row: np.ndarray) -> float:
    """Return the median time of encoding one row."""
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < ONE_ROW_SECONDS:
        start = time.perf_counter()
        encode(row)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


if __name__ == "__main__":
    print(json.dumps(check(pathlib.Path(sys.argv[1]))))
