"""What stands on the page of a model, and how it becomes HTML."""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from .. import extras
from ..autoencoder import Autoencoder
from ..cli import spelled
from ..errors import InputError
from ..runs import cards, records
from ..sparsity import KLSparsity, SparsityMethod
from . import charts
from .facts import Facts
from .payload import payload
from .words import is_dead

MOST_CLASSES = 30  # of a confusion matrix that is shown whole
MOST_COLUMNS = 30  # of the table of how well columns come back
TILE, EXAMPLE = 48, 64  # pixels on the screen, about, of the height of what units look for and of examples
SHOWN_COLUMNS, SHOWN_ROWS = 6, 8  # of a table, beside what comes back


def render_report(
    facts: Facts,
    model: keras.Model,
    record: Mapping[str, Any],
    metrics: Mapping[str, float],
    histories: Mapping[str, Mapping[str, Sequence[float]]],
    rho_hats: Sequence[np.ndarray] = (),
    step: str = "iteration",
    classifier: keras.Model | None = None,
    directory: pathlib.Path | None = None,
) -> str:
    """Return the page of a model, HTML: see `report.write_report`; `record` and `metrics` are those of a run."""
    shape = tuple(record["image_shape"]) if record.get("image_shape") else None
    features = facts.inputs.shape[1]
    if shape is not None and np.prod(shape) != features:
        raise InputError(f"Expected a shape of {features:,} pixels. Received: {shape}. Give the shape that rows have.")
    names = record.get("feature_names") or [f"column {i}" for i in range(features)]
    if len(names) != features:
        raise InputError(f"Expected {features:,} names of columns, as the rows have. Received: {len(names):,}.")
    data, sprites = payload(facts, shape, names)
    exact = len(rho_hats) == len(facts.layers) > 0
    measured = rho_hats if exact else [units.rho_hat for units in facts.layers]
    data["charts"] = _charts(facts, histories, measured, step)
    data["sprites"] = {name: {"columns": sprite.columns, "rows": sprite.rows} for name, sprite in sprites.items()}
    data["size"] = _enlarged(shape[0], EXAMPLE) if shape else None
    judge = classifier or (None if isinstance(model, Autoencoder) else model)
    context = {
        "record": {**dict.fromkeys(records.KINDS), **record}, "facts": facts, "data": data, "sprites": sprites,
        "headlines": _headlines(facts), "shape": shape,
        "numbers": cards.measured(metrics, record.get("meanings") or {}),
        "architecture": _architecture(model, facts),
        "of_training": exact, "columns": _columns(facts, names), "values": _values(facts, model, names, shape),
        "confusions": _confusions(facts), "most_classes": MOST_CLASSES, "judge": judge is not None,
        "units": len(facts.layers[-1].mean) if facts.layers else None,
        "tile_size": _enlarged(shape[0], TILE) if shape else None,
        "decodes": bool(facts.reconstructions), "directory": directory, "spelled": spelled,
    }  # fmt: skip
    return render("report.html", **context)


def render(name: str, **context: Any) -> str:
    """Return a page from its template; whatever the context holds is escaped."""
    jinja2 = extras.imported("jinja2", "write a report")
    loader = jinja2.PackageLoader(__package__, "page")
    options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    environment = jinja2.Environment(loader=loader, autoescape=True, **options)
    environment.filters["number"] = lambda value: f"{value:.4g}"
    return environment.get_template(name).render(script=bundle(), **context)


@functools.cache
def bundle() -> str:
    """Return the JavaScript that draws the charts, for a <script> of a page."""
    convert = extras.imported("vl_convert", "write a report")
    return convert.javascript_bundle(vl_version=charts.VERSION).replace("</script", "<\\/script")


def _enlarged(height: int, wanted: int) -> int:
    """Return the height of a tile on the screen, as many times its own as come near the wanted one."""
    return height * max(1, round(wanted / height))


def _charts(facts: Facts, histories: Mapping, rho_hats: Sequence[np.ndarray], step: str) -> dict[str, list]:
    """Return the charts of every stage and layer."""
    found = []
    for place, units in enumerate(facts.layers):
        rho = units.layer.sparsity.rho if isinstance(units.layer.sparsity, KLSparsity) else None
        found.append(charts.rho_hats(units.layer.name, rho_hats[place], rho))
    drawn = [charts.curves(name, history, step) for name, history in histories.items() if any(history.get("loss", []))]
    return {"rho_hat": found, "curves": drawn}


def _headlines(facts: Facts) -> list[tuple[str, str]]:
    """Return (number, what it is) of what one asks first."""
    found = []
    if facts.confusion is not None:
        found.append((f"{np.trace(facts.confusion) / facts.rows:.1%}", f"of {facts.rows:,} held-out rows named right"))
    if facts.explained_in_all is not None:
        found.append(
            (f"{facts.explained_in_all:.1%}", "of the variance of these rows comes back in the reconstruction")
        )
    for units in facts.layers:
        zeros = units.zeros.mean()
        what = "activations are exactly 0" if zeros > 0 else "mean activation"
        number = f"{zeros:.1%}" if zeros > 0 else f"{units.rho_hat.mean():.3g}"
        dead = sum(is_dead(units, unit) for unit in range(len(units.mean)))
        found.append((number, f"{what} in {units.layer.name}; {dead} of {len(units.mean):,} units dead"))
    return found


def _architecture(model: keras.Model, facts: Facts) -> list[dict[str, Any]]:
    """Return what the layers are, for a table."""
    if not isinstance(model, Autoencoder):
        return []
    rows = []
    for autoencoder in getattr(model, "autoencoders", [model]):
        sparsity = autoencoder.sparsity
        described = isinstance(sparsity, (KLSparsity, SparsityMethod))
        penalty = repr(sparsity) if described else sparsity and type(sparsity).__name__
        inputs, units = autoencoder.encoder.input_shape[-1], autoencoder.encoder.output_shape[-1]
        activation = getattr(getattr(autoencoder, "activation", None), "__name__", "")
        decay = getattr(autoencoder, "weight_decay", None)
        rows.append({"inputs": inputs, "units": units, "activation": activation, "penalty": penalty, "decay": decay})
    return rows


def _columns(facts: Facts, names: Sequence[str]) -> list[tuple[str, float | None]]:
    """Return (name, share of its variance that comes back) of the columns of a table, the worst first."""
    if facts.explained is None:
        return []
    order = [i for i in np.argsort(facts.explained) if np.isfinite(facts.explained[i])]
    return [(names[i], float(facts.explained[i])) for i in order[:MOST_COLUMNS]]


def _values(facts: Facts, model: Any, names: Sequence[str], shape: Any) -> dict[str, Any] | None:
    """Return some rows of a table beside what comes back, of the columns that vary most, in their own units."""
    if shape is not None or not facts.reconstructions:
        return None
    back = model.unscaled(list(facts.reconstructions.values())[-1])
    rows = (facts.inputs if back is None else facts.raw)[[facts.kept[row] for row in facts.reconstructed]]
    back = list(facts.reconstructions.values())[-1] if back is None else back
    columns = np.argsort(-facts.deviation, kind="stable")[:SHOWN_COLUMNS]
    return {
        "names": [names[i] for i in columns],
        "rows": [
            (number, [(float(row[i]), float(given[i])) for i in columns])
            for number, row, given in list(zip(facts.reconstructed, rows, back, strict=True))[:SHOWN_ROWS]
        ],
    }


def _confusions(facts: Facts) -> list[tuple[int, str, str]]:
    """Return (how many, class, what it was taken for), the commonest mistakes first."""
    if facts.confusion is None or facts.class_names is None:
        return []
    wrong = facts.confusion - np.diag(np.diag(facts.confusion))
    order = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None, kind="stable")[:10]]
    names = facts.class_names
    return [(int(wrong[place]), names[place[0]], names[place[1]]) for place in order if wrong[place]]
