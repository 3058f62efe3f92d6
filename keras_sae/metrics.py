"""Numbers that describe features, exact over a whole data set."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops

from .autoencoder import Autoencoder
from .data.batches import Chunks, inputs_of, mean_over_rows
from .sparsity import KLSparsity

DEAD = 1e-3  # a unit whose mean activation (0 at rest, 1 fully active) is below this counts as dead


def mean_activations(autoencoder: Autoencoder, x: Any) -> np.ndarray:
    """Return rho_hat of each unit over all of x, (units,) float64, on the scale 0 (at rest) to 1 (fully active).

    It costs one pass of the encoder over x. Without a KLSparsity the activations count as they are.
    """
    sparsity = autoencoder.sparsity if isinstance(autoencoder.sparsity, KLSparsity) else KLSparsity()
    encoder = autoencoder.encoder
    chunks = Chunks(x, **inputs_of(encoder)).read()
    [rho_hat] = mean_over_rows(chunks, lambda chunk, *_: [sparsity.sum_over_rows(encoder(chunk, training=False))])
    return rho_hat


def half_variance(x: Any, transform: Any = None) -> float:
    """Return half the sum of the features' variances: the error of the mean of x as the reconstruction of every row.

    It costs two passes over x. transform: a layer or model that x passes first, or None.
    """

    def rows() -> Iterator[tuple]:
        for chunk in Chunks(x).read():
            values = chunk.x if transform is None else transform(chunk.x, training=False)
            yield (ops.convert_to_numpy(values).astype("float64"),)

    [mean] = mean_over_rows(rows(), lambda values: [values.sum(axis=0)])
    [square] = mean_over_rows(rows(), lambda values: [((values - mean) ** 2).sum()])
    return float(square / 2)
