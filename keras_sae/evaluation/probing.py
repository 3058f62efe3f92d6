"""What single units of an autoencoder know of classes: probes that see few of them, and what their removal does."""

from typing import Any

import numpy as np

from .. import extras
from ..autoencoder import Autoencoder
from ..data.batches import Chunks, inputs_of, predict_in_chunks

SPARSE = (1, 2, 5)  # units that a sparse probe sees
REMOVED = 10  # units that are removed for a class
TRAINED_ON, TESTED_ON = 4000, 1000  # rows of a probe of one class, as of SAEBench
INVERSE_PENALTIES = 10.0 ** np.arange(-3, 3)


def probe_features(model: Autoencoder, train: tuple, held_out: tuple, seed: int = 0) -> dict[str, float]:
    """Return what probes of scikit-learn find in the features of a model, measured on held-out rows.

    "linear_probe": the accuracy of a logistic regression on all features, scaled to unit variance; its penalty is
        chosen on a fifth of the training rows, on which it then learns with the others.
    "probe_1", "probe_2", "probe_5": of one class against the others, half of the rows each, the accuracy of a logistic
        regression that sees so many units: those whose means in and out of the class differ most. Mean over classes
        that both sets of rows have, and others beside them.
    "perturbation": of one class's probe on the inputs, the loss of accuracy if the 10 units that speak most for the
        class are taken out of the inputs, less the mean loss of the other classes' probes. Mean over classes; not for
        stacks of several layers. It is high if units belong to one class: x - decode(a) + decode(a without them).

    Args:
        train, held_out: (x, numbers of classes from 0), arrays.
        seed: of the rows that are drawn.

    Reference: Karvonen et al. 2025, "SAEBench", sections on sparse probing and targeted probe perturbation; Gurnee et
    al. 2023, "Finding Neurons in a Haystack", for the choice of units by their difference of means.
    """
    extras.check("sklearn", "train probes with")
    (x, y), (x_held_out, y_held_out) = train, held_out
    features, held = (model.transform(rows) for rows in (x, x_held_out))
    random = np.random.default_rng(seed)
    found = {"linear_probe": _linear(features, y, held, y_held_out, random)}
    pairs = {
        label: (_balanced(y, label, TRAINED_ON, random), _balanced(y_held_out, label, TESTED_ON, random))
        for label in np.unique(y)
    }
    pairs = {label: (rows, others) for label, (rows, others) in pairs.items() if len(rows) and len(others)}
    for units in SPARSE:
        if units < features.shape[1] and pairs:
            scores = [
                _sparse(features[rows], y[rows] == label, held[others], y_held_out[others] == label, units)
                for label, (rows, others) in pairs.items()
            ]
            found[f"probe_{units}"] = float(np.mean(scores))
    if len(getattr(model, "autoencoders", [model])) == 1 and len(pairs) > 1:
        found["perturbation"] = _perturbation(model, train, held_out, features, pairs)
    return found


def _linear(x: np.ndarray, y: np.ndarray, x_held_out: np.ndarray, y_held_out: np.ndarray, random: Any) -> float:
    scale = np.maximum(x.std(axis=0), 1e-6)
    x, x_held_out = x / scale, x_held_out / scale
    order = random.permutation(len(x))
    chosen_on, learned_on = order[: len(x) // 5], order[len(x) // 5 :]
    scores = [_logistic(x[learned_on], y[learned_on], C=c).score(x[chosen_on], y[chosen_on]) for c in INVERSE_PENALTIES]
    best = INVERSE_PENALTIES[int(np.argmax(scores))]
    return float(_logistic(x, y, C=best).score(x_held_out, y_held_out))


def _logistic(x: np.ndarray, y: np.ndarray, **options: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    # float64, because NumPy warns of invalid numbers in float32 products of few columns that are finite, on some
    # processors.
    return LogisticRegression(max_iter=1000, tol=1e-3, **options).fit(x.astype("float64"), y)


def _balanced(y: np.ndarray, label: int, most: int, random: Any) -> np.ndarray:
    """Return numbers of rows, half of them of a class, `most` at most."""
    inside, outside = (random.permutation(np.flatnonzero(rows)) for rows in (y == label, y != label))
    number = min(len(inside), len(outside), most // 2)
    return np.concatenate([inside[:number], outside[:number]])


def _sparse(x: np.ndarray, y: np.ndarray, x_held_out: np.ndarray, y_held_out: np.ndarray, units: int) -> float:
    """Return the accuracy of a probe of one class that sees so many units."""
    difference = np.abs(x[y].mean(axis=0) - x[~y].mean(axis=0))
    chosen = np.argsort(-difference)[:units]
    return float(_logistic(x[:, chosen], y).score(x_held_out[:, chosen], y_held_out))


def _perturbation(model: Any, train: tuple, held_out: tuple, features: np.ndarray, pairs: dict) -> float:
    """Return the targeted probe perturbation, see `probe_features`."""
    (x, y), (x_held_out, y_held_out) = train, held_out
    directions = getattr(model, "autoencoders", [model])[0].folded()[2]
    labels = list(pairs)
    probes, removed = [], []
    for label, (rows, _) in pairs.items():
        inside = y[rows] == label
        probe = _logistic(_targets(model, x[rows]), inside)
        means = np.maximum(features[rows][inside].mean(axis=0) - features[rows][~inside].mean(axis=0), 0)
        probes.append(probe)
        removed.append(np.argsort(-means * (directions @ probe.coef_[0]))[:REMOVED])
    drops = np.zeros((len(labels), len(labels)))  # of whose units, whose probe
    for row, units in enumerate(removed):
        for column, (probe, (_, others)) in enumerate(zip(probes, pairs.values(), strict=True)):
            inputs, truth = x_held_out[others], y_held_out[others] == labels[column]
            clean = _targets(model, inputs)
            without = clean - _contribution(model, inputs, units)
            drops[row, column] = probe.score(clean, truth) - probe.score(without, truth)
    own = drops.diagonal()
    others = (drops.sum(axis=1) - own) / (len(labels) - 1)
    return float(np.mean(own - others))


def _targets(model: Any, x: np.ndarray) -> np.ndarray:
    chunks = Chunks(x, **inputs_of(model.encoder)).read()
    return np.concatenate([np.asarray(model.targets(chunk.x)) for chunk in chunks])


def _contribution(model: Any, x: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return what these units add to the reconstruction of each row."""
    codes = model.transform(x)
    without = codes.copy()
    without[:, units] = 0
    decoded, left = (predict_in_chunks(model.decoder, rows) for rows in (codes, without))
    return decoded - left
