"""What the rows of an export mean, as export.json has it from the run: which columns, in which order, which images."""

import argparse
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

from keras_sae.cli import with_flags
from keras_sae.data import readers
from keras_sae.errors import InputError, NoImagesError

FLAGS = ("labels", "feature", "image_size", "color", "no_header")  # of this command, that the reader of the data takes
SHOWN = 6  # names in a note


def given(a: argparse.Namespace) -> dict[str, Any]:
    """Return the flags of the command line that the reader of the data takes, of those that were given."""
    return {name: getattr(a, name) for name in FLAGS if getattr(a, name) is not None}


def options(schema: dict[str, Any], taken: Collection[str], feature: str | None) -> dict[str, Any]:
    """Return the options of the reader as the training had them, of those that it takes: columns, and size of images.

    A feature that is named is read as it is, without columns of its own.
    """
    shape, columns = schema.get("image_shape"), schema.get("feature_names")
    found: dict[str, Any] = {"image_size": tuple(shape[:2]), "color": len(shape) == 3} if shape else {}
    if columns and feature is None:
        found["names"], found["one_hot"] = _in_the_file(columns, schema.get("categories", {}))
    return {name: value for name, value in found.items() if name in taken}


def _in_the_file(columns: Sequence[str], categories: dict[str, list[str]]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of columns as the data have them, and the texts of those that become columns of 0 and 1."""
    made = {f"{name}={text}": name for name, texts in categories.items() for text in texts}
    return list(dict.fromkeys(made.get(name, name) for name in columns)), categories


def read(data: Sequence[str], flags: dict[str, Any], expected: dict[str, Any], cache: pathlib.Path) -> readers.Rows:
    """Return the rows of some data, read with these flags, and as expected where no flag says otherwise."""
    try:
        try:
            return readers.read_rows(data, **expected | flags, cache=cache)
        except NoImagesError:
            options = {name: value for name, value in expected.items() if name in ("names", "one_hot")}
            return readers.read_rows(data, **options | flags, cache=cache)
    except InputError as error:
        raise type(error)(with_flags(str(error), [*FLAGS, "memory"])) from error


def notes(schema: dict[str, Any], expected: dict[str, Any], rows: readers.Rows) -> list[str]:
    """Return what was noted of the rows, and whether columns without names are given to a model that has names."""
    found = [with_flags(note, FLAGS) for note in rows.notes]
    columns = schema.get("feature_names", [])
    if columns and not rows.feature_names and "names" not in expected:
        more = f" and {len(columns) - SHOWN:,} more" if len(columns) > SHOWN else ""
        found.append(f"columns without names are taken in the order of {', '.join(columns[:SHOWN])}{more}")
    return found


def pixel_scale(schema: dict[str, Any], value_range: tuple[float, float] | None) -> float:
    """Return what pixels of this range are multiplied by to be those of the training; 1 if either is not known."""
    return schema["pixel_range"] / value_range[1] if value_range and "pixel_range" in schema else 1.0
