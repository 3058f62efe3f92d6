"""A reader of csv files, which pyarrow reads some rows at a time."""

import contextlib
import csv
import dataclasses
import io
import itertools
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import InputError
from ...extras import imported
from .bounds import allowed_bytes, check_memory
from .columns import COLUMN_BYTES, Columns, some, with_left_out
from .number_texts import is_number, not_a_number
from .rows import Rows
from .sources import Source

BLOCK_BYTES = 2**21  # of a csv file at a time; the first block decides the types
BLOCKS = 34  # in memory: pyarrow reads 32 ahead
ROW_BYTES = 16  # that a row takes at most, for each byte of the line of names
FIRST_LINES = 1000  # one of which holds names, while the others are empty
DELIMITERS = ",;\t|"

_CONVERSION = re.compile(
    r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to \w+: invalid value '(.*)'", re.S
)
_LENGTH = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,(\d{1,2}|\d{4,})(e[+-]?\d+)?", re.IGNORECASE)  # 1,234 may be a thousand


@dataclasses.dataclass(frozen=True)
class _Form:
    """How a csv file is written.

    Attributes:
        delimiter: what separates values: a comma, semicolon, tab or bar.
        first: the values of the first line.
        length: of this line.
        skipped: lines before it: one of "sep=;", or none.
        packed: whether the file is gzipped.
        no_header: whether the first line holds data, not names.
        decimal_point: "." or ",".
    """

    delimiter: str
    first: list[str]
    length: int
    skipped: int
    packed: bool
    no_header: bool
    decimal_point: str = "."

    def names(self) -> list[str]:
        """Return the names of the columns, with the spaces around them."""
        return [str(i + 1) for i in range(len(self.first))] if self.no_header else self.first


def read_csv(
    source: Source,
    labels: str | None = None,
    no_header: bool = False,
    names: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    one_hot: bool | Mapping[str, Sequence[str]] | None = None,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return the columns of csv files as one table. `labels` is the name of a column, whose classes are its text.

    `names` are those of the columns to read, in this order; by default all are but those of `ignore`.
    `one_hot` reads columns of texts as columns of 0 and 1.

    Values are separated by commas, semicolons, tabs or bars, whichever the first line has most of, or as a line "sep=;"
    before it says.
    """
    arrow = imported("pyarrow")
    imported("pyarrow.csv")
    forms = {file: _form_of(file, no_header) for file in source.files}
    path, form = next(iter(forms.items()))
    for other, its in forms.items():
        if its.names() != form.names():
            raise InputError(
                f"Expected csv files of the same columns. Received: {path} with {some(form.names())} and {other} with "
                f"{some(its.names())}. Name only those of one table."
            )
    notes = _notes(form, path)
    columns, first = _described(path, form, labels, source, names, ignore, one_hot)
    if first is not None and _has_decimal_commas(first, columns):
        form = dataclasses.replace(form, decimal_point=",")
        notes.append("commas in numbers were read as decimal points")
        columns, first = _described(path, form, labels, source, names, ignore, one_hot)
    _check_delimiter(first, columns, path)
    columns.check(first, path, form.decimal_point)
    double, text = arrow.float64(), arrow.string()
    numbers = {*columns.features} - {*columns.texts()}
    types = {  # a feature may hold integers at first and fractions later
        name: text if i not in numbers else kind if kind == "bool" else double
        for i, (name, kind) in enumerate(zip(columns.names_in_file, columns.types, strict=True))
    }
    forms = {file: dataclasses.replace(its, decimal_point=form.decimal_point) for file, its in forms.items()}
    columns.find_categories(_batches(forms, types, columns.names))
    rows = columns.read(_batches(forms, types, columns.names), cache)
    return with_left_out(dataclasses.replace(rows, notes=(*notes, *rows.notes)), columns)


def _described(
    path: pathlib.Path, form: _Form, labels: str | None, source: Source, *chosen: Any
) -> tuple[Columns, Any]:
    """Return the columns of a csv file by the types of its first rows, and these rows if not all hold numbers.

    The features that are no numbers are texts as written in these rows; they are None if there are none to see.
    """
    with _reading(path, form), _opened(path, form) as table:
        columns = Columns(table.schema, labels, source, *chosen)
    if not columns.not_numbers():
        return columns, None
    if columns.one_hot:  # what pyarrow takes for dates, say, is text as written
        text = imported("pyarrow").string()
        columns.types = [text if i in columns.not_numbers() else t for i, t in enumerate(columns.types)]
    types = {columns.names_in_file[i]: imported("pyarrow").string() for i in columns.not_numbers()}
    with _reading(path, form), _opened(path, form, types) as table:
        return columns, next(iter(table), None)


def _form_of(path: pathlib.Path, no_header: bool) -> _Form:
    """Return how a csv file is written. Raise InputError if its first line holds no names, though it should."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    skipped, line, delimiter = 0, None, None
    with (
        _reading(path),
        _stream(path, packed) as stream,
        io.TextIOWrapper(stream, "utf-8-sig") as text,
    ):
        lines = (line for line in _lines(text, path) if line.strip())
        line = next(lines, None)
        if line and (found := re.fullmatch(r"\"?sep=(.)\"?", line.strip("\r\n"))):
            skipped, delimiter, line = 1, found[1], next(lines, None)
        if line is None:
            raise InputError(f"Expected a csv file with a line of names and rows of numbers. Received: {path}, empty.")
        columns = max(map(line.count, delimiter or DELIMITERS)) + 1
        check_memory(COLUMN_BYTES * columns, f"a table of {columns:,} columns in {path}")
        rows = {mark: next(csv.reader([line], delimiter=mark)) for mark in delimiter or DELIMITERS}  # knows quotes
        delimiter, names = max(rows.items(), key=lambda row: len(row[1]))
    form = _Form(delimiter, names, len(line), skipped, packed, no_header)
    numbers = list(filter(is_number, names))
    if not no_header and numbers and 2 * len(numbers) >= len(names) and not _count(numbers):
        kind = "numbers only" if numbers == names else "mostly numbers"
        raise InputError(
            f"Expected a first line with the names of the columns. Received: {kind}, {', '.join(names[:3])}, ... in "
            f"the first line of {path}. Write a line of names above it, or have it read as data: no_header=True."
        )
    return form


def _lines(text: io.TextIOWrapper, path: pathlib.Path) -> Iterator[str]:
    """Yield the first lines of a csv file. Raise InputError at one that is longer than there is memory to read it."""
    longest = int(allowed_bytes() / (BLOCKS * ROW_BYTES))
    for _ in range(FIRST_LINES):
        line = text.readline(longest + 1)
        needed = BLOCKS * ROW_BYTES * len(line)
        check_memory(needed, f"a first line of {len(line):,} characters or more, and blocks of such lines, of {path}")
        yield line


@contextlib.contextmanager
def _stream(path: pathlib.Path, packed: bool) -> Iterator[Any]:
    """Yield a csv file as pyarrow reads it: from Python's, as pyarrow opens no name that is not UTF-8."""
    arrow = imported("pyarrow")
    with open(path, "rb") as file, arrow.input_stream(file, compression="gzip" if packed else None) as stream:
        yield stream


def _count(numbers: Sequence[str]) -> bool:
    """Return whether numbers among the names count, are years or four or more in even steps, as names may be."""
    try:
        values = [int(number) for number in numbers]
    except ValueError:
        return False
    steps = {b - a for a, b in itertools.pairwise(values)}
    years = len(values) > 1 and 1900 <= values[0] <= values[-1] <= 2100
    return (values[0] in (0, 1) and steps <= {1}) or ((years or len(values) > 3) and len(steps) == 1 and min(steps) > 0)


def _notes(form: _Form, path: pathlib.Path) -> list[str]:
    """Return a note if names are numbers."""
    numbers = list(filter(is_number, form.first))
    if form.no_header or 2 * len(numbers) < len(form.first):
        return []
    return [f"the first line of {path}, {some(form.first)}, was read as names; no_header=True reads it as data"]


@contextlib.contextmanager
def _opened(path: pathlib.Path, form: _Form, types: dict[str, Any] | None = None) -> Iterator[Any]:
    """Yield pyarrow's reader of a csv file, whose columns are of these types, or of those that the first rows have."""
    reader = imported("pyarrow.csv")
    options = reader.ReadOptions(
        block_size=_block_bytes(form),
        use_threads=False,  # with threads, errors do not name the row
        skip_rows=form.skipped,
        column_names=form.names() if form.no_header else None,
    )
    parsing = reader.ParseOptions(delimiter=form.delimiter)
    conversion = reader.ConvertOptions(column_types=types, decimal_point=form.decimal_point)
    with _stream(path, form.packed) as stream, reader.open_csv(stream, options, parsing, conversion) as table:
        yield table


def _block_bytes(form: _Form) -> int:
    """Return how many bytes of a csv file are read at a time: a complete row at least."""
    return max(BLOCK_BYTES, ROW_BYTES * form.length)


def _has_decimal_commas(first: Any, columns: Columns) -> bool:
    """Return whether a text in the first rows is a number with a decimal comma."""
    texts = (text for i in columns.not_numbers() for text in first.column(i).to_pylist())
    return any(_DECIMAL_COMMA.fullmatch(text.strip()) for text in texts)


def _check_delimiter(first: Any, columns: Columns, path: pathlib.Path) -> None:
    """Raise InputError if the values are separated by spaces."""
    if len(columns.names) == 1 and columns.not_numbers() and first is not None and first.num_rows:
        values = first.column(0)[0].as_py().split()
        if len(values) > 1 and all(map(is_number, values)):
            raise InputError(
                "Expected values separated by commas, semicolons, tabs or bars. Received: values separated by spaces "
                f"in {path}. Write it with commas."
            )


def _batches(
    forms: dict[pathlib.Path, _Form], types: dict[str, Any], names: Sequence[str]
) -> Iterator[tuple[pathlib.Path, int, Any]]:
    """Yield (file, number of the first row, rows) of csv files."""
    for path, form in forms.items():
        row = 0
        with _reading(path, form, names), _opened(path, form, types) as table:
            for batch in table:
                yield path, row, batch
                row += batch.num_rows


@contextlib.contextmanager
def _reading(path: pathlib.Path, form: _Form | None = None, names: Sequence[str] = ()) -> Iterator[None]:
    """Raise InputError, one line with the name of the column, if pyarrow raises an error."""
    arrow = imported("pyarrow")
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(
            f"Expected text in UTF-8. Received: {path}, which has other bytes ({error.reason}). Save it as UTF-8, for "
            "example with iconv."
        ) from error
    except (arrow.ArrowException, OSError, csv.Error) as error:
        raise _translated(" ".join(str(error).split()), path, form, names) from error


def _translated(message: str, path: pathlib.Path, form: _Form | None, names: Sequence[str]) -> InputError:
    """Return the InputError for a message of pyarrow, which counts the lines before the data as rows."""
    before = 0 if form is None else form.skipped + (not form.no_header)
    if (found := _CONVERSION.search(message)) and names:
        return not_a_number(found[3], names[int(found[1])], int(found[2]) - before, path)
    if found := _LENGTH.search(message):
        row, expected, received = map(int, found.groups())
        cure = "Correct that row, or remove lines that are no part of the table."
        if form is not None and form.delimiter == "," and received == 2 * expected:
            cure += " If commas begin fractions, separate the values by semicolons."
        return InputError(
            f"Expected {expected} values in every row of {path}, as many as in its first line. Received: {received} in "
            f"row {row - before} (counted from 1). {cure}"
        )
    if "straddling object" in message and form is not None:
        return InputError(
            f"Expected lines of at most {_block_bytes(form):,} bytes, {ROW_BYTES} times as long as the first. "
            f"Received: a longer one in {path}. Shorten its texts, or leave that column out of the file."
        )
    return InputError(f"Expected a table that pyarrow can read. Received: {path}, which it cannot: {message}")
