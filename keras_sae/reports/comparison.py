"""Runs side by side: what differs in their settings, and what they measured, as a table and as one plot."""

import argparse
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from .. import extras
from ..cli import CONSOLE, Parser, reported
from ..errors import InputError
from ..files import write_aside
from ..runs import cards, records

# Beginnings of the names of numbers that are compared, in this order; names with an end of an interval are left out.
COMPARED = (
    "objective", "error", "reconstruction_error", "explained_variance", "mse", "accuracy", "rho_hat_mean", "dead_units",
    "l0", "seconds_total",
)  # fmt: skip
ENDS = ("_low", "_high")
SCALE = 2  # pixels of the PNG for each of the plot
NAME = "comparison"
Row = tuple[str, list[Any]]  # of a table: what it is, and its value in each run, None if a run has none


def main(words: Sequence[str]) -> None:
    """Compare the runs that the command line names."""
    parser = Parser(f"{CONSOLE} compare", "Compare runs: what differs in their settings, and what they measured.")
    parser.add_argument("runs", metavar="RUN", nargs="+", help="directory of a run")
    parser.add_argument("--out", metavar="FOLDER", help=f"write {NAME}.html and {NAME}.png, the numbers as bars, here")
    arguments = parser.parse_args(words)
    with reported(f"{CONSOLE} compare"):
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """Print the table of the runs; write the page and the plot if a directory for them is named.

    Raises:
        InputError: fewer than two runs, or one that is none, or has no numbers; or a package is missing.
    """
    if len(arguments.runs) < 2:
        raise InputError(
            f"Expected two runs or more to compare. Received: {arguments.runs[0]} alone. Name another one."
        )
    if arguments.out:
        extras.check_for_reports()
    names = short_names(arguments.runs)
    configs = [records.read_config(run) for run in arguments.runs]
    differing = settings([config.get("settings", {}) for config in configs])
    measured = numbers([_metrics(run) for run in arguments.runs])
    if not measured:
        raise InputError(
            f"Expected runs with numbers that can be compared. Received: {', '.join(arguments.runs)}, which have none "
            f"that begin with {', '.join(COMPARED)}."
        )
    print(as_text(names, differing, measured))  # noqa: T201, a command
    if arguments.out:
        for path in write(pathlib.Path(arguments.out), names, differing, measured):
            print(f"written     {path}")  # noqa: T201


def short_names(runs: Sequence[str]) -> list[str]:
    """Return a name for each run: that of its directory, or the whole path if two have the same."""
    names = [pathlib.Path(run).resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def settings(of_runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the settings that differ between runs, without the directories that they write into."""
    names = dict.fromkeys(name for found in of_runs for name in found if name != "out")
    rows = [(name, [found.get(name) for found in of_runs]) for name in names]
    return [(name, values) for name, values in rows if any(value != values[0] for value in values)]


def numbers(of_runs: Sequence[Mapping[str, float]]) -> list[Row]:
    """Return the numbers that one run or more has, those of one kind together."""
    names = dict.fromkeys(name for found in of_runs for name in found)
    measured = [name for name in names if not (name.endswith(ENDS) and name.rpartition("_")[0] in names)]
    kinds = {name: next((kind for kind in COMPARED if name.startswith(kind)), None) for name in measured}
    rows = [(name, [found.get(name) for found in of_runs]) for name in measured if kinds[name] is not None]
    return sorted(rows, key=lambda row: COMPARED.index(str(kinds[row[0]])))


def as_text(names: Sequence[str], differing: Sequence[Row], measured: Sequence[Row]) -> str:
    """Return the table for a terminal: a line for each setting and number, a column for each run."""
    lines = [["", *names], *_texts(differing), *_texts(measured)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names) + 1)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    )


def write(
    directory: pathlib.Path, names: Sequence[str], differing: Sequence[Row], measured: Sequence[Row]
) -> list[pathlib.Path]:
    """Write comparison.html and comparison.png. Return their paths."""
    from . import charts  # NumPy and Keras, which mistakes and tables do without
    from .page import render

    bars = [
        {"run": name, "number": number, "value": value}
        for number, values in measured
        if any(values)
        for name, value in zip(names, values, strict=True)
        if value is not None
    ]
    directory.mkdir(parents=True, exist_ok=True)
    page, picture = directory / f"{NAME}.html", directory / f"{NAME}.png"
    convert = extras.imported("vl_convert", "draw a plot")
    spec = charts.comparison(bars, names, "black") | {"background": "white"}
    data = {"charts": {"comparison": [charts.comparison(bars, names)]}}
    tables = {"Settings that differ": _texts(differing), "Numbers": _texts(measured)}
    with write_aside(picture) as aside:
        aside.write_bytes(convert.vegalite_to_png(spec, vl_version=charts.VERSION, scale=SCALE))
    with write_aside(page) as aside:
        html = render("comparison.html", names=names, tables=tables, data=data)
        aside.write_text(html, encoding="utf-8", errors="backslashreplace")
    return [page, picture]


def _metrics(run: str | os.PathLike[str]) -> dict[str, float]:
    if not (pathlib.Path(run) / "metrics.json").is_file():
        raise InputError(
            f"Expected runs with numbers, metrics.json. Received: {run}, which has none: it did not finish. Resume its "
            "training first, or leave it out."
        )
    return records.read_metrics(run)


def _texts(rows: Sequence[Row]) -> list[list[str]]:
    return [[name, *(_text(value) for value in values)] for name, values in rows]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return cards.formatted(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
