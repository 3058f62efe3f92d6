"""What is usual: the errors of rows that a model did not learn from, beside which other rows, and columns, are odd."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError

if TYPE_CHECKING:  # so that commands know a run's usual errors before they load Keras
    from .autoencoder import Autoencoder

LEVELS = (0.5, 0.9, 0.95, 0.99, 0.999)
DEFAULT = 0.99
SAMPLE = 10_000, 2**27  # the rows that the quantiles of columns rest on, and the bytes that their errors take at most
FLOOR = 0.01  # of the mean of the columns' usual errors, which no usual error is below


@dataclasses.dataclass(frozen=True)
class UsualErrors:
    """Quantiles of the reconstruction errors of held-out rows, as `Autoencoder.reconstruction_error` has them.

    The quantile of level q of n errors is the k-th smallest of them, k = ceil((n + 1) q): of other rows like these, no
    more than a share of 1 - q is expected above it, whatever the distribution of the errors is. Of fewer rows than
    (n + 1) (1 - q) >= 1 asks for it is the largest error, which `supports` denies.

    Attributes:
        rows: n, the number of held-out rows.
        quantiles: level -> half the squared error of a row, in columns as scaled, for LEVELS.
        columns: (features,), the quantile of level DEFAULT of each term of that sum.

    Reference: Vovk et al. 2005, "Algorithmic Learning in a Random World" (conformal prediction).

    >>> usual = UsualErrors.measure(ae, x_held_out)
    >>> odd = ae.reconstruction_error(x) > usual.quantiles[0.99]
    """

    rows: int
    quantiles: Mapping[float, float]
    columns: np.ndarray

    @classmethod
    def measure(cls, autoencoder: "Autoencoder", x: Any) -> "UsualErrors":
        """Return the usual errors of rows x, (examples, features), an array, that the model did not learn from.

        Those of columns are of 10,000 of the rows at most, evenly spread from first to last.
        """
        from .data.containers import as_array

        x = as_array(x)
        errors = autoencoder.reconstruction_error(x)
        number = min(SAMPLE[0], max(1, SAMPLE[1] // (8 * x.shape[1])))
        columns = autoencoder.reconstruction_error(x[:: -(-len(x) // number)], per_feature=True)
        return cls(len(errors), {level: float(quantile(errors, level)) for level in LEVELS}, quantile(columns, DEFAULT))

    @classmethod
    def read(cls, record: Any, where: object) -> "UsualErrors":
        """Return the usual errors that `record` wrote. Raise InputError, which names `where`, if it is damaged."""
        try:
            quantiles = {float(level): float(error) for level, error in record["quantiles"].items()}
            found = cls(int(record["rows"]), quantiles, np.asarray(record["columns"], "float64"))
            right = set(quantiles) == set(LEVELS) and found.rows > 0 and found.columns.ndim == 1
            if not (right and np.isfinite([*quantiles.values(), *found.columns]).all()):
                raise ValueError
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InputError(
                f"Expected the usual errors of held-out rows, as training writes them. Received: {where}, whose "
                "usual_errors are damaged. Train or export it again."
            ) from error
        return found

    def record(self) -> dict[str, Any]:
        """Return what JSON holds of it, to five digits."""
        quantiles = {str(level): float(f"{error:.5g}") for level, error in self.quantiles.items()}
        return {"rows": self.rows, "quantiles": quantiles, "columns": [float(f"{error:.5g}") for error in self.columns]}

    def supports(self, level: float) -> bool:
        """Return whether the held-out rows are enough to estimate this quantile."""
        return rank(self.rows, level) <= self.rows

    @property
    def level(self) -> float:
        """The level of the quantile that is taken unless another is asked for: DEFAULT, or the highest supported."""
        return max((level for level in LEVELS if level <= DEFAULT and self.supports(level)), default=LEVELS[0])

    def shares(self, column_errors: np.ndarray) -> np.ndarray:
        """Return how odd each column of each row is, (rows, features), non-negative; the sum over a row is 1.

            share_j = (error_j / usual_j) / sum_k (error_k / usual_k)

        A column whose errors are always large is so no odder than others. usual_j is no less than 0.01 of the mean over
        columns, so that the rounding of a column that is nearly constant does not count.

        column_errors: (rows, features), the terms of each row's error.
        """
        floor = max(FLOOR * self.columns.mean(), np.finfo("float32").tiny)
        times = column_errors / np.maximum(self.columns, floor)
        return times / np.maximum(times.sum(axis=1, keepdims=True), np.finfo("float64").tiny)


def rank(number: int, level: float) -> int:
    """Return which of so many sorted errors the quantile is, from 1 on; above `number` if they are too few."""
    return math.ceil(round((number + 1) * level, 6))


def needed_rows(level: float) -> int:
    """Return the least number of errors that a quantile of this level can be estimated from."""
    return math.ceil(round(1 / (1 - level) - 1, 6))


def quantile(errors: np.ndarray, level: float) -> np.ndarray:
    """Return the quantile of errors (rows, ...) over their rows, of which there may be too few: then the largest."""
    place = min(rank(len(errors), level), len(errors)) - 1
    return np.partition(errors, place, axis=0)[place]
