"""Numbers that describe features, exact over a whole data set."""

from collections.abc import Iterator
from typing import Any

import keras
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


@keras.saving.register_keras_serializable("keras_sae")
class ExplainedVariance(keras.metrics.Metric):
    """The fraction of variance explained, 1 - E||xhat - x||^2 / (E||x||^2 - ||E x||^2), over all batches.

    1 if nothing is lost, 0 for the mean of x as every reconstruction. The variance is added up from batches as
    deviations from their means (Chan, Golub & LeVeque 1979), so that data far from 0 lose no digits.

    >>> ae.compile("adam", metrics=[keras_sae.metrics.ExplainedVariance()])
    """

    def __init__(self, name: str = "explained_variance", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self._built = False

    def _build(self, features: int) -> None:
        for attribute, shape in (("rows", ()), ("error", ()), ("deviation", ()), ("mean", (features,))):
            setattr(self, attribute, self.add_variable(shape, "zeros", name=attribute))
        self._built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count rows of x and xhat, (examples, features); weights of examples do not count."""
        x, xhat = (ops.cast(values, self.dtype) for values in (y_true, y_pred))
        if not self._built:
            self._build(x.shape[-1])
        number = ops.cast(ops.shape(x)[0], self.dtype)
        mean = ops.mean(x, axis=0)
        total, step = self.rows + number, mean - self.mean
        self.error.assign_add(ops.sum(ops.square(xhat - x)))
        self.deviation.assign_add(
            ops.sum(ops.square(x - mean)) + ops.sum(ops.square(step)) * self.rows * number / total
        )
        self.mean.assign_add(step * number / total)
        self.rows.assign(total)

    def result(self) -> Any:
        """Return the fraction; NaN if all rows are the same."""
        return 1 - self.error / self.deviation if self._built else ops.zeros(())
