"""Find the rows of data of any size that are odd, and the columns that make them so.

RUN is a run of python -m train.features, or an export of one. A row is odd if its error is above that of nearly all
rows that the run held out: half the squared distance of the row to its reconstruction, in columns as scaled, but not
cut off. The output, a csv file or a directory of Parquet files, has a line for each row, in their order:

  error                        of the row
  odd                          whether it is above the threshold
  column_1, column_2, ...      names of the columns that are oddest in it, each beside its own usual error
  share_1, share_2, ...        their parts of what is odd in the row, of all columns 1
  error_NAME, ...              the terms of the error, one a column, of tables: see --column-errors

  python -m export.anomalies runs/features --data new.csv --out scores.parquet
  python -m export.anomalies runs/features --data new.csv --labels customer --out scores.csv --quantile 0.999
  python -m export.anomalies exports/features --data 'parts/*.parquet' --out scores.parquet

If it is killed or stopped, the same command resumes: what is done lies in .NAME.partial until the output is complete.
"""

import argparse
import math
import os
import pathlib
import sys

from keras_sae.anomalies import LEVELS, UsualErrors, needed_rows
from keras_sae.cli import Parser, stderr_suppressed

from ..features import extraction

PROGRAM = "export.anomalies"


def parse(words: list[str]) -> argparse.Namespace:
    parser = Parser(PROGRAM, __doc__)
    add = parser.add_argument
    add("run", metavar="RUN", type=pathlib.Path, help="directory of a run, or of an export, or an exported model")
    add(
        "--out", metavar="PLACE", required=True, type=extraction.place(".parquet", ".csv"),
        help="a new directory for Parquet, or a new .csv file",
    )  # fmt: skip
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--quantile", metavar="Q", type=float, choices=LEVELS,
        help=f"of the errors of held-out rows, above which a row is odd: {', '.join(map(str, LEVELS))} (default: 0.99, "
        "or the highest below it that so many rows support)",
    )  # fmt: skip
    either.add_argument(
        "--threshold", metavar="ERROR", type=finite, help="an error above which a row is odd, instead of a quantile"
    )
    add(
        "--column-errors", action=argparse.BooleanOptionalAction,
        help="write the error of each column as well (default: of columns that have names)",
    )  # fmt: skip
    extraction.add_flags(parser, "column to keep beside the scores, such as an identifier")
    return parser.parse_args(words)


def finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, received: {text}")
    return number


def main() -> None:
    arguments = parse(sys.argv[1:])
    os.environ["KERAS_BACKEND"] = "tensorflow"  # which computes, whatever the run was trained with
    extraction.run(PROGRAM, arguments, find)


def find(a: argparse.Namespace, output) -> None:
    """Read the data, score what is missing of the output, put it in its place, and print what was found."""
    from .scoring import Scorer, column_names, open_scored
    from .summary import print_summary

    with stderr_suppressed():
        scored = open_scored(a.run, a.model)
    if scored.note:
        print(f"note        {scored.note}")
    threshold, meaning = threshold_of(a, scored.usual)
    named = "feature_names" in scored.known if a.column_errors is None else a.column_errors
    more = {"threshold": threshold, "column_errors": named, "usual errors": scored.usual.record()}
    with extraction.read(a, output, scored.model, scored.known, **more) as rows:
        names = column_names(scored.known, rows)
        scorer = Scorer(scored.model, scored.usual, threshold, names, named)
        rate = extraction.write(scorer, rows, output, a.batch_size, names=scorer.names, texts=scorer.texts)
        print(f"{a.out}: {len(rows.x):,} rows ({rate:,.0f} rows/s)")
        print_summary(output, rows, scorer, scored, meaning)


def threshold_of(a: argparse.Namespace, usual: UsualErrors) -> tuple[float, str]:
    """Return the error above which a row is odd, and where it comes from; say what so few rows cannot tell."""
    if a.threshold is not None:
        return a.threshold, "--threshold"
    level = a.quantile or usual.level
    rows = f"{usual.rows:,} held-out rows"
    if not usual.supports(level):
        print(
            f"note        {rows} are too few for the {level} quantile of their errors, which needs "
            f"{needed_rows(level):,}: the largest error is taken"
        )
        return usual.quantiles[level], f"the largest of {rows}"
    if a.quantile is None and level < 0.99:
        print(f"note        {rows} support no higher quantile than {level}")
    return usual.quantiles[level], f"the {level} quantile of {rows}"


if __name__ == "__main__":
    main()
