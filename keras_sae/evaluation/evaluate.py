"""Whether features are any good: what they keep of the data, how sparse they are, and what a softmax makes of them."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..autoencoder import Autoencoder, as_single, draw_weights
from ..data.batches import Chunks, inputs_of, mean_over_rows, predict_in_chunks
from ..data.containers import RowSubset, as_array, in_memory, is_array
from ..data.preprocessing import LARGEST_WHITENED
from ..metrics import DEAD, half_variance
from ..regularizers import WeightDecay
from ..sparsity import KLSparsity, SparsityMethod
from ..training.fit import fit_head
from .feature_report import Accuracy, FeatureReport, wilson_interval
from .probing import probe_features

ACTIVE = 0.5  # a bounded unit (0 at rest, 1 fully active) is active above this; one without bounds is above 0


def evaluate_features(
    model: Autoencoder,
    x: Any,
    y: Any = None,
    validation_data: tuple[Any, Any] | None = None,
    iterations: int = 200,
    weight_decay: float = 1e-4,
    seed: int = 0,
    probes: bool = False,
) -> FeatureReport:
    """Return what the features of an autoencoder or a stack keep of x, and with labels what they are worth.

    A softmax is trained on the features, and on what costs no training of features, with L-BFGS; its accuracies are
    those on rows that it was not trained on. Differences within the intervals may be chance.

    Args:
        model: a trained autoencoder or stack, which stays as it is.
        x: (examples, features), of every kind that `Autoencoder.transform` takes; with labels an array.
        y: class labels of x, (examples,), numbers or text, or None. Rows of which it is below 0 or NaN have none, and
            count for the reconstruction alone.
        validation_data: (x, y) to measure the accuracies on; by default a fifth of the rows of x, at random, which the
            softmax does not learn from then.
        iterations: of L-BFGS, for each softmax, at most.
        weight_decay: lambda of the softmax.
        seed: of the rows held out and of the weights of the untrained model.
        probes: whether to train the probes of `probing.probe_features` too, which takes scikit-learn, and minutes for
            tens of thousands of rows.

    >>> print(evaluate_features(ae, digits.x_train, digits.y_train))
    """
    if not isinstance(model, Autoencoder):
        raise ValueError(f"Expected an autoencoder or a stack of this library. Received: {type(model).__name__}.")
    if y is None and (probes or validation_data is not None):
        given = "probes=True" if probes else "validation_data"
        raise ValueError(f"Expected labels y beside {given}, which is there to tell classes apart. Received: none.")
    error, length, product, cosine, rho_hat, frequency = _measure(model, x)
    variance = 2 * half_variance(x, _Targets(model))
    method = isinstance(model.sparsities[-1], SparsityMethod)
    measured: dict[str, Any] = {
        "explained_variance": 1 - 2 * error / variance if variance else float("nan"),
        "reconstruction_error": float(error),
        "reconstruction_bias": float(length / product) if product else float("nan"),
        "cosine": float(cosine),
        "rho_hat": rho_hat,
        "frequency": frequency,
        "dead_units": int(np.sum(frequency == 0 if method else rho_hat < DEAD)),
        "decoder_similarity": _decoder_similarity(model),
    }
    accuracies = {}
    if y is not None:
        train, held_out, classes = _labelled(x, y, validation_data, seed)
        accuracies = _accuracies(model, train, held_out, classes, {"iterations": iterations}, weight_decay, seed)
    found = probe_features(model, train, held_out, seed) if probes and y is not None else {}
    return FeatureReport(**measured, accuracies=accuracies, probes=found)


class _Targets:
    """What a model learns to return, as a layer gives its outputs."""

    def __init__(self, model: Autoencoder):
        self.model, self.inputs = model, model.encoder.inputs

    def __call__(self, x: Any, training: bool = False) -> Any:
        return self.model.targets(x)


def _measure(model: Autoencoder, x: Any) -> list[np.ndarray]:
    """Return means over all rows, in one pass, in float64.

    Of half the squared error, ||xhat||^2, <x, xhat> and the cosine, scalars, of activations and of whether they are
    active, (units,).
    """
    sparsity = model.sparsities[-1]
    bounded = isinstance(sparsity, KLSparsity)

    def sums(chunk: Any, *_: Any) -> list:
        features = model.encoder(chunk, training=False)
        outputs, targets = (as_single(t).astype("float64") for t in (model.decode(features), model.targets(chunk)))
        activations = as_single(sparsity.normalize(features) if bounded else features).astype("float64")
        active = activations != 0 if isinstance(sparsity, SparsityMethod) else activations > (ACTIVE if bounded else 0)
        products = (outputs * targets).sum(axis=1)
        lengths = np.linalg.norm(outputs, axis=1) * np.linalg.norm(targets, axis=1)
        cosines = np.divide(products, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        error = 0.5 * ((outputs - targets) ** 2).sum()
        return [error, (outputs**2).sum(), products.sum(), cosines.sum(), activations.sum(axis=0), active.sum(axis=0)]

    return mean_over_rows(Chunks(x, **inputs_of(model.encoder)).read(), sums)


def _decoder_similarity(model: Autoencoder, block: int = 1024) -> float:
    """Return the mean over units of the cosine of their row of the decoder with the one most like it."""
    layers = getattr(model, "autoencoders", [model])
    if len(layers) > 1 or layers[0].units == 1:
        return float("nan")
    rows = layers[0].folded()[2].astype("float32")
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo("float32").tiny)
    nearest = []
    for start in range(0, len(rows), block):
        cosines = rows[start : start + block] @ rows.T
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -np.inf  # each with itself
        nearest.append(cosines.max(axis=1))
    return float(np.concatenate(nearest).mean())


def _labelled(x: Any, y: Any, held_out: tuple[Any, Any] | None, seed: int) -> tuple[tuple, tuple, int]:
    """Return (x, class numbers) to train on, the same of rows held out, and the number of classes."""
    if not is_array(x):
        raise ValueError(f"Expected x as an array, if there are labels. Received: {type(x).__name__}.")
    for rows, labels in [(x, y), *([] if held_out is None else [held_out])]:
        if len(labels) != as_array(rows).shape[0]:
            number = f"{as_array(rows).shape[0]:,}"
            raise ValueError(f"Expected one label for each of the {number} rows. Received: {len(labels):,}.")
    x, y = _known(x, y)
    if held_out is not None:
        other, labels = _known(*held_out)
        classes, numbers = np.unique(np.concatenate([y, labels]), return_inverse=True)
        return (x, numbers[: len(x)]), (other, numbers[len(x) :]), len(classes)
    classes, numbers = np.unique(y, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(x))
    first, last = np.sort(order[len(x) // 5 :]), np.sort(order[: len(x) // 5])
    return (_pick(x, first), numbers[first]), (_pick(x, last), numbers[last]), len(classes)


def _known(x: Any, y: Any) -> tuple[Any, np.ndarray]:
    """Return the rows that have a label, with their labels, (rows,): numbers below 0 stand for none."""
    x, y = as_array(x), np.asarray(y)
    if y.shape not in ((len(y),), (len(y), 1)):
        raise ValueError(f"Expected y of shape (examples,), the numbers or names of classes. Received: {y.shape}.")
    y = y.reshape(-1)
    known = np.flatnonzero(y >= 0) if y.dtype.kind in "if" else np.arange(len(y))
    if not len(known):
        raise ValueError("Expected a label for some rows. Received: none.")
    return (x, y) if len(known) == len(y) else (_pick(x, known), y[known])


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
