"""What a unit does, in sentences that need no knowledge of autoencoders."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics import DEAD
from ..regularizers import KLSparsity
from .facts import Facts
from .units import Units

PREFERRED = 1.5  # times its mean activation over all rows: what a unit must have on the rows of a class that it prefers
STRONG = 0.15  # of the drive of all columns: what a column must have to be named


def sentences(units: Units, place: int, facts: Facts, names: Sequence[str]) -> list[str]:
    """Return what a unit detects and how often, sentences.

    place: of the unit in `units.shown`.  names: of the input columns, or () if the rows are pictures.
    """
    unit = units.shown[place]
    if is_dead(units, unit):
        return [f"It is dead: its activation is {_number(units.mean[unit])} on average, whatever the input."]
    found = [_looks_for(drives(units, place, facts), names)] if names else []
    if units.of_classes is not None and facts.class_names is not None:
        found.append(_classes(units, unit, units.of_classes[:, unit], facts.class_names))
    return [*found, _activity(units, unit)]


def is_dead(units: Units, unit: int) -> bool:
    """Return whether a unit is never active, or always alike."""
    bounded = isinstance(units.layer.sparsity, KLSparsity)
    return bool(units.high[unit] <= units.low[unit] or (bounded and units.rho_hat[unit] < DEAD))


def drives(units: Units, place: int, facts: Facts) -> np.ndarray:
    """Return how much each column moves a unit, (features,), shares whose absolute values sum to 1.

    A share is in proportion to the column's value in the unit's maximal input, times its standard deviation.
    """
    moved = units.layer.maximal[:, units.shown[place]] * facts.deviation
    total = np.abs(moved).sum()
    return moved / total if total else moved


def preferred(units: Units, unit: int) -> list[int]:
    """Return the numbers of the classes that a unit fires for, three at most, the one it fires most for first."""
    if units.of_classes is None:
        return []
    above = units.of_classes[:, unit] - units.low[unit]
    order = np.argsort(-above, kind="stable")[:3]
    return [int(label) for label in order if above[label] > PREFERRED * (units.mean[unit] - units.low[unit])]


def _looks_for(shares: np.ndarray, names: Sequence[str]) -> str:
    order = np.argsort(-np.abs(shares), kind="stable")[:3]
    strong = [i for i in order if abs(shares[i]) >= STRONG] or order[:1]
    parts = [f"{names[i]} is {'high' if shares[i] > 0 else 'low'}" for i in strong]
    return f"It is most active if {_joined(parts)}."


def _classes(units: Units, unit: int, means: np.ndarray, names: Sequence[str]) -> str:
    found = preferred(units, unit)
    if not found:
        return "It tells the classes hardly apart: on none of them it is much more active than on all."
    there, over_all = _joined([_number(means[label]) for label in found]), _number(units.mean[unit])
    which = _joined([names[label] for label in found])
    return f"It fires most for {which}: its mean activation there is {there}, over all rows {over_all}."


def _activity(units: Units, unit: int) -> str:
    if units.zeros[unit] > 0:
        return f"It is exactly 0 for {units.zeros[unit]:.1%} of the rows, and reaches {_number(units.high[unit])}."
    sparsity = units.layer.sparsity
    rho = f", where training aims at rho = {sparsity.rho:g}" if isinstance(sparsity, KLSparsity) else ""
    low = units.low[unit] if abs(units.low[unit]) > 1e-3 * abs(units.high[unit]) else 0
    ends = f"from {_number(low)} to {_number(units.high[unit])}"
    return f"Its activation goes {ends}; its mean, rho_hat, is {_number(units.rho_hat[unit])}{rho}."


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _number(value: Any) -> str:
    return f"{float(value):.3g}"
