"""Keras callbacks for `fit`, `fit_lbfgs` and `pretrain`: progress bar, sparsity, dead units, TensorBoard."""

from typing import Any

import keras
import numpy as np

from .constraints import check
from .dead_units import check_resampling, resample
from .metrics import DEAD, mean_activations
from .monitoring.progress import progress_bar
from .monitoring.tensorboard import TensorBoard as TensorBoard


class ProgressBar(keras.callbacks.Callback):
    """One line with the objective, the sparsity (mean rho_hat) and the time left; an iteration or epoch is a step.

    If the trainers of this library end before the last step, it says why, such as "converged at iteration 52".

    If stderr is a log file, in which a line cannot be redrawn, it prints a line every 15 seconds, and one at the end.
    """

    def __init__(self, title: str | None = None):
        super().__init__()
        self.title = title

    def on_train_begin(self, logs: Any = None) -> None:
        self.shown = ""
        self.bar: Any = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.bar is None:
            self.bar = progress_bar(self.title or self.model.name, self.params["epochs"], epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        shown = {"loss": "objective", "val_loss": "held out", "rho_hat": "rho_hat", "accuracy": "accuracy"}
        shown |= {"l0": "L0", "dead_units": "dead"}
        self.shown = ", ".join(f"{label}={logs[key]:.4g}" for key, label in shown.items() if key in logs)
        self.bar.set_postfix_str(self.shown, refresh=False)
        self.bar.update(1)

    def on_train_end(self, logs: Any = None) -> None:
        done = len(self.model.history.epoch)
        self.on_epoch_begin(done)  # of a training that was finished before
        stopped = getattr(self.model.history, "result", {}).get("stopped") or ""
        if done < self.bar.total and stopped:
            self.bar.set_postfix_str(f"{self.shown}, {stopped.partition(':')[0]} at iteration {done}", False)
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

    What the method itself has for a unit is as at the start again; a threshold that began with the data is the mean of
    all. The optimizer's moments of all these weights, as those of Adam, are set to 0, and its copies of weights to the
    new ones. The unit counts as active now. How many units there were is "resampled_units" in the logs. It costs a pass
    over x each time there are dead units. New weights need training, or they spoil the result: set `until` to about
    half of all epochs, as published.

    What is drawn depends on the seed and the epoch alone, so that a training that resumes is the same.

    Args:
        x: rows to start from, (examples, features), of every kind that `transform` takes; some thousands are enough.
        every: epochs from one time to the next. A unit is dead after `window` examples of its method.
        until: the epoch after which no unit gets another start; None for no such epoch.
        size: length of the new columns of W1, as a share of those of other units. The published 0.2 is for units that
            are active on their own, such as those of L1. With TopK, where they compete, they would stay silent: 1.
        seed: of the draws.

    Raises:
        ValueError: the model is no SparseAutoencoder with a method of sparsity, or an argument is out of range.

    Reference: Bricken et al. 2023, "Towards Monosemanticity", appendix "Neuron Resampling".

    >>> resampling = keras_sae.callbacks.ResampleDeadUnits(x[:10_000], every=5, until=15)
    >>> history = keras_sae.fit(ae, x, optimizer="adam", iterations=30, callbacks=[resampling])
    """

    def __init__(self, x: Any, every: int, size: float = 0.2, seed: int = 0, until: int | None = None):
        super().__init__()
        check("every", every)
        if until is not None and until < every:
            raise ValueError(f"Expected `until` of at least `every` = {every} epochs. Received: {until}.")
        check("size", size)
        check("seed", seed)
        self.x, self.every, self.size, self.seed, self.until = x, every, size, seed, until

    def on_train_begin(self, logs: Any = None) -> None:
        check_resampling(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["resampled_units"] = 0
        if (epoch + 1) % self.every == 0 and (self.until is None or epoch < self.until):
            random = np.random.default_rng((self.seed, epoch, 1))  # 1: other numbers than those of the order of rows
            logs["resampled_units"] = resample(self.model, self.x, self.size, random)
