"""Texts that are numbers, or nearly: in csv files, and in columns of texts."""

import pathlib
import re

from ...errors import InputError
from .rows import MISSING_VALUES

_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)", re.IGNORECASE)
DECORATED = re.compile(r"\W{0,2}\d[\d.,' ]*\W{0,2}")  # a number with a currency, a percent sign or separators


def is_number(text: str, point: str = ".") -> bool:
    """Return whether a text is a number, whose fraction begins with `point`."""
    swapped = text.strip() if point == "." else text.strip().translate(str.maketrans(".,", ",."))
    return _NUMBER.fullmatch(swapped) is not None


def not_a_number(value: str, name: str, row: int, file: pathlib.Path) -> InputError:
    """Return the error for a text among numbers in a row, counted from 1, with the cure that fits the text."""
    cure = f"If it marks a missing value: {MISSING_VALUES[0].lower()}{MISSING_VALUES[1:]}"
    if DECORATED.fullmatch(value.strip()):
        cure = "Write it as a plain number such as 1234.5."
    elif re.search(r"\w{2}", value):
        cure = "Correct or drop that row or column."
    return InputError(
        f"Expected a number in every row. Received: {value[:40]!r} in column {name!r}, row {row} (counted from 1) of "
        f"{file}. {cure}"
    )
