"""The page of one trained model: report.html of runs, and `keras_sae.report` in notebooks."""

import html
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from .. import extras
from ..files import write_aside
from ..runs import records
from ..runs.run_directories import encoder_of
from .facts import measure
from .page import render_report

FILE = "report.html"
SMALLEST_PICTURE = 64  # pixels: rows of fewer numbers are taken for a table unless their shape is given
HEIGHT = 720  # pixels of a page within a notebook


class Report:
    """A page about a trained model: one HTML file that needs no network. Notebooks show it.

    Attributes:
        html: the page, text.
    """

    def __init__(self, text: str):
        self.html = text

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page as a file."""
        with write_aside(path) as aside:
            aside.write_text(self.html, encoding="utf-8", errors="backslashreplace")

    def _repr_html_(self) -> str:
        style = f"width:100%;height:{HEIGHT}px;border:1px solid #8888"
        return f'<iframe title="Report of a trained model" style="{style}" srcdoc="{html.escape(self.html)}"></iframe>'


def report(
    model: keras.Model,
    x: Any,
    y: Any = None,
    path: str | os.PathLike[str] | None = None,
    *,
    shape: tuple[int, ...] | None = None,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    history: Any = None,
) -> Report:
    """Return a page on what a model has learned: its units, what they detect in x, what it gives back, its classes.

    The rows of x are read in chunks, at three passes; only those that are shown are kept.

    Args:
        model: a trained `SparseAutoencoder`, `StackedAutoencoder`, or a classifier of one.
        x: (examples, features), rows that the model was not trained on, as of `Autoencoder.transform`.
        y: their classes, (examples,), numbers or text, or None; of a classifier the numbers of its classes.
        path: of an HTML file to write, or None.
        shape: (height, width) of the rows as pictures, (height, width, 3) in colour; by default a grey square if that
            holds 64 features or more which have no names, else none: x is a table.
        feature_names: of the columns of x; by default those that a table has.
        class_names: of the classes, by their numbers.
        history: a keras History, or name -> its `history` dict, to draw curves of.

    Raises:
        InputError: x, y, names and shape do not fit together, or a package is missing.

    >>> keras_sae.report(ae, digits.x_test, digits.y_test, "report.html")
    """
    extras.check_for_reports()
    record: dict[str, Any] = {"title": f"What {model.name} has learned"}
    names = feature_names if feature_names is not None else getattr(x, "columns", None)
    if names is not None:
        record["feature_names"] = [str(name) for name in names]
    if class_names is not None:
        record["class_names"] = [str(name) for name in class_names]
    if shape is None and names is None:
        shape = _square(encoder_of(model).input_shape[-1])
    if shape is not None:
        record["image_shape"] = list(shape)
    histories = {} if history is None else history if isinstance(history, Mapping) else {"training": history.history}
    facts = measure(model, x, y, class_names=class_names)
    made = Report(render_report(facts, model, record, {}, histories))
    if path is not None:
        made.save(path)
    return made


def write_report(
    directory: str | os.PathLike[str],
    model: keras.Model,
    x: Any,
    y: Any = None,
    classifier: keras.Model | None = None,
    histories: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    rho_hats: Sequence[np.ndarray] = (),
    step: str = "iteration",
) -> pathlib.Path:
    """Write report.html into the directory of a finished run. Return its path.

    Args:
        directory: of the run, whose record and numbers the page shows.
        model: what learned without labels, whose units are shown.
        x, y: held-out rows and the numbers of their classes, if they have any.
        classifier: of the same rows, or None.
        histories: of each stage, name -> its `history` dict.
        rho_hats: the exact mean activations of each layer over the training set; by default those over x.
        step: what the histories count.
    """
    extras.check_for_reports()
    record, metrics = records.read_config(directory), records.read_metrics(directory)
    facts = measure(model, x, y, classifier, record.get("class_names") or None)
    stages, path = histories or {}, pathlib.Path(directory) / FILE
    text = render_report(facts, model, record, metrics, stages, rho_hats, step, classifier, pathlib.Path(directory))
    Report(text).save(path)
    return path


def _square(pixels: int) -> tuple[int, int] | None:
    """Return the shape of a grey square of so many pixels, or None if they are too few or make no square."""
    side = math.isqrt(pixels)
    return (side, side) if side**2 == pixels >= SMALLEST_PICTURE else None
