"""The callback that writes what TensorBoard shows of a training."""

import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from .. import extras
from ..constraints import check
from ..visualization import as_float64
from .event_files import PURPOSE, EventFile, write_projector
from .snapshots import Subject, features, some, weights

SHARE = 0.02  # of the time of training, that looks may take
FIRST_SECONDS = 0.15  # what the first look is taken to take


class TensorBoard(keras.callbacks.Callback):
    """Writes a training for `tensorboard --logdir`, with `keras_sae.fit`, `fit_head` and Keras' own `fit` alike.

    In every epoch, or iteration of L-BFGS, scalars: all logs by their names in the History ("loss", its terms,
    "rho_hat", of L-BFGS also "gradient_norm", "step_length", "evaluations"), "learning_rate" and "examples_per_second".

    At some steps and at the end, it looks closer:
        scalars      "units/rho_hat", over all rows of x, exactly; "units/dead" and "units/saturated", how many units
                     rest (rho_hat below 0.001) or are fully active (above 0.999); of units that have no bounds those
                     that are 0 for all rows or for none, and "units/l0", how many are not 0 for a row;
                     "gradient_norm", on a sample, if the logs have none
        histograms   "units/distribution" of rho_hat, "activations" of a sample, "weights/..." that are trained
        images       "features" as tiles; "reconstructions" below their inputs; "confusion" of a classifier, on a sample

    The graph and the settings are written at the start; the codes of a sample, for the embedding projector, with
    labels and thumbnails, at the end.

    A look that took t seconds is followed by none for 50 t, so that looks take 2 % of the time at most, the one at the
    end aside. The codes of a model that is no autoencoder are what its last layer takes. What `fit_head` trains is
    looked at as the whole classifier.

    Args:
        log_dir: directory of the event file; runs that are to be compared have one each, side by side.
        x: the rows that are trained on, of every kind that `Autoencoder.transform` takes. A data set has to end. None
            leaves out what needs rows.
        y: class labels of x, (examples,), numbers or, if they are for the projector alone, text.
        shape: (height, width) of rows that are pictures, (height, width, 3) in colour.
        class_names: of labels that are numbers.
        hparams: settings to compare runs by, name -> number, text or truth value.
        times: looks at most, the one at the end aside.

    Raises:
        MissingPackageError: tensorboard is not installed.
        ValueError: the rows do not fit the model, the labels or the shape.

    >>> board = keras_sae.callbacks.TensorBoard("logs/rho_0.1", x, labels, (28, 28), hparams={"rho": 0.1})
    >>> history = keras_sae.fit(ae, x, callbacks=[board])
    """

    def __init__(
        self,
        log_dir: str | pathlib.Path,
        x: Any = None,
        y: Any = None,
        shape: tuple[int, ...] | None = None,
        class_names: Sequence[str] | None = None,
        hparams: Mapping[str, Any] | None = None,
        times: int = 20,
    ):
        super().__init__()
        extras.check("tensorboard", PURPOSE)
        check("times", times)
        self.log_dir, self.x, self.y, self.shape = str(log_dir), x, y, shape
        self.class_names, self.hparams, self.times = class_names, hparams, times
        self.whole: keras.Model | None = None

    def look_at(self, whole: keras.Model) -> None:
        """Look at this model during the next training, which is that of a part of it."""
        self.whole = whole

    def on_train_begin(self, logs: Any = None) -> None:
        self.file: Any = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Not before, as a training that was finished before has no epoch, and not yet if Keras builds the model in it.
        if self.file is None and self.model.built:
            self._open()
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        if self.file is None:
            self._open()
        self.step = epoch + 1
        self.by_lbfgs = "step_length" in logs
        numbers = {name: float(value) for name, value in logs.items() if hasattr(value, "__float__")}
        self.file.scalars({**self._pace(logs, now - self.began), **numbers}, self.step)
        if self.step % self.every == 0 and self.seconds <= SHARE * (now - self.looked):
            self._look()

    def on_train_end(self, logs: Any = None) -> None:
        if self.file is None:
            return
        interrupted = getattr(self.model.history, "result", {"stopped": ""})["stopped"] is None
        if not interrupted:  # after Ctrl-C nobody waits for a pass over the rows
            if self.step > self.last_look:
                self._look()
            self._project()
        self.file.close()
        self.file, self.whole = None, None

    def _open(self) -> None:
        model = self.whole or self.model
        self.variables = self.model.trainable_variables
        self.subject = None
        if self.x is not None:
            self.subject = Subject(model, self.variables, self.x, self.y, self.shape, self.class_names)
        self.file = EventFile(self.log_dir)
        self.file.graph(model)
        if self.hparams:
            self.file.hparams(self.hparams)
        self.every = math.ceil(self.params["epochs"] / self.times)
        self.step = self.last_look = 0
        self.seconds, self.looked = FIRST_SECONDS, time.perf_counter()

    def _pace(self, logs: Mapping[str, Any], seconds: float) -> dict[str, float]:
        """Return the learning rate and how many rows were computed in a second of this epoch."""
        found = {}
        if not self.by_lbfgs:
            found["learning_rate"] = float(as_float64(self.model.optimizer.learning_rate))
        if self.subject is not None and self.subject.chunks.is_array:
            found["examples_per_second"] = len(self.subject.chunks.x) * logs.get("evaluations", 1) / seconds
        return found

    def _project(self) -> None:
        """Write the codes of the sample for the embedding projector."""
        if self.subject is not None and self.subject.hidden is not None:
            write_projector(self.log_dir, self.subject.points(), self.subject.names(), self.subject.thumbnails())

    def _look(self) -> None:
        """Write what takes more than a moment to measure, and remember how long it took."""
        began, subject = time.perf_counter(), self.subject
        scalars: dict[str, float] = {}
        histograms = weights(self.variables)
        pictures = features(self.variables, self.shape) if self.shape else {}
        if subject is not None:
            pictures |= subject.pictures()
            if not self.by_lbfgs and (norm := subject.gradient_norm()) is not None:
                scalars["gradient_norm"] = norm
            if subject.hidden is not None:
                rho_hat, frequency = subject.units()
                scalars |= subject.scalars(rho_hat, frequency)
                histograms |= {"units/distribution": rho_hat, "activations": some(subject.codes())}
        self.file.scalars(scalars, self.step)
        self.file.histograms(histograms, self.step)
        self.file.pictures(pictures, self.step)
        self.file.flush()
        self.looked, self.last_look = time.perf_counter(), self.step
        self.seconds = self.looked - began
