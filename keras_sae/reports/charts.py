"""Charts as Vega-Lite specifications, which a browser draws and vl-convert turns into PNG."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..visualization import TERMS

POINTS = 200  # of a curve at most
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
VERSION = "5.21"  # of Vega-Lite, which the specifications are written for
COLORS = ["#2f81c7", "#d9722b", "#1b9e77", "#b35fc9", "#999999", "#c9a227"]  # seen on white and on black
INK = "currentColor"  # the page's, which is light in dark mode
QUANTITY, NOMINAL = {"type": "quantitative"}, {"type": "nominal"}


def chart(description: str, ink: str = INK, height: Any = 160, **parts: Any) -> dict[str, Any]:
    """Return a chart as wide as its container, on a transparent ground, with lines and letters of one colour.

    description: what a screen reader says of it.  parts: of the specification.
    """
    axis: dict[str, Any] = {
        "labelColor": ink,
        "titleColor": ink,
        "domainColor": ink,
        "tickColor": ink,
        "gridColor": ink,
    }
    axis |= {"gridOpacity": 0.15, "titleFontWeight": "normal", "labelFontSize": 11, "titleFontSize": 12}
    legend = {
        "labelColor": ink,
        "titleColor": ink,
        "orient": "bottom",
        "title": None,
        "labelFontSize": 12,
        "columns": 3,
    }
    title = {"color": ink, "fontSize": 13, "fontWeight": "normal"}
    header = {"labelColor": ink, "labelFontSize": 12}
    config = {"axis": axis, "legend": legend, "title": title, "header": header, "view": {"stroke": None}}
    return {
        "$schema": SCHEMA, "description": description, "background": None, "width": "container", "height": height,
        "config": {**config, "range": {"category": COLORS}}, **parts,
    }  # fmt: skip


def curves(name: str, history: Mapping[str, Sequence[float]], step: str) -> dict[str, Any]:
    """Return the chart of the objective and its terms against the step, an iteration, say, of one stage."""
    values, positive = [], True
    for key, label in TERMS.items():
        numbers = np.asarray(history.get(key, []), "float64")
        if numbers.any():
            positive &= bool((numbers > 0).all())
            places = np.unique(np.linspace(0, len(numbers) - 1, POINTS).astype(int))
            values += [{"step": int(i) + 1, "term": label, "value": significant(numbers[i])} for i in places]
    ends = [row["value"] for row in values if row["term"] == TERMS["loss"]]
    text = f"{name}: the objective from {ends[0]} to {ends[-1]} in {len(history['loss'])} steps" if ends else name
    return chart(
        text, title=name, data={"values": values}, mark={"type": "line", "tooltip": True},
        encoding={
            "x": {"field": "step", **QUANTITY, "title": step, "axis": {"tickMinStep": 1}},
            "y": {"field": "value", **QUANTITY, "title": None, "scale": {"type": "log" if positive else "linear"}},
            "color": {"field": "term", **NOMINAL, "sort": [TERMS[key] for key in TERMS]},
        },
    )  # fmt: skip


def rho_hats(name: str, rho_hat: np.ndarray, rho: float | None) -> dict[str, Any]:
    """Return the histogram of the units' mean activations, with a rule at their target rho if they have one."""
    counts, edges = np.histogram(rho_hat, bins=30)
    bars = _bars(counts, edges)
    aim = f"; the target rho is {rho:g}" if rho is not None else ""
    text = f"{name}: mean activations of {len(rho_hat)} units, from {rho_hat.min():.3g} to {rho_hat.max():.3g}{aim}"
    layers = [
        {
            "data": {"values": bars},
            "mark": {"type": "bar", "tooltip": True},
            "encoding": _histogram("mean activation", "units"),
        }
    ]
    if rho is not None:
        rule = {"type": "rule", "strokeDash": [5, 4], "strokeWidth": 2, "color": COLORS[1]}
        layers.append(
            {"data": {"values": [{"rho": rho}]}, "mark": rule, "encoding": {"x": {"field": "rho", **QUANTITY}}}
        )
    return chart(text, title=f"{name}{aim}", layer=layers)


def activation_histogram() -> dict[str, Any]:
    """Return the histogram of a unit's activations, into which the page puts {"low", "high", "count"}."""
    encoding = _histogram("activation", "rows", scale={"type": "symlog", "constant": 1})
    return chart(
        "How often the unit has which activation", height=110, mark={"type": "bar", "tooltip": True}, encoding=encoding
    )


def class_bars() -> dict[str, Any]:
    """Return the chart of a unit's mean activation on each class, into which the page puts {"name", "mean"}."""
    encoding = {
        "y": {"field": "name", **NOMINAL, "title": None, "sort": None},
        "x": {"field": "mean", **QUANTITY, "title": "mean activation"},
    }
    return chart(
        "Mean activation of the unit on each class",
        height={"step": 15},
        mark={"type": "bar", "tooltip": True},
        encoding=encoding,
    )


def comparison(rows: Sequence[Mapping[str, Any]], runs: Sequence[str], ink: str = INK) -> dict[str, Any]:
    """Return bars of several numbers of runs, a panel for each number.

    rows: {"run", "number", "value"}.
    """
    numbers = list(dict.fromkeys(row["number"] for row in rows))
    inner = {
        "width": 320, "height": {"step": 20}, "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": {"field": "run", **NOMINAL, "title": None, "sort": list(runs), "axis": {"labelLimit": 160}},
            "x": {"field": "value", **QUANTITY, "title": None},
            "color": {"field": "run", **NOMINAL, "legend": None, "sort": list(runs)},
        },
    }  # fmt: skip
    facet = {"field": "number", **NOMINAL, "title": None, "sort": numbers, "header": {"labelAnchor": "start"}}
    made = chart(f"{', '.join(numbers)} of the runs {', '.join(runs)}", ink, data={"values": list(rows)})
    del made["width"], made["height"]
    return {**made, "facet": facet, "columns": 2, "spec": inner, "resolve": {"scale": {"x": "independent"}}}


def significant(value: float) -> float | None:
    """Return a number with four digits that count; None, which JSON has, for what is none."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _bars(counts: np.ndarray, edges: np.ndarray) -> list[dict[str, Any]]:
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    return [{"low": low, "high": high, "count": count} for low, high, count in pairs]


def _histogram(of_x: str, of_y: str, **options: Any) -> dict[str, Any]:
    return {
        "x": {"field": "low", **QUANTITY, "title": of_x, "bin": {"binned": True}, "axis": {"labelOverlap": "greedy"}},
        "x2": {"field": "high"},
        "y": {"field": "count", **QUANTITY, "title": of_y, **options},
    }
