"""Keras callbacks for `fit`, `fit_lbfgs` and `pretrain`: progress bar, sparsity, dead units, TensorBoard's pictures."""

import pathlib
import sys
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from . import extras
from .constraints import check
from .dead_units import check_resampling, resample
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
        shown |= {"l0": "L0", "dead_units": "dead"}
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


class ResampleDeadUnits(keras.callbacks.Callback):
    """Gives units that a method of sparsity counts as dead another start, where the autoencoder reconstructs badly.

    At the end of every `every` epochs each dead unit gets a row of x, drawn with a probability in proportion to the
    square of its loss 1/2 ||xhat - x||^2, and no row twice. With v the unit vector of the row less what the decoder
    gives if no unit is active (scale x - b2, for linear outputs),

        W1_j = size * mean length of the columns of units that are not dead * v       b1_j = 0       W2_j = v

    What the method itself has for a unit, such as a threshold, is as at the start again. The optimizer's moments of all
    these weights, as those of Adam, are set to 0, and its copies of weights to the new ones. The unit counts as active
    now. How many units there were is "resampled_units" in the logs. It costs a pass over x each time there are dead
    units.

    What is drawn depends on the seed and the epoch alone, so that a training that resumes is the same.

    Args:
        x: rows to start from, (examples, features), of every kind that `transform` takes; some thousands are enough.
        every: epochs from one time to the next. A unit is dead after `window` examples of its method.
        size: length of the new columns of W1, as a share of those of other units. The published 0.2 is for units that
            are active on their own, such as those of L1. With TopK, where they compete, they would stay silent: 1.
        seed: of the draws.

    Raises:
        ValueError: the model is no SparseAutoencoder with a method of sparsity, or an argument is out of range.

    Reference: Bricken et al. 2023, "Towards Monosemanticity", appendix "Neuron Resampling".

    >>> resampling = keras_sae.callbacks.ResampleDeadUnits(x[:10_000], every=5)
    >>> history = keras_sae.fit(ae, x, optimizer="adam", iterations=30, callbacks=[resampling])
    """

    def __init__(self, x: Any, every: int, size: float = 0.2, seed: int = 0):
        super().__init__()
        check("every", every)
        check("size", size)
        check("seed", seed)
        self.x, self.every, self.size, self.seed = x, every, size, seed

    def on_train_begin(self, logs: Any = None) -> None:
        check_resampling(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["resampled_units"] = 0
        if (epoch + 1) % self.every == 0:
            random = np.random.default_rng((self.seed, epoch, 1))  # 1: other numbers than those of the order of rows
            logs["resampled_units"] = resample(self.model, self.x, self.size, random)


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
