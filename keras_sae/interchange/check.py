"""Whether an autoencoder fits the activations that it gets: active units, variance explained, and likely causes."""

import keras
import numpy as np
from keras import ops

from ..autoencoder import as_single
from ..conventions import norm_scale
from ..sparse_autoencoder import SparseAutoencoder
from ..sparsity import L1
from .weights import Weights

ROWS = 4096  # of a sample that count
TOO_MANY = 2  # times as many active units as the file says
TOO_FEW = 0.25
SHARE = 0.5  # of all units; more are never active in a sparse autoencoder
BETTER = 0.2  # of the variance, by which a cause has to explain more
KEPT = 64  # largest codes of an example, if the file does not say how many


def check(model: keras.Model, weights: Weights, x: np.ndarray, y: np.ndarray) -> tuple[dict[str, float], str]:
    """Return (measured numbers, a warning or ""), of activations x that are to be turned into y.

    l0                    mean number of active units of an example
    variance_explained    1 - sum_i ||y_i - yhat_i||^2 / sum_i ||y_i - mean y||^2         1 is best; 0 is the mean's
    """
    x, y = x[:ROWS], y[:ROWS]
    l0, explained = measure(model, x, y)
    measured = {"l0": l0, "variance_explained": explained}
    claimed = weights.claims.get("k", weights.claims.get("l0"))
    units = weights.kernels[0].shape[1]
    low, high = (0, SHARE * units) if claimed is None else (TOO_FEW * claimed, TOO_MANY * claimed)
    if low < l0 <= high and explained >= 0:
        return measured, ""
    says = "" if claimed is None else f", where its file says {claimed:g}"
    return measured, (
        f"Of the sample {l0:.4g} of {units} units are active in an example{says}, and {explained:.0%} of its variance "
        f"are explained. Expected a sparse autoencoder that fits. Likely: {_cause(model, weights, x, y, explained)}"
    )


def measure(model: keras.Model, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return (L0, variance explained)."""
    codes, outputs = encoder_of(model)(x), ops.convert_to_numpy(model(x))
    return float((ops.convert_to_numpy(codes) != 0).sum(axis=1).mean()), _explained(outputs, y)


def encoder_of(model: keras.Model) -> keras.Model:
    """Return the model's encoder."""
    return model.encoder if isinstance(model, SparseAutoencoder) else model.get_layer("encoder")


def _explained(outputs: np.ndarray, y: np.ndarray) -> float:
    y = y.astype("float64")
    total = ((y - y.mean(axis=0)) ** 2).sum()
    return float(1 - ((y - outputs) ** 2).sum() / max(total, np.finfo("float64").tiny))


def _cause(model: keras.Model, weights: Weights, x: np.ndarray, y: np.ndarray, explained: float) -> str:
    """Return in words what would explain the numbers: the first cause without which more variance is explained."""
    better = max(explained, 0) + BETTER
    if isinstance(model, SparseAutoencoder):
        found = _with_transposed(model, x, y) if len(set(weights.kernels[0].shape)) == 1 else explained
        if found > better:
            return (
                f"the encoder is stored transposed. Turned, {found:.0%} would be explained: transpose it in the file."
            )
        found = _with_largest(model, x, y) if isinstance(model.sparsity, L1) else explained
        if found > better:
            return (
                f"it is a TopK autoencoder whose file does not say so. With the {KEPT} largest codes of an example "
                f"alone {found:.0%} would be explained: look for its k, and use TopK(k)."
            )
    factor = norm_scale([(x,)])
    for goal, size in (("sqrt(features)", factor), ("1", factor / x.shape[1] ** 0.5)):
        found = measure(model, size * x, size * y)[1]
        if found > better:
            return (
                f"the activations are not normalised. Times {size:.4g}, with a mean length of {goal}, {found:.0%} "
                "would be explained: scale them so."
            )
    return (
        "these are not the activations that it was trained on, but those of another layer, model or place in it. Their "
        f"mean length is {np.linalg.norm(x, axis=1).mean():.4g}; the decoder's bias has a length of "
        f"{np.linalg.norm(weights.biases[1]):.4g}."
    )


def _with_transposed(model: SparseAutoencoder, x: np.ndarray, y: np.ndarray) -> float:
    kernel = np.array(as_single(ops.convert_to_tensor(model.kernel)))  # a copy: torch takes no view of a tensor for it
    model.kernel.assign(np.ascontiguousarray(kernel.T))
    try:
        return measure(model, x, y)[1]
    finally:
        model.kernel.assign(kernel)


def _with_largest(model: SparseAutoencoder, x: np.ndarray, y: np.ndarray) -> float:
    codes = ops.convert_to_numpy(model.encoder(x))
    if codes.shape[1] <= KEPT:
        return 0.0
    least = -np.partition(-codes, KEPT - 1, axis=1)[:, KEPT - 1 : KEPT]
    return _explained(ops.convert_to_numpy(model.decode(np.where(codes >= least, codes, 0))), y)
