"""Minibatch training by Keras' `fit`, on arrays of any size, that resumes after a kill."""

import functools
import math
import os
import pathlib
import time
from typing import Any

import keras
import numpy as np

from ..autoencoder import Autoencoder, around_training
from ..backend import check_loss_dtypes, check_shares
from ..callbacks import ProgressBar
from ..data.batches import Chunks, TransformedDataset, inputs_of
from ..data.containers import in_memory, is_array
from ..data_loss import DataLoss, computes_own_loss
from ..errors import DivergedError, InputError
from ..losses import warn_of_range
from . import checkpoints
from .blocks import in_one_loop
from .order import Minibatches


@around_training
def fit_minibatches(
    model: keras.Model,
    x: Any,
    y: Any = None,
    epochs: int = 30,
    batch_size: int = 256,
    seed: int = 0,
    callbacks: list | None = None,
    checkpoint: str | pathlib.Path | None = None,
    verbose: int = 1,
    sample_weight: Any = None,
    **options: Any,
) -> keras.callbacks.History:
    """Train a compiled model by Keras' `fit`, in an order of examples that depends on the seed and the epoch alone.

    Like `fit_lbfgs` it can be interrupted and resumed, and its memory does not grow with x if x is memory-mapped.

    Arrays train in a loop over Keras' own train step that XLA compiles as a whole, 32 minibatches a call, if there are
    500 steps or more. Rows that are not in memory, or of more than 2 GB, are read by a thread, up to 64 MB while the
    loop computes those before. Keras' batch hooks of callbacks are called once for each block of minibatches, unless a
    callback of your own has one.

    Args:
        model: a compiled keras.Model, or an autoencoder of this library (Adam if it is not compiled).
        x: (examples, features), an array in memory or memory-mapped, a table or a SciPy sparse matrix; or a data set of
            batches, whose order and batch size are its own.
        y: targets, (examples, ...); autoencoders take x.
        epochs: passes over x.
        batch_size: rows in a batch; the last of an epoch may have fewer.
        seed: the seed of the order.
        callbacks: Keras callbacks.
        checkpoint: a file, .npz. If it exists, training resumes from it, with an array to the same weights, bit for bit
            on one CPU, as without the interruption. It is written at the end of an epoch, if the last one is
            20 seconds old, and at the end of training; another call then finds the training finished.
        verbose: 1 shows a progress bar; 0 is silent.
        sample_weight: weights of examples, (examples,), for arrays; an autoencoder takes the means of each batch as
            weighted means.
        **options: arguments of Keras' `fit`, such as validation_data, of every kind that x may be: arrays are measured
            in batches of batch_size.

    Returns:
        A keras History; `history.result` holds "seconds", of all calls with this checkpoint together, and "stopped"
        (why, in words).

    Raises:
        DivergedError: the loss or the weights are NaN or infinite; a checkpoint holds the last good epoch.
        InputError: the checkpoint is broken, or of another model.
    """
    if isinstance(x, TransformedDataset):
        raise ValueError(
            "Minibatches of a data set are trained on as they are. Expected an array, or a data set that gives scaled "
            "batches. Received: a data set with the preprocessing in the model. Map it over the data set, or use "
            'optimizer="lbfgs".'
        )
    if not model.built:
        model.build((None, Chunks(x).num_features()))
    if not model.compiled:
        model.compile()
    if not isinstance(model, Autoencoder):
        check_loss_dtypes(model)
    backup = Backup(model, checkpoint)
    watching = [*(callbacks or []), keras.callbacks.History(), backup, *([ProgressBar()] if verbose else [])]
    if is_array(x):
        chunks = Chunks(x, y, **inputs_of(model), weights=sample_weight)  # checks the arrays
        if not computes_own_loss(model):
            DataLoss(model).check_targets(chunks.y, model)
        check_shares(len(chunks.x), batch_size)
        targets = model.targets if isinstance(model, Autoencoder) else None
        if targets is not None:
            some = np.asarray(chunks.x[:batch_size], chunks.dtype)
            warn_of_range(model, targets(some) if chunks.y is None else chunks.y[:batch_size])
        x = Minibatches(chunks.x, chunks.y, batch_size, seed, chunks.dtype, chunks.weights, targets)
        watching.insert(0, keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: x.begin(epoch)))
    elif y is not None or sample_weight is not None:
        raise ValueError("Give `y` with arrays only; a data set yields (x, y) or (x, y, weights) itself.")
    held_out, held_out_y, held_out_weights = keras.utils.unpack_x_y_sample_weight(options.get("validation_data"))
    if is_array(held_out):
        chunks = Chunks(held_out, held_out_y, **inputs_of(model), weights=held_out_weights)
        targets = model.targets if isinstance(model, Autoencoder) else None
        size = options.pop("validation_batch_size", None) or batch_size
        check_shares(len(chunks.x), size)
        whole = in_memory(chunks.x)  # Keras' own way to its batches is quicker, and its memory harms no loop
        rows = len(chunks.x) if whole else size
        held = Minibatches(chunks.x, chunks.y, rows, seed, chunks.dtype, chunks.weights, targets)
        options |= {"validation_data": held[0], "validation_batch_size": size} if whole else {"validation_data": held}
    # The backup comes after the History, which it restores at the beginning and saves at the end.
    initial_epoch = epochs if backup.stopped else backup.epoch
    options = {"shuffle": False, **options}  # Minibatches shuffles, and a data set has an order of its own
    whole = options.get("steps_per_epoch") is None
    with in_one_loop(model, x, epochs, callbacks or [], whole) as data:
        options |= {"initial_epoch": initial_epoch, "callbacks": watching, "verbose": 0}
        run = (
            model.fit if data["x"] is x else functools.partial(keras.Model.fit, model)
        )  # numbers of blocks are no rows
        return run(**data, epochs=epochs, **options)


class Backup(keras.callbacks.Callback):
    """Writes all that `fit` needs to resume: weights, the optimizer's state, random states, the History."""

    def __init__(self, model: keras.Model, path: str | pathlib.Path | None):
        super().__init__()
        self.path, self.epoch, self.seconds = path, 0, 0.0
        self.history: dict[str, list[float]] = {}
        self.stopped = False  # whether a callback, such as EarlyStopping, has ended the training
        model.optimizer.build(model.trainable_variables)
        metrics = {id(variable) for variable in model.metrics_variables}  # they start anew in every epoch
        self.variables = [v for v in [*model.variables, *model.optimizer.variables] if id(v) not in metrics]
        found = checkpoints.read(path) if path else None
        if found:
            self._restore(*found)

    def on_train_begin(self, logs: Any = None) -> None:
        self.began = self.saved = time.monotonic()
        self.model.history.history.update(self.history)
        self.model.history.epoch = list(range(self.epoch))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch  # counted from 0, so that it is the number of completed epochs
        if self.path and epoch and time.monotonic() - self.saved > checkpoints.SECONDS:
            self._save()
            self.saved = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not math.isfinite(logs["loss"]):
            raise self._diverged(
                f"The loss of {self.model.name} is {float(logs['loss'])} at batch {batch + 1}", self.epoch + 1
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch + 1

    def on_train_end(self, logs: Any = None) -> None:
        self.stopped = self.stopped or self.model.stop_training
        stopped = "a callback set stop_training" if self.stopped else "the limit of epochs"
        self.model.history.result = {"seconds": self._seconds(), "stopped": stopped}
        self._save()

    def _seconds(self) -> float:
        return self.seconds + time.monotonic() - self.began

    def _save(self) -> None:
        arrays = [keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(v)) for v in self.variables]
        if not all(np.isfinite(a.astype("float32")).all() for a in arrays):
            raise self._diverged(f"Weights of {self.model.name} are not finite at the end", self.epoch)
        if not self.path:
            return
        record = {"epoch": self.epoch, "history": self.model.history.history, "stopped": self.stopped}
        checkpoints.write(self.path, {"variables": arrays}, **record, seconds=self._seconds())

    def _diverged(self, where: str, epoch: int) -> DivergedError:
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        kept = f"The last good weights are in {self.path}. " if self.path and os.path.exists(self.path) else ""
        return DivergedError(
            f"{where} of epoch {epoch}. Expected finite numbers. {kept}Lower the learning rate (now {rate:g}) "
            "or beta, and look for very large values in the data."
        )

    def _restore(self, arrays: dict[str, list[np.ndarray]], record: dict[str, Any]) -> None:
        values = arrays.get("variables", [])
        found, expected = [tuple(a.shape) for a in values], [tuple(v.shape) for v in self.variables]
        if found != expected:
            raise InputError(
                f"Expected a checkpoint of a model and optimizer with weights of shapes {expected}. Received: "
                f"{self.path} with {found}. Remove it to train from the start."
            )
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)
        self.epoch, self.history, self.seconds = record["epoch"], record["history"], record["seconds"]
        self.stopped = record["stopped"]
