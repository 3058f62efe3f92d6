"""What an export says of the rows that its models take, as the run that they come from recorded it."""

import json
import pathlib
from typing import Any

from keras_sae.errors import InputError

from .layout import RECORD


def schema_of(model: pathlib.Path) -> dict[str, Any]:
    """Return what is known of the rows that a model takes, from the export.json of its export.

    Nothing is known of models from elsewhere, and of exports of earlier versions.
    """
    model = model.absolute()
    for export in list(model.parents)[:2]:  # a file, or saved_model/VERSION
        path = export / RECORD
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
