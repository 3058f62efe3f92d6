"""What is measured of features, as an object that prints itself."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

DENSE = 0.1  # the share of examples above which an active unit tells little of each


class Accuracy(NamedTuple):
    """The share of right predictions, and the ends of Wilson's interval of 95 % confidence."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, repr=False)
class FeatureReport:
    """What `evaluate_features` measures.

    Attributes:
        explained_variance: 1 - E||xhat - x||^2 / (E||x||^2 - ||E x||^2): 1 if nothing is lost, 0 for the mean of x. (Of
            the definitions in use it is the one of `evals.py` of SAELens: over all rows, not a mean over batches.)
        reconstruction_error: the mean of 1/2 ||xhat - x||^2.
        reconstruction_bias: E||xhat||^2 / E<x, xhat>: below 1 if reconstructions are too short, as L1 makes them.
        cosine: the mean of the cosine of x and xhat.
        rho_hat: the mean activation of each unit, from 0 (at rest) to 1, (units,) float64.
        frequency: the share of examples for which each unit is active, (units,) float64. Active is above 0.5 or, of
            units without a KLSparsity, above 0; of methods of `keras_sae.sparsity`, not 0.
        active_share: the mean of `frequency`.
        l0: active units of an example, their mean: `active_share` times the number of units.
        dead_units: how many units have a rho_hat below `keras_sae.metrics.DEAD`; with a method, are never active.
        dense_units: how many units are active for more than a tenth of the examples.
        decoder_similarity: the cosine of a unit's row of the decoder with the one most like it, their mean; NaN for
            stacks of several layers. 0 is a dictionary of orthogonal directions, 1 one that holds each twice.
        accuracies: name -> Accuracy of a softmax on held-out rows, if there are labels: on the "features"; on the
            "inputs"; on as many principal components, "pca", unless there are too many inputs for it; on the features
            of an "untrained" model of the same shape. "commonest" is that of the commonest class.
        probes: what `keras_sae.evaluation.probing.probe_features` finds, if it was asked for.
    """

    explained_variance: float
    reconstruction_error: float
    reconstruction_bias: float
    cosine: float
    rho_hat: np.ndarray
    frequency: np.ndarray
    dead_units: int
    decoder_similarity: float
    accuracies: dict[str, Accuracy]
    probes: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def active_share(self) -> float:
        return float(self.frequency.mean())

    @property
    def l0(self) -> float:
        return float(self.frequency.sum())

    @property
    def dense_units(self) -> int:
        return int(np.sum(self.frequency > DENSE))

    def density_histogram(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (how many units, edges) of log10(frequency) in steps of a quarter; dead units are in none."""
        logarithms = np.log10(self.frequency[self.frequency > 0])
        return np.histogram(logarithms, np.arange(np.floor(min(logarithms, default=0.0)), 0.26, 0.25))

    def _numbers(self) -> dict[str, str]:
        names = ("explained_variance", "reconstruction_error", "reconstruction_bias", "cosine")
        numbers = {name: getattr(self, name) for name in names}
        numbers |= {"rho_hat": float(self.rho_hat.mean()), "active_share": self.active_share, "l0": self.l0}
        numbers["decoder_similarity"] = self.decoder_similarity
        found = {name: f"{value:.4g}" for name, value in numbers.items()}
        found["dead_units"] = f"{self.dead_units} of {len(self.rho_hat)}"
        found["dense_units"] = f"{self.dense_units} of {len(self.rho_hat)}"
        found |= {name: f"{value:.4g}" for name, value in self.probes.items()}
        return found | {
            f"accuracy_{k}": f"{a.value:.2%} ({a.low:.2%} to {a.high:.2%})" for k, a in self.accuracies.items()
        }

    def __repr__(self) -> str:
        return "FeatureReport(\n" + "".join(f"  {name}: {text}\n" for name, text in self._numbers().items()) + ")"

    def _repr_html_(self) -> str:
        rows = (f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in self._numbers().items())
        return f"<table>{''.join(rows)}</table>"


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
