"""Minibatches whose rows lie on a cluster: each step sums the gradient where they are, and one optimizer takes it."""

import pathlib
from typing import Any, cast

import keras
from keras import ops

from ..autoencoder import around_training
from ..callbacks import ProgressBar
from ..constraints import check
from ..sparsity import KLSparsity, SparsityMethod
from ..sparsity.method import check_revive
from .full_batch import ObjectiveFunction, held_out_objective
from .minibatches import Backup


@around_training
def fit_synchronous(
    model: keras.Model,
    rows: Any,
    epochs: int = 30,
    batch_size: int = 256,
    seed: int = 0,
    callbacks: list | None = None,
    checkpoint: str | pathlib.Path | None = None,
    validation_data: Any = None,
    verbose: int = 1,
) -> keras.callbacks.History:
    """Train a compiled model on minibatches of the rows of a cluster, to what one machine would train it to.

    A step is one of the optimizer on the gradient of the exact objective of a minibatch: rho_hat is the mean over all
    of its rows, wherever they are. Minibatches are those of `fit_minibatches`, which take 4 bytes a row on each actor.

    Each step takes two rounds through the cluster. So it pays if a minibatch takes long, and with large ones.

    Args:
        model, epochs, batch_size, seed, callbacks, checkpoint, verbose: as of `fit_minibatches`.
        rows: of a cluster, without weights.
        validation_data: as of `fit_lbfgs`.

    Raises:
        ValueError: the model adds noise, or has a moving average, or the examples have weights.
        DivergedError, InputError: as of `fit_minibatches`.
    """
    check("batch_size", batch_size)
    if not model.built:
        model.build((None, rows.num_features()))
    _check_model(model, rows)
    if not model.compiled:
        model.compile()
    objective = ObjectiveFunction(model, rows)
    held_out, backup = held_out_objective(model, validation_data), Backup(model, checkpoint)
    watching = keras.callbacks.CallbackList(
        [*(callbacks or []), keras.callbacks.History(), backup, *([ProgressBar()] if verbose else [])],
        model=model, epochs=epochs, verbose=verbose,
    )  # fmt: skip
    model.stop_training = False
    watching.on_train_begin()
    for epoch in range(epochs if backup.stopped else backup.epoch, epochs):
        watching.on_epoch_begin(epoch)
        logs = _epoch(model, objective, rows.minibatches(seed, epoch, batch_size), watching)
        if held_out is not None:
            logs |= {f"val_{name}": value for name, value in held_out(gradients=False).logs().items()}
        watching.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    watching.on_train_end()
    return model.history


def _check_model(model: keras.Model, rows: Any) -> None:
    """Raise ValueError if a step needs what the gradient of the objective of a minibatch does not have."""
    if rows.mean_weight() is not None:
        raise ValueError(
            "Expected minibatches of a cluster without weights of examples. Received: weights. Use optimizer='lbfgs'."
        )
    for layer in model._flatten_layers():
        if hasattr(layer, "seed_generator") or isinstance(layer, keras.layers.BatchNormalization):
            raise ValueError(
                "Expected a model without noise, dropout or batch normalization, of which actors would have some each. "
                f"Received: {layer.name}, a {type(layer).__name__}. Train it on one machine, or leave it out."
            )
        for method in getattr(layer, "sparsities", []):
            if isinstance(method, KLSparsity) and method.window is not None:
                raise ValueError(
                    "On a cluster rho_hat is the mean over a whole minibatch. Expected KLSparsity(window=None). "
                    f"Received: window={method.window:g}. Leave it out, and take a batch_size of 256 or more."
                )
            if getattr(method, "no_objective", ""):
                raise ValueError(
                    "Expected a penalty that adds up over the rows of a cluster, such as KLSparsity or L1. Received: "
                    f"{type(method).__name__}: {method.no_objective}. Train it on one machine."
                )
            if isinstance(method, SparsityMethod) and method.no_lbfgs:
                raise ValueError(
                    "Expected KLSparsity, L1 or Contractive: actors compute codes as after training, and count no "
                    f"dead units. Received: {type(method).__name__}. Train it on one machine."
                )
    check_revive(model)


def _epoch(
    model: keras.Model, objective: ObjectiveFunction, minibatches: list, watching: keras.callbacks.CallbackList
) -> dict[str, float]:
    """Take a step for each minibatch. Return the means of their logs over the rows."""
    totals, number, rounds = dict[str, float](), 0, cast(Any, objective.rounds)
    for step, batch in enumerate(minibatches):
        watching.on_train_batch_begin(step)
        rounds.batch = batch
        found = objective()
        gradients = [
            ops.convert_to_tensor(g, v.dtype) for g, v in zip(found.gradients, objective.variables, strict=True)
        ]
        model.optimizer.apply(gradients, objective.variables)
        logs, number = found.logs(), number + batch.rows
        totals = {name: totals.get(name, 0.0) + batch.rows * value for name, value in logs.items()}
        watching.on_train_batch_end(step, logs)
    return {name: total / number for name, total in totals.items()}
