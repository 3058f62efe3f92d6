"""Whether features are any good: what they keep of the data, how sparse they are, and what a softmax makes of them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from .autoencoder import Autoencoder, draw_weights
from .data.batches import Chunks, inputs_of, mean_over_rows, predict_in_chunks
from .data.containers import RowSubset, as_array, in_memory, is_array
from .data.preprocessing import LARGEST_WHITENED
from .metrics import DEAD, half_variance
from .regularizers import KLSparsity, WeightDecay
from .training.fit import fit_head

ACTIVE = 0.5  # a bounded unit (0 at rest, 1 fully active) is active above this; one without bounds is above 0


class Accuracy(NamedTuple):
    """The share of right predictions, and the ends of Wilson's interval of 95 % confidence."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, repr=False)
class FeatureReport:
    """What `evaluate_features` measures.

    Attributes:
        explained_variance: 1 - E||xhat - x||^2 / (E||x||^2 - ||E x||^2): 1 if nothing is lost, 0 for the mean of x.
        reconstruction_error: the mean of 1/2 ||xhat - x||^2.
        rho_hat: the mean activation of each unit, from 0 (at rest) to 1, (units,) float64.
        active_share: the share of activations above 0.5 or, of units without a KLSparsity, above 0.
        dead_units: how many units have a rho_hat below `keras_sae.metrics.DEAD`.
        accuracies: name -> Accuracy of a softmax on held-out rows, if there are labels: on the "features"; on the
            "inputs"; on as many principal components, "pca", unless there are too many inputs for it; on the features
            of an "untrained" model of the same shape. "commonest" is that of the commonest class.
    """

    explained_variance: float
    reconstruction_error: float
    rho_hat: np.ndarray
    active_share: float
    dead_units: int
    accuracies: dict[str, Accuracy]

    def _numbers(self) -> dict[str, str]:
        numbers = {"explained_variance": self.explained_variance, "reconstruction_error": self.reconstruction_error}
        numbers |= {"rho_hat": float(self.rho_hat.mean()), "active_share": self.active_share}
        found = {name: f"{value:.4g}" for name, value in numbers.items()}
        found["dead_units"] = f"{self.dead_units} of {len(self.rho_hat)}"
        return found | {
            f"accuracy_{k}": f"{a.value:.2%} ({a.low:.2%} to {a.high:.2%})" for k, a in self.accuracies.items()
        }

    def __repr__(self) -> str:
        return "FeatureReport(\n" + "".join(f"  {name}: {text}\n" for name, text in self._numbers().items()) + ")"

    def _repr_html_(self) -> str:
        rows = (f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in self._numbers().items())
        return f"<table>{''.join(rows)}</table>"


def evaluate_features(
    model: Autoencoder,
    x: Any,
    y: Any = None,
    validation_data: tuple[Any, Any] | None = None,
    iterations: int = 200,
    weight_decay: float = 1e-4,
    seed: int = 0,
) -> FeatureReport:
    """Return what the features of an autoencoder or a stack keep of x, and with labels what they are worth.

    A softmax is trained on the features, and on what costs no training of features, with L-BFGS; its accuracies are
    those on rows that it was not trained on. Differences within the intervals may be chance.

    Args:
        model: a trained autoencoder or stack, which stays as it is.
        x: (examples, features), of every kind that `Autoencoder.transform` takes; with labels an array.
        y: class labels of x, (examples,), numbers or text, or None.
        validation_data: (x, y) to measure the accuracies on; by default a fifth of the rows of x, at random, which the
            softmax does not learn from then.
        iterations: of L-BFGS, for each softmax, at most.
        weight_decay: lambda of the softmax.
        seed: of the rows held out and of the weights of the untrained model.

    >>> print(evaluate_features(ae, digits.x_train, digits.y_train))
    """
    if not isinstance(model, Autoencoder):
        raise ValueError(f"Expected an autoencoder or a stack of this library. Received: {type(model).__name__}.")
    error, rho_hat, active = _measure(model, x)
    variance = 2 * half_variance(x, _Targets(model))
    explained = 1 - 2 * error / variance if variance else float("nan")
    accuracies = {}
    if y is not None:
        train, held_out, classes = _labelled(x, y, validation_data, seed)
        accuracies = _accuracies(model, train, held_out, classes, {"iterations": iterations}, weight_decay, seed)
    return FeatureReport(explained, error, rho_hat, active, int(np.sum(rho_hat < DEAD)), accuracies)


class _Targets:
    """What a model learns to return, as a layer gives its outputs."""

    def __init__(self, model: Autoencoder):
        self.model, self.inputs = model, model.encoder.inputs

    def __call__(self, x: Any, training: bool = False) -> Any:
        return self.model.targets(x)


def _measure(model: Autoencoder, x: Any) -> tuple[float, np.ndarray, float]:
    """Return (the mean of half the squared error, rho_hat of each unit, the share of active ones), in one pass."""
    sparsity = model.sparsities[-1]
    bounded = isinstance(sparsity, KLSparsity)

    def sums(chunk: Any, *_: Any) -> list:
        features = model.encoder(chunk, training=False)
        error = ops.convert_to_numpy(model.decode(features)).astype("float64") - ops.convert_to_numpy(
            model.targets(chunk)
        )
        activations = ops.convert_to_numpy(sparsity.normalize(features) if bounded else features).astype("float64")
        active = activations > (ACTIVE if bounded else 0)
        return [0.5 * (error**2).sum(), activations.sum(axis=0), active.mean(axis=1).sum()]

    error, rho_hat, active = mean_over_rows(Chunks(x, **inputs_of(model.encoder)).read(), sums)
    return float(error), rho_hat, float(active)


def _labelled(x: Any, y: Any, held_out: tuple[Any, Any] | None, seed: int) -> tuple[tuple, tuple, int]:
    """Return (x, class numbers) to train on, the same of rows held out, and the number of classes."""
    if not is_array(x):
        raise ValueError(f"Expected x as an array, if there are labels. Received: {type(x).__name__}.")
    for rows, labels in [(x, y), *([] if held_out is None else [held_out])]:
        if len(labels) != as_array(rows).shape[0]:
            number = f"{as_array(rows).shape[0]:,}"
            raise ValueError(f"Expected one label for each of the {number} rows. Received: {len(labels):,}.")
    x, y = as_array(x), np.asarray(y) if held_out is None else np.concatenate([np.asarray(y), np.asarray(held_out[1])])
    classes, numbers = np.unique(y, return_inverse=True)
    if held_out is not None:
        return (x, numbers[: len(x)]), (held_out[0], numbers[len(x) :]), len(classes)
    order = np.random.default_rng(seed).permutation(len(x))
    first, last = np.sort(order[len(x) // 5 :]), np.sort(order[: len(x) // 5])
    return (_pick(x, first), numbers[first]), (_pick(x, last), numbers[last]), len(classes)


def _pick(x: Any, rows: np.ndarray) -> Any:
    return x[rows] if in_memory(x) else RowSubset(x, rows)


def _accuracies(
    model: Autoencoder, train: tuple, held_out: tuple, classes: int, options: dict, weight_decay: float, seed: int
) -> dict[str, Accuracy]:
    """Return the accuracy of a softmax on each kind of features; train, held_out: (x, class numbers)."""
    targets = _Targets(model)
    scaling = [] if getattr(model, "preprocessing", None) is None else [model.preprocessing]
    components = principal_components(train[0], model.encoder.output_shape[-1], targets)
    encoders = {"features": [model.encoder], "inputs": scaling, "pca": [*scaling, components]}
    encoders["untrained"] = [_untrained(model, seed).encoder]
    found = {}
    for name, layers in encoders.items():
        if None in layers:
            continue
        classifier = softmax_on(layers, model.encoder.input_shape[-1], classes, weight_decay)
        fit_head(classifier, *train, verbose=0, **options)
        right = predict_in_chunks(classifier, held_out[0]).argmax(axis=-1) == held_out[1]
        found[name] = _accuracy(right)
    commonest = held_out[1] == np.bincount(train[1]).argmax()
    return found | {"commonest": _accuracy(commonest)}


def _accuracy(right: np.ndarray) -> Accuracy:
    return Accuracy(float(right.mean()), *wilson_interval(float(right.mean()), len(right)))


def _untrained(model: Autoencoder, seed: int) -> Autoencoder:
    """Return another model of the same shape and preprocessing, with the weights that a training begins with."""
    copy = type(model).from_config(model.get_config())
    copy.build((None, model.encoder.input_shape[-1]))
    copy.set_weights(model.get_weights())  # those of the preprocessing
    draw_weights(copy, np.random.RandomState(seed))
    return copy


def softmax_on(layers: Sequence[Any], features: int, num_classes: int, weight_decay: float = 1e-4) -> keras.Model:
    """Return an untrained softmax on what layers make of inputs of so many features, for `fit_head`.

    Its layers are called "encoder" and "head", and it is compiled, as the classifier of a stack.
    """
    encoder = keras.Sequential([keras.Input((features,)), *(layers or [keras.layers.Identity()])], name="encoder")
    head = keras.layers.Dense(num_classes, "softmax", kernel_regularizer=WeightDecay(weight_decay), name="head")
    classifier = keras.Sequential([encoder, head])
    classifier.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return classifier


def principal_components(x: Any, units: int, transform: Any = None) -> keras.layers.Dense | None:
    """Return a layer that projects rows to their main directions, as many as `units`, on training data x.

    transform: a layer or model that x passes first, or None.  None is returned if there are too many features for
    their covariance.
    """

    def sums(chunk: Any, *_: Any) -> list:
        rows = chunk if transform is None else transform(chunk, training=False)
        rows = ops.convert_to_numpy(rows).astype("float64")
        return [rows.sum(axis=0), rows.T @ rows]

    chunks = Chunks(x)
    features = chunks.num_features()
    if features > LARGEST_WHITENED:
        return None
    mean, square = mean_over_rows(chunks.read(), sums)
    kernel = np.linalg.eigh(square - np.outer(mean, mean))[1][:, ::-1][:, :units]
    layer = keras.layers.Dense(kernel.shape[1])
    layer.build((None, features))
    layer.set_weights([kernel, -mean @ kernel])
    return layer


def wilson_interval(share: float, number: int) -> tuple[float, float]:
    """Return the ends of the 95 % interval (Wilson 1927) of a share that was measured on so many examples.

        (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)          z = 1.96

    Unlike p +- z sqrt(p (1 - p)/n), it is right for few examples, and for shares of 0 or 1.
    """
    z = 1.959964
    centre = share + z**2 / (2 * number)
    half = z * math.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    low, high = ((centre + sign * half) / (1 + z**2 / number) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)
