"""Columns of texts as columns of 0 and 1: one for each text, named column=text."""

import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...errors import InputError
from .rows import MISSING_VALUES

MOST = 100  # different texts in a column
_TEXTS = re.compile("(large_)?string|dictionary<values=(large_)?string")

Categories = dict[int, tuple[str, ...]]  # index of a column -> its texts


def is_text(kind: Any) -> bool:
    """Return whether a type of pyarrow is one of texts."""
    return _TEXTS.match(str(kind)) is not None


def find_categories(batches: Iterable[tuple[pathlib.Path, int, Any]], names: Mapping[int, str]) -> Categories:
    """Return the different texts of columns, sorted.

    Raises:
        InputError: a text is missing, or there are too many different ones to be categories.
    """
    found: dict[int, set[str]] = {i: set() for i in names}
    for file, row, batch in batches:
        for i, texts in found.items():
            values = batch.column(i)
            for place, text in enumerate(values.to_pylist() if values.null_count else values.unique().to_pylist()):
                if text is None:
                    _missing(names[i], row + place, file)
                texts.add(text)
            if len(texts) > MOST:
                raise InputError(
                    f"Expected at most {MOST} different texts in a column. Received: more in column {names[i]!r} of "
                    f"{file}, as of names or free text. Leave it out (ignore=...)."
                )
    return {i: tuple(sorted(texts)) for i, texts in found.items()}


def encode(texts: np.ndarray, categories: tuple[str, ...], name: str, file: pathlib.Path, first_row: int) -> np.ndarray:
    """Return 1 where a text is a category, else 0: (rows,) -> (rows, categories).

    Raises:
        InputError: a text is missing, or none of the categories.
    """
    codes = texts[:, None] == np.array(categories, object)[None]
    unknown = ~codes.any(axis=1) | (texts == "")
    if unknown.any():
        row = first_row + int(unknown.argmax())
        text = texts[row - first_row]
        if text == "":
            _missing(name, row, file)
        shown = ", ".join(map(repr, categories[:6])) + ", ..." * (len(categories) > 6)
        raise InputError(
            f"Expected one of the {len(categories)} texts {shown} in column {name!r}. Received: {str(text)[:40]!r} in "
            f"row {row + 1} (counted from 1) of {file}. Correct or drop that row."
        )
    return codes


def _missing(name: str, row: int, file: pathlib.Path) -> None:
    raise InputError(
        f"Expected a value in every row. Received: none in column {name!r}, row {row + 1} (counted from 1) of {file}. "
        f"{MISSING_VALUES}"
    )
