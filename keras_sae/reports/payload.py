"""What the script of a page knows: each unit with its examples, as JSON, and the pictures as sprites."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import tiles
from . import charts, words
from .charts import significant
from .facts import Facts
from .units import Best, Units

COLUMNS = 8  # of a table at most that are shown of a unit: those that drive it
VALUES = 5  # of these, whose values are shown of each row
MOST_CLASSES = 20  # in the chart of a unit: those it fires for most


def payload(
    facts: Facts, shape: tuple[int, ...] | None, names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, tiles.Sprite]]:
    """Return what the script of a page knows, ready for JSON, and the sprites by their names.

    shape: of the rows as pictures, or None.  names: of the columns, for rows that are none.
    """
    sprites = {} if shape is None else _sprites(facts, shape)
    layers = [
        {
            "name": units.layer.name,
            "looks": f"looks-{number}" if shape else None,
            "adds": f"adds-{number}" if shape and units.additions is not None else None,
            "units": [_unit(units, place, facts, () if shape else names) for place in range(len(units.shown))],
        }
        for number, units in enumerate(facts.layers)
    ]
    labels = None if facts.labels is None else [int(facts.labels[row]) for row in facts.kept]
    data = {
        "layers": layers, "rows": list(facts.kept), "labels": labels, "classes": facts.class_names,
        "examples": None if shape is None else "examples",
        "histogram": charts.activation_histogram(), "bars": charts.class_bars(),
    }  # fmt: skip
    return data, sprites


def _sprites(facts: Facts, shape: tuple[int, ...]) -> dict[str, tiles.Sprite]:
    """Return the tiles of the rows that are shown, of what units look for and add, and of reconstructions."""
    found = [tiles.Sprite("examples", tiles.exposed(facts.raw, shape, tiles.ends_of(facts.raw)))]
    for number, units in enumerate(facts.layers):
        # Unlike those of display_network, tiles keep their mean: a unit that looks for darkness has a dark one.
        found.append(tiles.Sprite(f"looks-{number}", tiles.contrasted(units.layer.maximal[:, units.shown].T, shape)))
        if units.additions is not None:
            found.append(tiles.Sprite(f"adds-{number}", tiles.contrasted(units.additions, shape)))
    if facts.reconstructions:
        rows = facts.inputs[[facts.kept[row] for row in facts.reconstructed]]
        every = [rows, *facts.reconstructions.values()]
        found.append(tiles.Sprite("rebuilt", tiles.exposed(np.concatenate(every), shape, tiles.ends_of(rows))))
    return {sprite.name: sprite for sprite in found}


def _unit(units: Units, place: int, facts: Facts, names: Sequence[str]) -> dict[str, Any]:
    number = int(units.shown[place])
    preferred = words.preferred(units, number)
    found = {
        "number": number,
        "mean": significant(units.mean[number]),
        "dead": words.is_dead(units, number),
        "sentences": words.sentences(units, place, facts, names),
        "fires": [(facts.class_names or [])[label] for label in preferred],
        "zeros": significant(units.zeros[number]),
        "top": _examples(units.top, place, facts),
        "middling": [
            pair for pair in _examples(units.middling, place, facts) if pair not in _examples(units.top, place, facts)
        ],
        "near": [(other, significant(cosine)) for other, cosine in units.nearest[place] if cosine > 0],
        "edges": [significant(edge) for edge in units.edges[:, place]],
        "counts": units.counts[:, place].tolist(),
    }
    if units.of_classes is not None:
        order = np.arange(len(facts.class_names or []))
        if len(order) > MOST_CLASSES:
            order = np.argsort(-units.of_classes[:, number], kind="stable")[:MOST_CLASSES]
        means = zip(order, units.of_classes[order, number], strict=True)
        found["means"] = [(int(label), significant(mean)) for label, mean in means if not np.isnan(mean)]
    if names:
        found["columns"] = _columns(units, place, facts, names, found["top"])
        found["values"] = {
            kind: [_values(facts, pair[0], found["columns"][:VALUES]) for pair in found[kind]]
            for kind in ("top", "middling")
        }
    return found


def _examples(best: Best, place: int, facts: Facts) -> list[tuple[int, float | None]]:
    """Return (where the row stands among those that are shown, activation) of a unit."""
    return [(facts.kept[row], significant(value)) for row, value in best.of(place)]


def _columns(units: Units, place: int, facts: Facts, names: Sequence[str], top: list) -> list[dict[str, Any]]:
    """Return the columns that drive a unit, the strongest first, with their means over its top rows and over all."""
    shares = words.drives(units, place, facts)
    order = np.argsort(-np.abs(shares), kind="stable")[:COLUMNS]
    rows = facts.raw[[kept for kept, _ in top]].astype("float64")
    return [
        {
            "index": int(i), "name": names[i], "share": significant(shares[i]),
            "all": significant(facts.raw_mean[i]), "top": significant(rows[:, i].mean()) if len(rows) else None,
        }
        for i in order
    ]  # fmt: skip


def _values(facts: Facts, kept: int, columns: Sequence[dict[str, Any]]) -> list[float | None]:
    return [significant(float(facts.raw[kept, column["index"]])) for column in columns]
