"""What is odd in rows: their errors, and those of their columns, beside the usual ones of a run or of an export."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_sae.anomalies import UsualErrors
from keras_sae.data.readers import Rows
from keras_sae.errors import InputError
from keras_sae.runs.records import is_run

from ..features.columns import Arrays
from ..runtimes import Function, Model, open_model
from ..schema import schema_of

if TYPE_CHECKING:  # Keras, which exports do without
    from keras_sae.autoencoder import Autoencoder

SIGNATURE = "score"
SHOWN = 3  # columns that are named of each row


@dataclasses.dataclass(frozen=True)
class Scored:
    """What scores rows.

    model: rows -> error, column_errors.  known: what the run recorded of rows.  usual: the errors of held-out rows.
    autoencoder: of a run, which tells what it expected of a row.  note: on where the usual errors come from.
    """

    model: Model
    known: dict[str, Any]
    usual: UsualErrors
    autoencoder: "Autoencoder | None" = None
    note: str = ""


def open_scored(path: pathlib.Path, model: str | None = None) -> Scored:
    """Return what scores rows by a run, or by an export or a model file, of which `model` is as of `open_model`."""
    if not path.exists():
        raise InputError(f"Expected a run or an export. Received: {path}, which does not exist.")
    found = _of_run(path, model) if is_run(path) else _of_export(path, model)
    if found.model.features != len(found.usual.columns):
        raise InputError(
            f"Expected a usual error for each of {found.model.features:,} columns. Received: {path}, which has "
            f"{len(found.usual.columns):,}. Train or export it again."
        )
    return found


def _of_export(path: pathlib.Path, kind: str | None) -> Scored:
    """Return what scores rows by an export. Raise InputError if its run recorded no errors of held-out rows."""
    cure = "Export its run again, as SavedModel or LiteRT, or name the run itself."
    model = open_model(path, kind, SIGNATURE, cure)
    known = schema_of(model.path)
    if "usual_errors" not in known:
        raise InputError(
            f"Expected an export that says which errors are usual. Received: {model.path}, which does not: its run "
            "is of an earlier version, or of another command than python -m train.features. Name the run itself, whose "
            "held-out rows are measured then."
        )
    return Scored(model, known, UsualErrors.read(known["usual_errors"], path))


def _of_run(path: pathlib.Path, kind: str | None) -> Scored:
    """Return what scores rows by a run; if it recorded no errors of held-out rows, by those that it kept."""
    import tensorflow as tf

    from keras_sae import runs

    from ..signatures import of_run

    if kind is not None:
        raise InputError(f"Expected no --model, as {path} is a run, not an export. Received: {kind}. Leave it out.")
    signature = of_run(path).get(SIGNATURE)
    if signature is None:
        raise InputError(
            f"Expected a run with a decoder. Received: {path}, a classifier whose pretrained stack was not kept. Train "
            "it again."
        )
    [autoencoder] = signature.models
    function = tf.function(signature.function, input_signature=[signature.spec])

    def run(values: np.ndarray) -> Arrays:
        return {name: value.numpy() for name, value in function(tf.constant(values)).items()}

    inputs = {signature.spec.name: (list(signature.spec.shape), np.float32)}
    file = path / runs.PRETRAINED
    model = Model(file if file.exists() else path / "model.keras", Function(inputs, run))
    known = runs.read_config(path)
    if "usual_errors" in known:
        return Scored(model, known, UsualErrors.read(known["usual_errors"], path), autoencoder)
    examples, _ = runs.load_examples(path)
    note = f"{path} does not say which errors are usual: measured on the {len(examples):,} held-out rows it kept"
    return Scored(model, known, UsualErrors.measure(autoencoder, examples), autoencoder, note)


def column_names(known: dict[str, Any], rows: Rows) -> list[str]:
    """Return what the columns of rows are called: names of a table, places of pixels, or their numbers."""
    if known.get("feature_names"):
        return known["feature_names"]
    shape = known.get("image_shape", ())
    if np.prod(shape, dtype=int) == rows.x.shape[1]:
        return [f"pixel {','.join(map(str, place))}" for place in np.ndindex(*shape)]
    return list(rows.feature_names or map("number {}".format, range(rows.x.shape[1])))


class Scorer:
    """A function from rows, (examples, features), to what the output says of each, arrays by name.

    names: of the columns of what needs other names than its own.  texts: what integers stand for, names of columns.
    """

    def __init__(self, model: Model, usual: UsualErrors, threshold: float, columns: list[str], every_column: bool):
        self.model, self.usual, self.threshold, self.columns = model, usual, threshold, columns
        self.every_column = every_column
        self.shown = min(SHOWN, len(columns))
        self.names = {"column_errors": [f"error_{name}" for name in columns]} if every_column else {}
        self.texts = {f"column_{place}": columns for place in range(1, self.shown + 1)}

    def __call__(self, rows: np.ndarray) -> Arrays:
        found = self.model(rows)
        error, terms = found["error"], found["column_errors"]
        oddest, shares = self.oddest(terms)
        scores = {"error": error, "odd": error > self.threshold}
        for place in range(self.shown):
            scores |= {f"column_{place + 1}": oddest[:, place], f"share_{place + 1}": shares[:, place]}
        return scores | ({"column_errors": terms} if self.every_column else {})

    def oddest(self, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which columns of each row are oddest, (rows, SHOWN) int32, and their shares, float32."""
        shares = self.usual.shares(terms).astype("float32")
        largest = np.argpartition(shares, -self.shown, axis=1)[:, -self.shown :]  # unsorted: a sort of pixels is slow
        order = np.argsort(-np.take_along_axis(shares, largest, axis=1), axis=1, kind="stable")
        oddest = np.take_along_axis(largest, order, axis=1)
        return oddest.astype("int32"), np.take_along_axis(shares, oddest, axis=1)
