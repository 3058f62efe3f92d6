"""What single units do on data: their activations, the rows that activate them, the classes and the units like them."""

import dataclasses

import numpy as np

from .layers import Layer, additions

SHOWN_UNITS = 400  # of a layer at most: those that are used most
EXAMPLES = 8  # of each unit that activate it most, and as many that activate it half as much
NEAREST = 6  # units
BINS = 24  # of the histogram of a unit's activations


class Best:
    """The rows of the largest scores of each unit, (units, number), among all that were added; -1 if there are fewer.

    With each row it keeps its value, which need not be its score.
    """

    def __init__(self, units: int, number: int):
        self.scores = np.full((number, units), -np.inf)
        self.values = np.zeros((number, units))
        self.rows = np.full((number, units), -1)

    def add(self, scores: np.ndarray, values: np.ndarray, first: int) -> None:
        """Add scores and values of further rows, (rows, units), the first of which has the number `first`."""
        number = len(self.scores)
        if len(scores) > number:
            best = np.sort(np.argpartition(-scores, number - 1, axis=0)[:number], axis=0)
            scores, values = np.take_along_axis(scores, best, 0), np.take_along_axis(values, best, 0)
        else:
            best = np.repeat(np.arange(len(scores))[:, None], scores.shape[1], axis=1)
        found = [self.scores, scores], [self.values, values], [self.rows, np.where(scores > -np.inf, first + best, -1)]
        joined = [np.concatenate(pair) for pair in found]
        order = np.argsort(-joined[0], axis=0, kind="stable")[:number]
        self.scores, self.values, self.rows = (np.take_along_axis(array, order, 0) for array in joined)

    def of(self, unit: int) -> list[tuple[int, float]]:
        """Return (row, value) of a unit, the best first."""
        pairs = zip(self.rows[:, unit].tolist(), self.values[:, unit].tolist(), strict=True)
        return [(row, value) for row, value in pairs if row >= 0]


@dataclasses.dataclass(eq=False)
class Units:
    """What the units of one layer do. Arrays end with (units,), for all of them; those of `shown` units say so.

    Attributes:
        layer: what the units compute.
        mean, low, high: the mean, least and largest activation.
        rho_hat: the mean activation from 0 (at rest) to 1 (fully active) of units with a KLSparsity, else the mean.
        zeros: the share of activations that are exactly 0.
        of_classes: mean activation on the rows of each class, (classes, units), NaN if it has none; or None.
        shown: the numbers of the units that are looked at closely, those used most.
        counts: histogram of activations that are not exactly 0, (bins, shown).
        edges: its bins, (bins + 1, shown).
        top, middling: the rows that activate a shown unit most, and about half as much.
        additions: what the shown units add to the reconstruction, (shown, features), or None.
        nearest: for each shown unit (index in `shown`, cosine) of those whose maximal inputs are most like its own.
    """

    layer: Layer
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rho_hat: np.ndarray
    zeros: np.ndarray
    of_classes: np.ndarray | None
    shown: np.ndarray = dataclasses.field(init=False)
    counts: np.ndarray = dataclasses.field(init=False)
    edges: np.ndarray = dataclasses.field(init=False)
    top: Best = dataclasses.field(init=False)
    middling: Best = dataclasses.field(init=False)
    additions: np.ndarray | None = dataclasses.field(init=False)
    nearest: list[list[tuple[int, float]]] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        use = self.mean - self.low
        self.shown = np.sort(np.argsort(-use, kind="stable")[:SHOWN_UNITS])
        self.edges = np.linspace(self.low[self.shown], self.high[self.shown], BINS + 1)
        self.counts = np.zeros((BINS, len(self.shown)), int)
        self.top, self.middling = Best(len(self.shown), EXAMPLES), Best(len(self.shown), EXAMPLES)
        self.additions = None
        if self.layer.decode is not None:
            ends = self.mean, self.low, self.high
            self.additions = additions(self.layer.decode, self.layer.dtype, *ends, self.shown)
        self.nearest = _nearest(self.layer.maximal[:, self.shown])

    def add(self, codes: np.ndarray, first: int) -> None:
        """Look closely at the activations of further rows, (rows, units), the first of which has number `first`."""
        codes = codes[:, self.shown]
        low, high = self.edges[0], self.edges[-1]
        span = np.where(high > low, high - low, 1)
        bins = np.minimum((BINS * (codes - low) / span).astype(int), BINS - 1)
        for unit in range(len(self.shown)):
            self.counts[:, unit] += np.bincount(bins[codes[:, unit] != 0, unit], minlength=BINS)
        active = codes > low
        self.top.add(np.where(active, codes, -np.inf), codes, first)
        self.middling.add(np.where(active, -np.abs(codes - (low + high) / 2), -np.inf), codes, first)


def _nearest(maximal: np.ndarray) -> list[list[tuple[int, float]]]:
    cosines = maximal.T @ maximal
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, : min(NEAREST, len(cosines) - 1)]
    return [[(int(other), float(cosines[unit, other])) for other in others] for unit, others in enumerate(order)]
