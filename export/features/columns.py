"""What the columns of an output are called, and the column of labels."""

import contextlib

import numpy as np

from keras_sae.data.readers.rows import Rows

Arrays = dict[str, np.ndarray]  # outputs of a model by name, each (rows, ...)
_SINGULAR = {"features": "feature", "outputs": "output", "probabilities": "probability"}


def singular(name: str) -> str:
    """Return what one number of an output is called."""
    return _SINGULAR.get(name, name)


def column_names(outputs: Arrays) -> dict[str, list[str]]:
    """Return the names of each output's columns; an output of one number per row is one column."""
    return {
        name: [name] if array.ndim == 1 else [f"{singular(name)}_{i}" for i in range(array[0].size)]
        for name, array in outputs.items()
    }


def label_values(class_names: tuple[str, ...]) -> np.ndarray:
    """Return the classes as they were in the data: int64 if all are integers, else text."""
    with contextlib.suppress(ValueError, OverflowError):
        numbers = np.array([int(name) for name in class_names], "int64")
        if [str(number) for number in numbers] == list(class_names):
            return numbers
    return np.array(class_names)


def labels_of(rows: Rows) -> np.ndarray:
    """Return the labels of rows as an array; where there is none, NaN among integers and "" among texts."""
    values, unknown = label_values(rows.class_names)[rows.y], rows.y < 0
    if not unknown.any():
        return values
    return np.where(unknown, np.nan if values.dtype.kind == "i" else "", values)
