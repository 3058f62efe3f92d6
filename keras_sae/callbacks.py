"""Keras callbacks for `fit`, `fit_lbfgs` and `pretrain`: progress bar, exact sparsity, TensorBoard with pictures."""

import pathlib
import sys
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from . import extras
from .metrics import DEAD, mean_activations
from .visualization import display_network


class ProgressBar(keras.callbacks.Callback):
    """One line with the objective, the sparsity (mean rho_hat) and the time left; an iteration or epoch is a step.

    If the trainers of this library end before the last step, it says why, such as "converged at iteration 52".

    If stderr is a log file, in which a line cannot be redrawn, it prints at most every 15 seconds.
    """

    def __init__(self, title: str | None = None):
        super().__init__()
        self.title = title

    def on_train_begin(self, logs: Any = None) -> None:
        self.shown = ""
        self.bar = tqdm(
            total=self.params["epochs"],
            desc=self.title or self.model.name,
            mininterval=0.1 if sys.stderr.isatty() else 15,
            dynamic_ncols=True,
            bar_format="{desc}:{percentage:4.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]",
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        shown = {"loss": "objective", "val_loss": "held out", "rho_hat": "rho_hat", "accuracy": "accuracy"}
        self.shown = ", ".join(f"{label}={logs[key]:.4g}" for key, label in shown.items() if key in logs)
        self.bar.set_postfix_str(self.shown, refresh=False)
        self.bar.update(1)

    def on_train_end(self, logs: Any = None) -> None:
        stopped = getattr(self.model.history, "result", {}).get("stopped") or ""
        if self.bar.n < self.bar.total and stopped:
            self.bar.set_postfix_str(f"{self.shown}, {stopped.partition(':')[0]} at iteration {self.bar.n}")
        self.bar.close()


class SparsityMonitor(keras.callbacks.Callback):
    """Adds the exact sparsity of an autoencoder's features on x to the logs of every epoch of `fit`.

    "rho_hat": mean over units of the mean activation over all of x.
    "dead_units": how many of these means are below DEAD.
    Put it before the callbacks that show or store the logs. It costs one pass of the encoder over x.
    """

    def __init__(self, x: Any):
        super().__init__()
        self.x = x

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        rates = mean_activations(self.model, self.x)
        logs["rho_hat"] = float(rates.mean())
        logs["dead_units"] = int(np.sum(rates < DEAD))


class TensorBoard(keras.callbacks.Callback):
    """Writes the logs as scalars for TensorBoard, and the features as tiles every `every` epochs and at the end.

    (keras.callbacks.TensorBoard shows dense kernels as nearly black strips.) Needs TensorFlow and TensorBoard.

    Args:
        log_dir: directory of the event files, for `tensorboard --logdir`.
        shape: (height, width) of a feature, (height, width, 3) in colour, or None for no pictures.
        every: epochs (iterations, in `fit_lbfgs`) between pictures.
    """

    def __init__(self, log_dir: str | pathlib.Path, shape: tuple[int, ...] | None = None, every: int = 20):
        super().__init__()
        extras.check("tensorboard", "write logs with")
        self.log_dir, self.shape, self.every = str(log_dir), shape, every

    def on_train_begin(self, logs: Any = None) -> None:
        import tensorflow as tf

        self.writer, self.steps, self.drawn = tf.summary.create_file_writer(self.log_dir), 0, 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        import tensorflow as tf

        self.steps = epoch + 1
        with self.writer.as_default(step=self.steps):
            for name, value in logs.items():
                tf.summary.scalar(name, value)
        if self.steps % self.every == 0:
            self._draw_features()

    def on_train_end(self, logs: Any = None) -> None:
        if self.drawn < self.steps:
            self._draw_features()
        self.writer.close()

    def _draw_features(self) -> None:
        import tensorflow as tf

        self.drawn = self.steps
        if self.shape:
            tiles = display_network(self.model.kernel, self.shape)
            pictures = np.atleast_3d(tiles)[None]  # a batch of one picture, with one channel or three
            with self.writer.as_default():
                tf.summary.image("features", pictures, step=self.steps)
