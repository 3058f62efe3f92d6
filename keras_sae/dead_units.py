"""Units that are never active get a new start, at inputs that the autoencoder reconstructs badly."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from .autoencoder import as_single
from .data.batches import Chunks, inputs_of
from .sparse_autoencoder import SparseAutoencoder
from .sparsity import SparsityMethod


def check_resampling(model: Any) -> None:
    """Raise ValueError unless a model counts for its units how long they have been silent."""
    if not isinstance(model, SparseAutoencoder) or not isinstance(model.sparsity, SparsityMethod):
        sparsity = getattr(model, "sparsity", None)
        raise ValueError(
            "Only a method of sparsity knows which units are dead. Expected a SparseAutoencoder with a method of "
            f"keras_sae.sparsity, such as TopK. Received: {type(model).__name__} with sparsity={sparsity!r}. Of a "
            "stack, resample each autoencoder: loop over `stages`."
        )


def resample(autoencoder: SparseAutoencoder, x: Any, size: float, random: np.random.Generator) -> int:
    """Give the dead units of an autoencoder new weights, in place, and return how many got them.

    What they get is told by `keras_sae.callbacks.ResampleDeadUnits`, which calls it.
    """
    is_dead = ops.convert_to_numpy(autoencoder.sparsity.dead()) > 0
    if not is_dead.any():
        return 0
    directions = _directions(autoencoder, x, is_dead.sum(), random)
    dead = np.flatnonzero(is_dead)[: len(directions)]
    hidden, output = autoencoder.encoder.get_layer("hidden"), autoencoder.output_layer
    lengths = np.linalg.norm(as_single(ops.convert_to_tensor(hidden.kernel)).astype("float64"), axis=0)
    length = size * lengths[is_dead.all() | ~is_dead].mean()
    _replace(autoencoder, hidden.kernel, (slice(None), dead), length * directions.T)
    if hidden.use_bias:
        _replace(autoencoder, hidden.bias, dead, 0.0)
    if not autoencoder.tied:
        _replace(autoencoder, output.own_kernel, dead, directions)
    autoencoder.sparsity.revive(np.isin(np.arange(autoencoder.units), dead))
    for variable in autoencoder.sparsity.trainable_variables:
        _forget(autoencoder.optimizer, variable, (..., dead))
    return len(dead)


def _directions(autoencoder: SparseAutoencoder, x: Any, number: int, random: np.random.Generator) -> np.ndarray:
    """Return unit vectors of so many rows of x, or of all rows with a loss, (number, features) float64.

    Rows are drawn without replacement: two units that start alike would stay alike. One pass does it. Each row gets
    the key log(u) / w, with u uniform and w its chance, and the largest keys win (Efraimidis & Spirakis 2006).
    """
    best, keys = np.zeros((0, autoencoder.output_layer.features)), np.zeros(0)
    for differences, chances in _rows_and_chances(autoencoder, x):
        drawn = np.log(1 - random.random(len(chances)))  # of numbers above 0
        rows = np.flatnonzero(chances)
        best = np.concatenate([best, differences[rows]])
        keys = np.concatenate([keys, drawn[rows] / chances[rows]])
        largest = np.argsort(-keys, kind="stable")[:number]
        best, keys = best[largest], keys[largest]
    return best / np.linalg.norm(best, axis=1, keepdims=True)


def _rows_and_chances(autoencoder: SparseAutoencoder, x: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield some rows at a time: the scaled inputs less what no active unit at all gives, and squared losses."""
    output = autoencoder.output_layer
    at_rest = as_single(output.reconstruction(ops.zeros((1, autoencoder.units), output.variable_dtype)))
    for chunk in Chunks(x, **inputs_of(autoencoder)).read():
        inputs, xhat = (as_single(tensor).astype("float64") for tensor in (chunk.x, autoencoder(chunk.x)))
        differences = float(output.scale) * inputs - at_rest
        chances = (0.5 * np.square(xhat - inputs).sum(axis=1)) ** 2
        yield differences, chances * differences.any(axis=1)


def _replace(model: keras.Model, variable: keras.Variable, places: Any, values: Any) -> None:
    """Give these places of a trainable weight new values, and let the optimizer forget the former ones."""
    changed = np.array(as_single(ops.convert_to_tensor(variable)))
    changed[places] = values
    variable.assign(changed)
    _forget(model.optimizer, variable, places)


def _forget(optimizer: keras.optimizers.Optimizer, variable: keras.Variable, places: Any) -> None:
    """Set what the optimizer remembers of these places of a weight to 0, and copies of the weight to what it is now.

    Copies are the averages of use_ema=True, and what ScheduleFreeAdamW calls its momentum. Keras names what an
    optimizer has for a weight after its path; the shape alone would not tell, if there are as many units as features.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # of the one that scales the loss of half precision
    name = variable.path.replace("/", "_")
    copies = {f"{name}_average"}
    if isinstance(inner, keras.optimizers.ScheduleFreeAdamW):
        copies.add(f"{name}_momentum")
    new = as_single(ops.convert_to_tensor(variable))[places]
    for slot in optimizer.variables:
        if slot.name.startswith(f"{name}_") and slot.shape == variable.shape:
            kept = np.array(as_single(ops.convert_to_tensor(slot)))
            kept[places] = new if slot.name in copies else 0.0
            slot.assign(kept)
