"""What was found, in a few lines: how many rows are odd, and what is odd in those that are the oddest."""

import numpy as np

from keras_sae.data.readers import Rows

from ..features.outputs import Table
from .scoring import Scored, Scorer

ROWS = 5  # the oddest, which are shown


def print_summary(output: Table, rows: Rows, scorer: Scorer, scored: Scored, threshold: str) -> None:
    """Print how many rows of a complete output are odd, and the oddest.  threshold: where it comes from, in words."""
    number, oddest = oddest_rows(output)
    share = number / len(rows.x)
    print(
        f"odd         {number:,} of {len(rows.x):,} rows ({share:.2%}): error above {scorer.threshold:.4g}, {threshold}"
    )
    if share > 0.5:
        print("note        more rows are odd than not: are they in the units of those that the run was trained on?")
    print("error       half the squared distance of a row to its reconstruction, in columns as scaled")
    for line in described(oddest, rows, scorer, scored):
        print(line)


def oddest_rows(output: Table) -> tuple[int, np.ndarray]:
    """Return how many rows are odd, and the numbers of those with the largest errors, the largest first.

    They are read from the output, of which an earlier process may have written a part.
    """
    start = number = 0
    errors, places = np.zeros(0), np.zeros(0, int)
    for part, odd in output.columns(error="double", odd="bool"):
        errors, places = np.append(errors, part), np.append(places, np.arange(start, start + len(part)))
        largest = np.argsort(-errors, kind="stable")[:ROWS]
        errors, places = errors[largest], places[largest]
        start, number = start + len(part), number + int(odd.sum())
    return number, places


def described(oddest: np.ndarray, rows: Rows, scorer: Scorer, scored: Scored) -> list[str]:
    """Return a line for each of these rows: its number and label, its error, and its oddest columns."""
    x = np.stack([np.asarray(rows.x[place], "float32") for place in oddest]) * np.float32(scorer.model.scale)
    scores = [scorer(rows.x[place : place + 1]) for place in oddest]
    expected = None if scored.autoencoder is None else scored.autoencoder.unscaled(scored.autoencoder(x))
    lines = ["oddest      row, from 0: error; its oddest columns, with their shares of what is odd and their values"]
    lines[0] += "" if expected is None else " (expected)"
    for i, (place, score) in enumerate(zip(oddest, scores, strict=True)):
        label = "" if rows.y is None or rows.y[place] < 0 else f" {rows.class_names[rows.y[place]]}"
        cells = []
        for k in range(1, scorer.shown + 1):
            column = int(score[f"column_{k}"][0])
            wanted = "" if expected is None else f" ({expected[i, column]:.4g})"
            share = float(score[f"share_{k}"][0])
            cells.append(f"{scorer.columns[column]} {share:.0%}, {x[i, column]:.4g}{wanted}")
        lines.append(f"  {place:>8,}{label}: {score['error'][0]:.4g}; {'; '.join(cells)}")
    return lines
