"""What a preset computes on the examples it keeps: what anybody can measure again in a moment."""

import pathlib
from typing import Any

from .. import runs
from ..autoencoder import Autoencoder
from ..data.batches import predict_in_chunks
from ..evaluation.evaluate import evaluate_features


def measure(directory: pathlib.Path) -> dict[str, float]:
    """Return what a run's model makes of its examples, by name.

    rows               number of examples, held out from training
    accuracy           of a classifier, if the examples have labels
    mean_activation, active_units, dead_units, explained_variance, reconstruction_error
                       of the autoencoder, as `evaluate_features` has them: of a classifier, the one before the labels
    """
    x, labels = runs.load_examples(directory)
    model = runs.load(directory)
    found: dict[str, float] = {"rows": len(x)}
    if labels is not None and not isinstance(model, Autoencoder):
        found["accuracy"] = float((predict_in_chunks(model, x).argmax(axis=1) == labels).mean())
    autoencoder = runs.load_pretrained(directory) or model
    return found | (_of_features(autoencoder, x) if isinstance(autoencoder, Autoencoder) else {})


def _of_features(autoencoder: Autoencoder, x: Any) -> dict[str, float]:
    report = evaluate_features(autoencoder, x)
    return {
        "mean_activation": float(report.rho_hat.mean()),
        "active_units": report.l0,
        "dead_units": report.dead_units,
        "explained_variance": report.explained_variance,
        "reconstruction_error": report.reconstruction_error,
    }
