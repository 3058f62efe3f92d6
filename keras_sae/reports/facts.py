"""What a trained model does on data, measured in passes over chunks of rows, of which only the shown ones are kept."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from ..autoencoder import Autoencoder, as_single
from ..data.batches import CHUNK_SIZE, Chunks, inputs_of
from ..errors import InputError
from ..regularizers import KLSparsity
from .layers import Layer, activations, layers_of, targets_of
from .units import Best, Units

RECONSTRUCTED = 16  # rows that are shown beside what the model gives back
MISTAKES = 12  # of a classifier
ACTIVATIONS = 2**23  # in memory at a time


@dataclasses.dataclass(eq=False)
class Facts:
    """What a model does on some rows.

    Attributes:
        rows: how many.
        layers: the units of each layer.
        class_names: in the order of their numbers, or None.
        labels: the number of each row's class, (rows,), or None.
        confusion: how many rows of each class (rows) were taken for each class (columns), or None.
        mistakes: (row, number of the class it was taken for, probability of that class), the most certain first.
        error: the mean of half the squared error of a row, or None without a decoder.
        explained: the share of each column's variance that the reconstruction keeps, (features,), or None.
        explained_in_all: the same of all columns together.
        mean, deviation: of each column as the first layer takes it, (features,).
        raw_mean: of each column as it is, (features,).
        kept: number of a row that is shown -> where it stands in `raw` and `inputs`, (shown rows, features).
        raw, inputs: these rows as they are, and as the first layer takes them.
        reconstructed: the numbers of the rows that are shown beside what comes back.
        reconstructions: what comes back of them from each layer with a decoder, by its name, (rows, features).
    """

    rows: int
    layers: list[Units]
    class_names: list[str] | None
    labels: np.ndarray | None
    confusion: np.ndarray | None
    mistakes: list[tuple[int, int, float]]
    error: float | None
    explained: np.ndarray | None
    explained_in_all: float | None
    mean: np.ndarray
    deviation: np.ndarray
    raw_mean: np.ndarray
    kept: dict[int, int]
    raw: np.ndarray
    inputs: np.ndarray
    reconstructed: list[int]
    reconstructions: dict[str, np.ndarray]


class Reader:
    """Reads rows in chunks, with the activations of every layer: at each pass the same."""

    def __init__(self, model: keras.Model, layers: Sequence[Layer], x: Any):
        self.layers, self.targets = layers, targets_of(model)
        widest = max([layer.maximal.shape[1] for layer in layers] or [1])
        size = max(1, min(CHUNK_SIZE, ACTIVATIONS // widest))
        self.chunks = Chunks(x, chunk_size=size, **inputs_of(model))

    def read(self) -> Iterator[tuple[int, Any, Any, list[np.ndarray]]]:
        """Yield (number of the first row, rows, rows as the first layer takes them, activations of each layer)."""
        first = 0
        for chunk in self.chunks.read():
            inputs = self.targets(chunk.x)
            yield first, chunk.x, inputs, list(activations(self.layers, inputs))
            first += len(chunk.x)


def measure(
    model: keras.Model,
    x: Any,
    y: Any = None,
    classifier: keras.Model | None = None,
    class_names: Sequence[str] | None = None,
) -> Facts:
    """Return what a model does on rows x, in three passes over them.

    Args:
        model: an autoencoder, a stack or a classifier.
        x: (examples, features), of every kind that `Autoencoder.transform` takes.
        y: their classes, (examples,), numbers or text, or None; of a classifier the numbers of its classes.
        classifier: what names the classes of x, if it is not the model.
        class_names: of the numbers that y holds; by default what y holds.

    Raises:
        InputError: x and y do not fit together.
    """
    if classifier is None and not isinstance(model, Autoencoder):
        classifier = model
    reader = Reader(model, layers_of(model), x)
    labels, names = _classes(y, classifier, class_names)
    rows, units, sums = _survey(reader, labels, names)
    mean = sums["x"] / rows
    variance = np.maximum(sums["x2"] / rows - mean**2, 0)
    explained = None if sums["error"] is None else 1 - sums["error"] / rows / np.where(variance > 0, variance, np.nan)
    in_all = None if sums["error"] is None else _ratio(sums["error"].sum() / rows, variance.sum())
    confusion, mistakes = _look_closely(reader, units, labels, names, classifier)
    reconstructed = sorted({*np.linspace(0, rows - 1, RECONSTRUCTED).astype(int).tolist()})
    wanted = {row for layer in units for best in (layer.top, layer.middling) for row in best.rows.flat if row >= 0}
    kept, raw, inputs = _keep(reader, sorted({*map(int, wanted), *reconstructed, *(row for row, *_ in mistakes)}))
    shown = inputs[[kept[row] for row in reconstructed]]
    return Facts(
        rows, units, names, labels, confusion, mistakes,
        None if sums["error"] is None else float(sums["error"].sum() / rows / 2), explained, in_all,
        mean, np.sqrt(variance), sums["raw"] / rows, kept, raw, inputs, reconstructed, _reconstruct(reader, shown),
    )  # fmt: skip


def _classes(y: Any, classifier: Any, class_names: Any) -> tuple[np.ndarray | None, list[str] | None]:
    """Return the number of each row's class, and the classes' names; None and None without labels."""
    if y is None:
        return None, None
    y = np.asarray(y)
    if y.ndim != 1:
        raise InputError(f"Expected one label a row, shape (examples,). Received: shape {y.shape}.")
    if classifier is None and class_names is None:
        found, numbers = np.unique(y, return_inverse=True)
        return numbers, [str(name) for name in found]
    number = len(class_names) if class_names is not None else classifier.output_shape[-1]
    if y.dtype.kind not in "biu" or (y.size and not 0 <= y.min() <= y.max() < number):
        raise InputError(f"Expected labels as whole numbers from 0 to {number - 1}. Received: {y.dtype}, {y[:5]} ...")
    return y.astype(int), [str(name) for name in (class_names if class_names is not None else range(number))]


def _survey(reader: Reader, labels: np.ndarray | None, names: Any) -> tuple[int, list[Units], dict]:
    """Return the number of rows, the units of each layer as one pass tells, and sums over rows of their columns."""
    rows, sums, found = 0, {"x": 0.0, "x2": 0.0, "raw": 0.0, "error": None}, []
    for first, x, inputs, codes in reader.read():
        rows = first + len(x)
        if labels is not None and rows > len(labels):
            raise InputError(f"Expected one label a row. Received: {len(labels):,} labels of {rows:,} rows or more.")
        inputs = as_single(inputs).astype("float64")
        sums["x"] += inputs.sum(axis=0)
        sums["x2"] += (inputs**2).sum(axis=0)
        sums["raw"] += as_single(x).astype("float64").sum(axis=0)
        if reader.layers and reader.layers[-1].decode is not None:
            tensor = keras.ops.convert_to_tensor(codes[-1], reader.layers[-1].dtype)
            error = (as_single(reader.layers[-1].decode(tensor)).astype("float64") - inputs) ** 2
            sums["error"] = error.sum(axis=0) + (0 if sums["error"] is None else sums["error"])
        member = None if labels is None else np.eye(len(names))[labels[first:rows]].T
        found.append(
            [_sums_of(h.astype("float64"), layer, member) for h, layer in zip(codes, reader.layers, strict=True)]
        )
    if labels is not None and len(labels) != rows:
        raise InputError(f"Expected one label a row. Received: {len(labels):,} labels of {rows:,} rows.")
    size = None
    if labels is not None:
        size = np.bincount(labels, minlength=len(names)).astype("float64")[:, None]
        size[size == 0] = np.nan  # a class without rows has no mean
    units = []
    for place, layer in enumerate(reader.layers):
        parts = zip(*(chunk[place] for chunk in found), strict=True)
        total, low, high, rho_hat, zeros, of_classes = map(list, parts)
        classes = None if size is None else sum(of_classes) / size
        ends = np.min(low, axis=0), np.max(high, axis=0)
        units.append(Units(layer, sum(total) / rows, *ends, sum(rho_hat) / rows, sum(zeros) / rows, classes))
    return rows, units, sums


def _sums_of(codes: np.ndarray, layer: Layer, member: np.ndarray | None) -> tuple:
    """Return sums over rows of a layer's activations, their ends, and sums for each class."""
    bounded = layer.sparsity if isinstance(layer.sparsity, KLSparsity) else KLSparsity()
    rho_hat = bounded.normalize(codes).sum(axis=0)
    ends = codes.min(axis=0), codes.max(axis=0)
    return codes.sum(axis=0), *ends, rho_hat, (codes == 0).sum(axis=0), None if member is None else member @ codes


def _look_closely(
    reader: Reader, units: Sequence[Units], labels: Any, names: Any, classifier: Any
) -> tuple[np.ndarray | None, list]:
    """Fill in what the units do row by row. Return the confusion matrix and the mistakes of a classifier."""
    judged = classifier is not None and labels is not None
    confusion = np.zeros((len(names), len(names)), int) if judged else None
    certain = Best(1, MISTAKES)
    for first, x, _, codes in reader.read():
        for layer, h in zip(units, codes, strict=True):
            layer.add(h, first)
        if confusion is not None:
            probabilities = as_single(classifier(x, training=False))
            true, guessed = labels[first : first + len(x)], probabilities.argmax(axis=1)
            np.add.at(confusion, (true, guessed), 1)
            certainty = np.where(guessed != true, probabilities.max(axis=1), -np.inf)[:, None]
            certain.add(certainty, guessed[:, None] + 0.0, first)
    scores = certain.scores[:, 0].tolist()
    return confusion, [(row, int(guess), scores[place]) for place, (row, guess) in enumerate(certain.of(0))]


def _keep(reader: Reader, rows: list[int]) -> tuple[dict[int, int], np.ndarray, np.ndarray]:
    """Return {number of a row: where it stands}, and these rows as they are and as the first layer takes them."""
    raw, inputs, wanted = [], [], np.array(rows, int)
    for first, x, prepared, _ in reader.read():
        here = wanted[(wanted >= first) & (wanted < first + len(x))] - first
        raw.append(as_single(x)[here])
        inputs.append(as_single(prepared)[here])
    return {row: place for place, row in enumerate(rows)}, np.concatenate(raw), np.concatenate(inputs)


def _reconstruct(reader: Reader, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return what each layer with a decoder gives back of some rows, by the layer's name."""
    found, h = {}, inputs
    for layer in reader.layers:
        h = layer.encode(keras.ops.convert_to_tensor(h))
        if layer.decode is not None:
            found[layer.name] = as_single(layer.decode(h))
    return found


def _ratio(error: float, variance: float) -> float | None:
    return 1 - error / variance if variance > 0 else None
