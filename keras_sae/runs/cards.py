"""The card of a run, in Markdown for people: how it was made, how to use it, and what was measured."""

import pathlib
import re
import textwrap
import typing
from collections.abc import Iterable, Mapping

from ..cli import spelled

SHOWN = 50  # columns
PICTURES = ("features", "reconstructions", "curves")
# What has a meaning in Markdown, in HTML or in formulas; _ has none within a word, as in max_iterations.
SPECIAL = re.compile(r"[\\`*<|$~]|\](?=[(\[:])|&(?=[#\w]+;)|(?<!\w)_|_(?!\w)")


def escaped(text: object) -> str:
    """Return a text in one line of Markdown that shows the text as it is, whatever it holds."""
    return SPECIAL.sub(r"\\\g<0>", " ".join(str(text).split()))


def code(text: object) -> str:
    """Return a text as code within a line of Markdown."""
    return f"`{' '.join(str(text).split()).replace('`', chr(39))}`"


def render(directory: pathlib.Path, config: Mapping[str, typing.Any], metrics: Mapping[str, float]) -> str:
    """Return the README.md of a run with this record and these numbers; it shows the pictures in the directory."""
    lines = [f"# {escaped(config.get('title', directory.name))}", ""]
    if "command" in config:
        lines += ["Made by:", "", textwrap.indent(config["command"], "    ", lambda line: True), ""]
    if "data" in config:
        lines += [f"Data: {escaped(config['data'])}.", ""]
    for title, sentences in {"Cautions": config.get("cautions"), "Notes on the data": config.get("notes")}.items():
        if sentences:
            lines += [f"{title}:", "", *(f"- {escaped(sentence)}" for sentence in sentences), ""]
    lines += _usage_lines(directory)
    lines += numbers_lines(directory, config, metrics, PICTURES, directory)
    return "\n".join(lines) + "\n"


def numbers_lines(
    directory: pathlib.Path,
    config: Mapping[str, typing.Any],
    metrics: Mapping[str, float],
    pictures: Iterable[str],
    run: object = None,
) -> list[str]:
    """Return the lines on what was measured, those of these pictures that there are, and the settings of a run.

    run: how commands name it, if they are to be shown.
    """
    lines = _scaling_lines(config)
    if metrics:
        lines += ["## Measured", "", *_metrics_table(metrics, config.get("meanings")), ""]
    lines += _usual_errors_lines(directory, config.get("usual_errors"), run)
    for picture in pictures:
        if (directory / f"{picture}.png").exists():
            lines += [f"![{picture}]({picture}.png)", ""]
    lines += ["## Settings", "", "| setting | value |", "|---|---|"]
    lines += [f"| {escaped(name)} | {escaped(value)} |" for name, value in config.get("settings", {}).items()]
    lines += [
        f"| version of {escaped(name)} | {escaped(value)} |" for name, value in config.get("versions", {}).items()
    ]
    return lines


def _usage_lines(directory: pathlib.Path) -> list[str]:
    """Return the lines that show how to load a run and how to export it."""
    encoders = ["encoder = keras_sae.runs.encoder_of(model)  # x -> features"]
    if (directory / "pretrained.keras").exists():
        encoders = [
            'encoder = keras_sae.load_encoder("RUN")  # x -> features, learned without labels',
            'finetuned = keras_sae.load_encoder("RUN", finetuned=True)  # the network below the softmax, after labels',
        ]
    return [
        *("## Use", "", "```python", "import keras_sae", ""),
        'model = keras_sae.load("RUN")  # this directory',
        *encoders,
        *("```", ""),
        spelled(f"`python -m export {directory} --out DIR` writes the encoder as SavedModel and LiteRT file."),
        "",
    ]


def _usual_errors_lines(directory: pathlib.Path, record: Mapping[str, typing.Any] | None, run: object) -> list[str]:
    """Return the lines on the errors of rows that were not learned from, beside which other rows are odd."""
    if record is None:
        return []
    from ..anomalies import UsualErrors  # NumPy, which --help and mistakes do without

    usual = UsualErrors.read(record, directory)
    supported = {level: error for level, error in usual.quantiles.items() if usual.supports(level)}
    return [
        *("## Odd rows", ""),
        f"Errors of the {usual.rows:,} held-out rows: half the squared distance of a row to its reconstruction, in",
        "columns as scaled, but not cut off. Of new rows like these, no more than a share of 1 - q is expected above",
        "the quantile of q. Higher ones would need more rows.",
        "",
        f"| q | {' | '.join(map(str, supported))} |",
        f"|---|{'---|' * len(supported)}",
        f"| error | {' | '.join(map(formatted, supported.values()))} |",
        "",
        *(_anomalies_lines(run) if run else []),
    ]


def _anomalies_lines(run: object) -> list[str]:
    command = spelled(f"`python -m export.anomalies {run} --data FILE --out scores.csv`")
    return [f"{command} finds the rows that are odd, and", "what in them is.", ""]


def _scaling_lines(config: Mapping[str, typing.Any]) -> list[str]:
    """Return the table of what becomes 0 and 1 inside the model, of runs on tables that scale each column."""
    ranges = column_ranges(config)
    if not ranges:
        return []
    said = "Inside the model each column is scaled; what lies beyond is cut off."
    more = len(ranges) - SHOWN
    return [
        *("## Columns", "", said + f" {more:,} more columns are in run.json." * (more > 0), ""),
        *("| column | becomes 0 | becomes 1 |", "|---|---|---|"),
        *(f"| {escaped(name)} | {low:.6g} | {high:.6g} |" for name, low, high in ranges[:SHOWN]),
        "",
    ]


def column_ranges(config: Mapping[str, typing.Any]) -> list[tuple[str, float, float]]:
    """Return (name, what becomes 0, what becomes 1) of the columns of a run, or nothing if they are not known.

    After normalised contrast or whitening, no value of a column becomes 0 or 1 by itself.
    """
    names, low, high = (config.get(name) for name in ("feature_names", "low", "high"))
    if not (isinstance(names, list) and isinstance(low, list) and isinstance(high, list)):
        return []
    whole = len(names) == len(low) == len(high) and all(isinstance(end, int | float) for end in (*low, *high))
    return list(zip(names, low, high, strict=True)) if whole else []


def _metrics_table(metrics: Mapping[str, float], meanings: Mapping[str, str] | None) -> list[str]:
    """Return the table of the numbers with their intervals, and say what each is if that is recorded."""
    rows = [[escaped(name), text, escaped(meaning)] for name, text, meaning in measured(metrics, meanings or {})]
    head = ["number", "value", "what it is"] if meanings else ["number", "value"]
    lines = [f"| {' | '.join(row[: len(head)])} |" for row in [head, *rows]]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]


def measured(metrics: Mapping[str, float], meanings: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return (name, number as text, what it is) of the numbers of a run; those with an interval say it."""
    texts = {name: formatted(value) for name, value in metrics.items()}
    for name in metrics:
        ends = [f"{name}_{end}" for end in ("low", "high")]
        if texts.keys() >= {*ends}:
            texts[name] += f" (95 % interval {' to '.join(texts.pop(end) for end in ends)})"
    return [(name, text, meanings.get(name, "")) for name, text in texts.items()]


def formatted(value: float) -> str:
    """Return a number of a run as its card shows it."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
