"""A reader of Parquet files."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from ...errors import InputError
from ...extras import imported
from .columns import Columns, is_list, some
from .rows import CHUNK_BYTES, Rows
from .sources import Source

FIRST_ROWS = 1000  # which a message shows the first text of that is no number


def read_parquet(
    source: Source,
    labels: str | None = None,
    feature: str | None = None,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return the columns of numbers of Parquet files as one table, or the lists in one column as rows.

    `labels` is the name of a column, `feature` that of the only one to read.
    """
    parquet, files = imported("pyarrow.parquet"), list(source.files)
    with _reading(source):
        schemas = [parquet.read_schema(file).remove_metadata() for file in files]
        different = [file for file, schema in zip(files, schemas, strict=True) if not schema.equals(schemas[0])]
        if different:
            raise InputError(
                f"Expected Parquet files of the same columns and types. Received: {files[0]} and {different[0]}, which "
                "differ. Name only those of one table."
            )
        columns = Columns(schemas[0], labels, source)
        if (i := _column_to_read(columns, feature)) is not None:
            columns = Columns(schemas[0], labels, source, [i])
        with parquet.ParquetFile(files[0], pre_buffer=False) as table:
            first = next(table.iter_batches(batch_size=FIRST_ROWS), None)
        if not is_list(columns.types[columns.features[0]]):
            columns.check(first, files[0])
        size = max(1, CHUNK_BYTES // max(1, _row_bytes(first)))
        total = sum(parquet.read_metadata(file).num_rows for file in files)
    rows = columns.read(_batches(parquet, source, size), cache, total)
    return rows if i is None else _with_left_out(rows, columns)


def _column_to_read(columns: Columns, feature: str | None) -> int | None:
    """Return the index of the column `feature`, or of the only one of lists, or None if all columns are to be read."""
    if feature is not None:
        return columns.find(feature, "column")
    lists = [i for i in columns.features if is_list(columns.types[i])]
    if len(lists) > 1:
        raise InputError(
            f"Expected one column of lists, or the name of the one to read, feature=NAME. Received: "
            f"{some([columns.names[i] for i in lists])} in {columns.source}."
        )
    return lists[0] if lists else None


def _with_left_out(rows: Rows, columns: Columns) -> Rows:
    """Return the rows with a note on the columns that were not read."""
    import dataclasses

    read = {columns.label_column, *columns.features}
    others = [name for i, name in enumerate(columns.names) if i not in read]
    return dataclasses.replace(rows, notes=(*rows.notes, f"left out: {some(others)}")) if others else rows


def _row_bytes(batch: Any) -> int:
    """Return how many bytes the first row takes as float64, or 0 if there is none."""
    if batch is None or not batch.num_rows:
        return 0
    return 8 * sum(len(column[0].as_py() or ()) if is_list(column.type) else 1 for column in batch.columns)


def _batches(parquet: Any, source: Source, size: int) -> Iterator[tuple[pathlib.Path, int, Any]]:
    """Yield (file, number of the first row, rows) of Parquet files."""
    for file in source.files:
        row = 0
        with _reading(file), parquet.ParquetFile(file, pre_buffer=False) as table:
            for batch in table.iter_batches(batch_size=size):
                yield file, row, batch
                row += batch.num_rows


@contextlib.contextmanager
def _reading(where: Any) -> Iterator[None]:
    """Raise InputError, one line, if pyarrow raises an error."""
    arrow = imported("pyarrow")
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        raise InputError(
            f"Expected a table that pyarrow can read. Received: {where}, which it cannot: "
            f"{' '.join(str(error).split())}"
        ) from error
