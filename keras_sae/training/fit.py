"""Training by one function: full-batch L-BFGS, or any Keras optimizer on minibatches."""

import contextlib
import pathlib
import tempfile
from typing import Any

import keras
import numpy as np

from ..callbacks import TensorBoard
from ..data.batches import TransformedDataset, predict_in_chunks, predict_to_file
from ..data.containers import RowSubset, as_array, in_memory, is_array, is_distributed
from .lbfgs import fit_lbfgs
from .minibatches import fit_minibatches
from .synchronous import fit_synchronous

ITERATIONS = 400  # by default with L-BFGS, as in UFLDL's exercises
EPOCHS = 30  # by default with other optimizers


def fit(
    model: keras.Model,
    x: Any,
    y: Any = None,
    optimizer: Any = "lbfgs",
    iterations: int | None = None,
    *,
    batch_size: int = 256,
    checkpoint: str | pathlib.Path | None = None,
    callbacks: list | None = None,
    validation_data: Any = None,
    validation_split: float = 0.0,
    sample_weight: Any = None,
    class_weight: dict[int, float] | None = None,
    verbose: int = 1,
    cluster: Any = None,
    **options: Any,
) -> keras.callbacks.History:
    """Train an autoencoder, a stack, a classifier or any Keras model with a loss, in place.

    Several devices of one machine share the rows, of each chunk or of each minibatch, if the model is made under a
    `keras.distribution.DataParallel` (JAX): the result is that of one device to rounding, rho_hat being over the rows
    of all. A chunk_size that is no multiple of their number leaves all of the work to each.

    Args:
        model: an autoencoder of this library, or a compiled keras.Model; layers with `trainable = False` stay as they
            are.
        x: (examples, features): an array, in memory or memory-mapped, a table, a SciPy sparse matrix, or a data set of
            batches x, (x, y) or (x, y, weights).
        y: targets, an array. Autoencoders take x.
        optimizer: "lbfgs" minimises the exact objective over all of x (`fit_lbfgs`). A Keras optimizer or its name,
            such as "adam", trains on minibatches (`fit_minibatches`); None keeps the one that the model is compiled
            with.
        iterations: steps of L-BFGS at most (default 400), or epochs (default 30).
        batch_size: rows of a minibatch; L-BFGS always takes all rows.
        checkpoint: a file, .npz. If it exists, training resumes from it, to the same weights, bit for bit on one CPU
            (minibatches of a data set: at the end of an epoch, if each epoch of the set is the same). It is written
            every 20 seconds (minibatches: at the end of an epoch, if the last one is 20 seconds old), by L-BFGS at
            Ctrl-C too, and at the end.
        callbacks: Keras callbacks; an iteration of L-BFGS counts as an epoch.
        validation_data: held-out x, (x, y) or (x, y, weights), which is only measured: "val_loss" and its terms in the
            History after every epoch.
        validation_split: the share of the rows of arrays that are held out instead, the last ones as they come.
        sample_weight: weights of examples, (examples,), for arrays; see `objective`.
        class_weight: weights of classes, class number -> weight (1 where there is none), with labels y.
        verbose: 1 shows a progress bar; 0 is silent.
        cluster: a `Cluster`, on which x is, or is sent to: arrays, or paths of files as of `Cluster.rows`, whose result
            x may be as well. L-BFGS finds what it does on one machine, to rounding; see `fit_synchronous` for others.
        **options: arguments of `fit_lbfgs` (tolerance, chunk_size, precision) or `fit_minibatches` (seed, and those of
            Keras' `fit`).

    Returns:
        A keras History; `history.result` holds "seconds" and "stopped" (why, in words), of L-BFGS also "evaluations".

    Raises:
        ValueError: the data do not fit the model, or the model has no loss.
        DivergedError: the objective or the weights are NaN or infinite.
        InputError: the checkpoint is broken, or of another model or other data.
    """
    if validation_split:
        if validation_data is not None:
            raise ValueError("Expected validation_data or validation_split. Received: both. Leave one out.")
        (x, y, sample_weight), validation_data = _split(x, y, sample_weight, validation_split)
    if class_weight is not None:
        sample_weight = _class_weights(class_weight, y, sample_weight)
    if cluster is not None:
        x, y, sample_weight = cluster.rows(x, y, sample_weight), None, None
    shared = {
        "checkpoint": checkpoint, "callbacks": callbacks, "validation_data": validation_data,
        "sample_weight": sample_weight, "verbose": verbose,
    }  # fmt: skip
    if isinstance(optimizer, str) and optimizer == "lbfgs":
        return fit_lbfgs(model, x, y, ITERATIONS if iterations is None else iterations, **shared, **options)
    if optimizer is not None:
        _set_optimizer(model, optimizer)
    epochs = EPOCHS if iterations is None else iterations
    if is_distributed(x):
        del shared["sample_weight"]  # which the rows have themselves
        return fit_synchronous(model, x, epochs, batch_size, **shared, **options)
    return fit_minibatches(model, x, y, epochs, batch_size, **shared, **options)


def _split(x: Any, y: Any, weights: Any, share: float) -> tuple[tuple, tuple]:
    """Return (x, y, weights) of the first rows, and of this share of rows, the last ones."""
    if not is_array(x):
        raise ValueError(
            f"Expected x as an array, of which the last rows are held out. Received: {type(x).__name__} with "
            "validation_split. Give it two data sets, x and validation_data."
        )
    x, y, weights = arrays = [None if array is None else as_array(array) for array in (x, y, weights)]
    number = x.shape[0]
    first = number - round(share * number)
    if not 0 < first < number:
        raise ValueError(
            f"Expected a validation_split that leaves a row or more on either side. Received: {share} of {number} rows."
        )
    return tuple(_rows(array, 0, first) for array in arrays), tuple(_rows(array, first, number) for array in arrays)


def _rows(array: Any, start: int, stop: int) -> Any:
    """Return these rows of an array, without reading them if it is not in memory; None of None."""
    if array is None or isinstance(array, np.ndarray):
        return None if array is None else array[start:stop]
    return RowSubset(array, np.arange(start, stop))


def _class_weights(class_weight: dict[int, float], y: Any, sample_weight: Any) -> np.ndarray:
    """Return the weights of examples that weights of their classes mean, times those that they have themselves."""
    if y is None:
        raise ValueError("`class_weight` needs labels y, an array. Received: none. Use `sample_weight`.")
    weights = np.array([class_weight.get(int(label), 1.0) for label in as_array(y).reshape(-1)])
    return weights if sample_weight is None else weights * as_array(sample_weight)


def _set_optimizer(model: keras.Model, optimizer: Any) -> None:
    """Compile the model with a new optimizer, and with the loss, the metrics and the other settings that it had."""
    if not model.compiled and hasattr(model, "trained_on"):  # a model of this library, whose loss is known
        model.compile(optimizer=optimizer)
        return
    _check_compiled(model)
    config = model.get_compile_config() or {}
    kept = {name: value for name, value in config.items() if name not in ("optimizer", "optimizer_built", "loss")}
    model.compile(optimizer=optimizer, loss=model.loss, **keras.saving.deserialize_keras_object(kept))


def _check_compiled(model: keras.Model) -> None:
    if not model.compiled:
        raise ValueError(f"Training needs the model's loss: call {model.name}.compile(loss=...) first.")


def fit_head(
    classifier: keras.Model,
    x: Any,
    y: Any = None,
    *args: Any,
    directory: str | pathlib.Path | None = None,
    cluster: Any = None,
    **options: Any,
) -> keras.callbacks.History:
    """Train the softmax head of a classifier alone, on features that its encoder computes once.

        J = mean cross-entropy + lambda/2 ||theta||^2          theta: the kernel of the head

    The result is that of training with `classifier.get_layer("encoder").trainable = False`, but the features are not
    computed again at every step.

    Args:
        classifier: a model that `StackedAutoencoder.classifier` made, with layers "encoder" and "head".
        x, y: inputs and integer labels, as for `fit`; or x is a data set of (inputs, labels).
        *args, **options: arguments of `fit`.
        directory: where the features are written to a file if the data are not in memory, by default a temporary
            directory; the file that an interrupted call left there is used again.
        cluster: as of `fit`.

    Reference: UFLDL, "Softmax Regression" and "Self-Taught Learning".
    """
    if cluster is not None:
        x, y = cluster.rows(x, y, options.pop("sample_weight", None)), None
    x = as_array(x) if is_array(x) else x
    encoder, head = classifier.get_layer("encoder"), classifier.get_layer("head")
    model = keras.Sequential([keras.Input(encoder.output_shape[1:]), head], name="head")
    _check_compiled(classifier)
    own = classifier.optimizer  # as it was before a training, since it may have trained other weights
    optimizer = "adam" if own is None else type(own).from_config(own.get_config())
    model.compile(optimizer, loss=classifier.loss, metrics=["accuracy"])
    for callback in options.get("callbacks") or []:
        if isinstance(callback, TensorBoard):  # which has the inputs of all of it
            callback.look_at(classifier)
    if options.get("validation_data") is not None:
        options["validation_data"] = _encoded(encoder, options["validation_data"])
    if is_distributed(x):
        return fit(model, x.encoded(encoder), y, *args, **options)
    if not is_array(x):
        return fit(model, TransformedDataset(x, encoder), y, *args, **options)
    if in_memory(x):
        return fit(model, predict_in_chunks(encoder, x), y, *args, **options)
    with contextlib.nullcontext(directory) if directory else tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "head_features.npy"
        history = fit(model, predict_to_file(encoder, x, path), y, *args, **options)
        path.unlink()
    return history


def _encoded(encoder: keras.Model, held_out: Any) -> tuple:
    """Return (features, labels, weights) of held-out data, (x, y), (x, y, weights) or a data set of them, as arrays."""
    x, *others = keras.utils.unpack_x_y_sample_weight(held_out)
    if is_array(x):
        return predict_in_chunks(encoder, x), *others
    columns = zip(*TransformedDataset(x, encoder), strict=True)
    return tuple(
        None if parts[0] is None else np.concatenate(list(map(keras.ops.convert_to_numpy, parts))) for parts in columns
    )
