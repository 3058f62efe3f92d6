"""What can be exported: a model in memory, a run, a .keras file, a sparse autoencoder of another library."""

import os
import pathlib
from typing import TYPE_CHECKING

from keras_sae.errors import InputError
from keras_sae.runs.records import RECORD, is_run

from . import layout

if TYPE_CHECKING:
    import keras


def opened(model: "keras.Model | str | os.PathLike[str]") -> "keras.Model | pathlib.Path":
    """Return the directory of a run as a path; what else is named by a path as a model; a model as it is.

    Keras is loaded for what is no run alone.

    Raises:
        InputError: the file or the directory cannot be read, or is of several autoencoders.
    """
    if not isinstance(model, str | os.PathLike):
        return model
    path, from_hub = pathlib.Path(model), str(model).startswith("hf://")
    if not from_hub and (not path.exists() or any((path / name).exists() for name in (RECORD, "model.keras"))):
        return path
    if path.suffix == ".keras" and path.is_file():
        from keras_sae.runs.model_files import load_model

        return load_model(path)
    from keras_sae.interchange import detection, load_sae

    if from_hub or detection.candidates(path):
        return load_sae(str(model))
    if is_run(path):  # an unfinished one of an earlier version
        return path
    raise InputError(
        "Expected the directory of a run, a .keras file, or a sparse autoencoder of another library, anything that "
        f"keras_sae.load_sae reads. Received: {path}, which has no record of a run, and no weights with a known name."
    )


def as_run(model: "keras.Model", work: pathlib.Path, options: dict) -> pathlib.Path:
    """Write a model in memory as a run, and return its directory.

    Raises:
        InputError: it is not trained, or it is no model of ours, or there are no inputs to quantise it with.
    """
    from keras_sae import runs

    try:
        runs.encoder_of(model)
    except (AttributeError, ValueError) as error:
        raise InputError(
            "Expected a trained autoencoder, a stack or a classifier of one, or the path of a run. Received: "
            f"{model!r}. {error}"
        ) from error
    calibrated = layout.calibrated(options["formats"], options["quantize"])
    if calibrated and not (work / "calibration.npz").exists():
        raise InputError(
            "Expected calibration=, inputs to measure the ranges of int8 on. Received: a model in memory without them. "
            "Give (examples, features) of the training data; a few hundred rows are enough."
        )
    origin = getattr(model, "origin", None)
    run = work / "runs" / (pathlib.Path(origin["address"]).resolve().name if origin else model.name)
    runs.save(model, run)
    return run


def keeps_pretrained(run: pathlib.Path) -> bool:
    """Return whether a run is of a classifier and kept the stack as it was before the labels."""
    from keras_sae import runs

    return (run / runs.PRETRAINED).exists()
