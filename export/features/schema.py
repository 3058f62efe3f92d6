"""What the rows of an export mean, as export.json has it from the run: which columns, in which order, which images."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from keras_sae.errors import InputError

SHOWN = 6  # names in a message


def schema_of(model: pathlib.Path) -> dict[str, Any]:
    """Return what is known of the rows that a model takes, from the export.json of its export.

    Nothing is known of models from elsewhere, and of exports of earlier versions.
    """
    model = model.absolute()
    for export in list(model.parents)[:2]:  # a file, or saved_model/VERSION
        path = export / "export.json"
        if not path.is_file():
            continue
        try:
            return json.loads(path.read_text())["files"].get(model.relative_to(export).as_posix(), {}).get("schema", {})
        except (ValueError, KeyError, AttributeError) as error:
            raise InputError(
                f"Expected the export.json that python -m export wrote. Received: {path}, which is damaged. Export the "
                "run again."
            ) from error
    return {}


def image_options(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the size and colour of the images that the model was trained on, as options of the reader."""
    shape = schema.get("image_shape")
    return {"image_size": list(shape[:2]), "color": len(shape) == 3} if shape else {}


def pixel_scale(schema: dict[str, Any], value_range: tuple[float, float] | None) -> float:
    """Return what pixels of this range are multiplied by to be those of the training; 1 if either is not known."""
    return schema["pixel_range"] / value_range[1] if value_range and "pixel_range" in schema else 1.0


def match(wanted: Sequence[str] | None, found: Sequence[str], data: str) -> tuple[list[int] | None, list[str]]:
    """Return (the indices of the wanted columns among those found, notes); None takes the columns as they are.

    wanted: names in the order that the model takes, or None if they are not known.  found: the names in the data, none
    if they have no names.  Raises InputError if a wanted one is not there.
    """
    if not wanted:
        return None, []
    if not found:
        return None, [f"{data} has no names of columns: they are taken in the order of training, {listed(wanted)}"]
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(
            f"Expected the columns that the model was trained on: {listed(wanted)}. Received: {data} without "
            f"{listed(missing)}. Add the missing columns, or give the columns the names that they had then."
        )
    twice = [name for name in wanted if list(found).count(name) > 1]
    if twice:
        raise InputError(f"Expected one column of each name. Received: several {listed(twice)} in {data}. Rename them.")
    extra = [name for name in found if name not in wanted]
    notes = [f"columns that the model does not take are left out: {listed(extra)}"] if extra else []
    order = [list(found).index(name) for name in wanted]
    return None if order == list(range(len(found))) else order, notes


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
