"""What a model has learned at one moment, for pages that follow its training: numbers, distributions, pictures."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..autoencoder import Autoencoder, as_single
from ..backend import at, gradients_of, single
from ..conventions import first_rows
from ..data.batches import Chunks, inputs_of, mean_over_rows, predict_in_chunks
from ..data.containers import as_array, spread
from ..data_loss import SPARSE
from ..metrics import DEAD
from ..sparsity import KLSparsity
from ..tiles import ends_of, exposed
from ..visualization import as_float64, confusion_picture, display_network, tile_image

ROWS, NUMBERS = 1000, 800_000  # of the sample at most: rows, and their features or codes together
VALUES = 20_000  # of a distribution
TILES = 400  # units
SHOWN = 16  # reconstructions
CLASSES = 100  # of a confusion matrix at most


class Subject:
    """A model with rows to look at it with, all of them or an evenly spread sample of a thousand at most.

    Args:
        model: an autoencoder, or another Keras model: its codes are what its last layer takes.
        variables: those that are trained.
        x: rows, of every kind that `Autoencoder.transform` takes.
        y: class labels of x, (examples,), numbers or text; None if there are none, or if x is a data set of (x, y).
        shape: (height, width) of rows that are pictures, or (height, width, 3), or None.
        class_names: of labels that are numbers, or None.
    """

    def __init__(
        self,
        model: keras.Model,
        variables: Sequence[keras.Variable],
        x: Any,
        y: Any = None,
        shape: Any = None,
        class_names: Sequence[str] | None = None,
    ):
        self.model, self.variables, self.shape, self.class_names = model, variables, shape, class_names
        self.hidden: Any = hidden_part(model)
        self.chunks = Chunks(x, **inputs_of(model))
        some_rows = self.chunks.x if self.chunks.is_array else next(self.chunks.read()).x
        features = math.prod(some_rows.shape[1:])
        if shape and math.prod(shape) != features:
            raise ValueError(
                f"Expected rows of {math.prod(shape):,} features, as pictures of shape={tuple(shape)} have. Received: "
                f"{features:,}."
            )
        number = max(1, min(ROWS, NUMBERS // max(features, self.hidden.output_shape[-1] if self.hidden else 1)))
        self.rows = self._sample(number)
        self.labels: Any = self._labels(y, number)
        outputs = getattr(model, "output_shape", None) or ()
        self.returns_rows = isinstance(model, Autoencoder) or outputs[1:] == self.rows.shape[1:]
        self.judged = self.labels is not None and self.labels.dtype.kind in "biu" and _takes_classes(model)

    def _sample(self, number: int) -> np.ndarray:
        """Return rows as the model takes them: of a data set the first ones, or it would be read as a whole."""
        rows = spread(self.chunks.x, number) if self.chunks.is_array else first_rows(self.chunks.read(), number)
        return np.asarray(rows, self.chunks.dtype)

    def _labels(self, y: Any, number: int) -> np.ndarray | None:
        """Return the labels of the sample, or None; of a data set those in it, unless they are something else."""
        if not self.chunks.is_array:
            first = next(self.chunks.read()).y
            if first is None or len(first.shape) > 1:
                return None
            return first_rows(((chunk.y,) for chunk in self.chunks.read()), number)
        if y is None:
            return None
        labels = as_array(y)
        if labels.shape not in ((len(self.chunks.x),), (len(self.chunks.x), 1)):
            raise ValueError(
                f"Expected one label for each of the {len(self.chunks.x):,} rows. Received shape: {labels.shape}. If "
                "they are one-hot: labels.argmax(axis=-1)."
            )
        return spread(labels.reshape(-1), number)

    def names(self) -> list[str] | None:
        """Return the class of each row of the sample, or None; numbers below 0 are unknown labels."""
        if self.labels is None or self.class_names is None:
            return None if self.labels is None else [str(label) for label in self.labels]
        return [self.class_names[label] if label >= 0 else "" for label in self.labels]

    def codes(self) -> np.ndarray:
        """Return the codes of the sample, (rows, ..., units)."""
        return predict_in_chunks(self.hidden, self.rows)

    def points(self) -> np.ndarray:
        """Return the codes of the sample as (rows, units): the mean over places, of codes that have some."""
        codes = self.codes()
        return codes.mean(axis=tuple(range(1, codes.ndim - 1)))

    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """Return of each unit its rho_hat and the share of rows for which it is not 0, over all rows, exactly."""
        scale, plain = scale_of(self.hidden) or KLSparsity(), KLSparsity()

        def sums(rows: Any, *_: Any) -> list:
            codes = self.hidden(rows, training=False)
            return [scale.sum_over_rows(codes), plain.sum_over_rows(ops.cast(codes != 0, "float32"))]

        rho_hat, frequency = mean_over_rows(self.chunks.read(), sums)
        return rho_hat, frequency

    def scalars(self, rho_hat: np.ndarray, frequency: np.ndarray) -> dict[str, float]:
        """Return numbers of the units by their tags, of what `units` returned."""
        if scale_of(self.hidden):
            dead, saturated, more = rho_hat < DEAD, rho_hat > 1 - DEAD, {}
        else:
            dead, saturated, more = frequency == 0, frequency == 1, {"units/l0": float(frequency.sum())}
        counts = {"units/dead": int(dead.sum()), "units/saturated": int(saturated.sum())}
        return {"units/rho_hat": float(rho_hat.mean()), **counts, **more}

    def gradient_norm(self) -> float | None:
        """Return the length of the gradient of the loss on the sample, as one minibatch; None if it has no targets."""
        rows, targets = self.rows, self._targets()
        if self.judged:
            rows, targets = rows[self.labels >= 0], self.labels[self.labels >= 0]
        if not len(rows) or (targets is None and not isinstance(self.model, Autoencoder)):
            return None
        values = [ops.convert_to_tensor(as_single(ops.convert_to_tensor(v)), single(v.dtype)) for v in self.variables]
        x, y = (None if a is None else ops.convert_to_tensor(a) for a in (rows, targets))

        def loss(values: list) -> tuple[Any, Any]:
            with at(self.variables, values):  # what else a step changes, such as moving averages, is undone
                outputs = self.model(x, training=True)
                value = self.model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=None, training=True)
            return value, value

        _, gradients = gradients_of(loss)(values)
        return math.sqrt(sum(float(np.square(as_float64(gradient)).sum()) for gradient in gradients))

    def _targets(self) -> np.ndarray | None:
        """Return what the model is to give for the sample: labels of a classifier, or the rows themselves, or None."""
        if self.judged:
            return self.labels
        return self.rows if self.returns_rows and not isinstance(self.model, Autoencoder) else None

    def pictures(self) -> dict[str, np.ndarray]:
        """Return uint8 images by their tags."""
        found = {"reconstructions": self._reconstructions()} if self.shape and self.returns_rows else {}
        if self.judged and self.model.output_shape[-1] <= CLASSES:
            found["confusion"] = self._confusion()
        return found

    def _reconstructions(self) -> np.ndarray:
        """Return some rows, one beside the other, above what the model gives back for them."""
        rows = spread(self.rows, SHOWN)
        targets = self.model.targets(rows) if isinstance(self.model, Autoencoder) else rows
        pairs = np.concatenate([as_float64(targets), as_float64(self.model(rows, training=False))])
        tiles = exposed(pairs, self.shape, ends_of(pairs[: len(rows)]))
        return tile_image(tiles, len(rows))

    def _confusion(self) -> np.ndarray:
        """Return the picture of how many rows of the sample of each class were taken for each class."""
        outputs, known = predict_in_chunks(self.model, self.rows), self.labels >= 0
        counts = np.zeros((outputs.shape[-1],) * 2, int)
        np.add.at(counts, (self.labels[known], outputs.argmax(axis=-1)[known]), 1)
        return confusion_picture(counts, self.class_names or list(map(str, range(len(counts)))))

    def thumbnails(self) -> np.ndarray | None:
        """Return the rows of the sample as pictures of values 0 to 255, or None if they are none."""
        return exposed(self.rows, self.shape, ends_of(self.rows)) if self.shape else None


def features(variables: Sequence[keras.Variable], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return what the first units look for, as tiles, by the tag: {} if no weights are those of pictures."""
    for variable in variables:
        if len(variable.shape) == 2 and variable.shape[0] == math.prod(shape):
            return {"features": display_network(ops.convert_to_tensor(variable)[:, :TILES], shape)}
    return {}


def weights(variables: Sequence[keras.Variable]) -> dict[str, np.ndarray]:
    """Return some evenly spread values of each weight, by their tags."""
    return {f"weights/{v.path}": some(as_single(ops.convert_to_tensor(v))) for v in variables}


def some(values: np.ndarray) -> np.ndarray:
    """Return at most VALUES of them, evenly spread."""
    return spread(values.reshape(-1), VALUES)


def hidden_part(model: keras.Model) -> keras.Model | None:
    """Return the part of a model that gives its codes, or None if there is none, or none that is known."""
    if isinstance(model, Autoencoder):
        return model.encoder
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or len(model.inputs) != 1:
        return None
    operation, node, _ = outputs[0]._keras_history
    before = operation._inbound_nodes[node].input_tensors
    if len(before) != 1:
        return None
    part = keras.Model(model.inputs, before[0])
    return part if part.weights else None


def scale_of(hidden: keras.Model) -> KLSparsity | None:
    """Return what takes the codes to the scale 0 (at rest) to 1, or None if they have no bounds."""
    for layer in _backwards(hidden):
        sparsity, activation = getattr(layer, "sparsity", None), getattr(layer, "activation", None)
        if isinstance(sparsity, KLSparsity):
            return sparsity
        if activation is not None:
            try:
                return KLSparsity().for_activation(activation)
            except ValueError:
                return None
    return None


def _backwards(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yield the layers of a model and of those in it, the last first."""
    for layer in reversed(model.layers):
        if isinstance(layer, keras.Model):
            yield from _backwards(layer)
        else:
            yield layer


def _takes_classes(model: keras.Model) -> bool:
    """Return whether the loss of a compiled model takes numbers of classes."""
    return SPARSE in (model.loss, getattr(model.loss, "name", None), getattr(model.loss, "__name__", None))
