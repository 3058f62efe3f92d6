"""A reader of Parquet files."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import InputError
from ...extras import imported
from .bounds import check_memory
from .columns import Columns, is_list, some, with_left_out
from .image_files import SIZE_CURE, Decoder, check_no_images
from .labels import Labels
from .one_hot import is_text
from .rows import CHUNK_BYTES, Audit, Rows, image_range
from .sources import Source
from .storage import cache_file, store_each

FIRST_ROWS = 1000  # which a message shows the first text of that is no number
IMAGES_AT_A_TIME = 64


def read_parquet(
    source: Source,
    labels: str | None = None,
    feature: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    color: bool = False,
    names: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    one_hot: bool | Mapping[str, Sequence[str]] | None = None,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return the columns of numbers of Parquet files as one table, or the lists or the images in one column as rows.

    `labels` is the name of a column, `feature` that of the only one to read, `names` those of several,
    `ignore` those of columns that are not read. `one_hot` reads columns of texts as columns of 0 and 1.
    """
    parquet, files = imported("pyarrow.parquet"), list(source.files)
    with _reading(source):
        schemas = [_of(parquet.read_schema, file).remove_metadata() for file in files]
        different = [file for file, schema in zip(files, schemas, strict=True) if not schema.equals(schemas[0])]
        if different:
            raise InputError(
                f"Expected Parquet files of the same columns and types. Received: {files[0]} and {different[0]}, which "
                "differ. Name only those of one table."
            )
        metadata = {file: _of(parquet.read_metadata, file) for file in files}
        total = sum(its.num_rows for its in metadata.values())
    columns = Columns(schemas[0], labels, source, None if feature else names, ignore, one_hot)
    i = _column_to_read(columns, feature)
    if i is not None:
        columns = Columns(schemas[0], labels, source, [i])
    for file, its in metadata.items():
        _check_groups(file, its)
    if i is not None and _holds_images(columns.types[i]):
        rows = _read_images(columns, i, Decoder(image_size, color), cache, total)
    else:
        check_no_images(image_size, color, f"numbers in {source}")
        first = _first_rows(files[0], 1 if i is not None else FIRST_ROWS)
        if i is None or not is_list(columns.types[i]):
            columns.check(first, files[0])
        size = max(1, CHUNK_BYTES // max(1, _row_bytes(first)))
        columns.find_categories(_batches(source, size))
        rows = columns.read(_batches(source, size), cache, total)
    return with_left_out(rows, columns)


def _of(read: Any, file: pathlib.Path) -> Any:
    """Return what a function of pyarrow reads of an open file: pyarrow opens no name that is not UTF-8."""
    with open(file, "rb") as content:
        return read(content)


def _check_groups(file: pathlib.Path, metadata: Any) -> None:
    """Raise InputError if a group of rows, whose columns are in memory as a whole, takes too much."""
    largest = max((metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)), default=0)
    check_memory(2 * largest, f"groups of rows of up to {largest:,} bytes in {file}")


@contextlib.contextmanager
def _opened(file: pathlib.Path) -> Iterator[Any]:
    """Yield pyarrow's reader of a Parquet file, which keeps each text of a column once, however often it is there."""
    parquet = imported("pyarrow.parquet")
    with open(file, "rb") as content:
        texts = [field.name for field in parquet.read_schema(content) if is_text(field.type)]
        with parquet.ParquetFile(content, pre_buffer=False, read_dictionary=texts) as table:
            yield table


def _column_to_read(columns: Columns, feature: str | None) -> int | None:
    """Return the index of the column `feature`, or of the only one of lists or images, or None for all columns."""
    if feature is not None:
        return columns.find(feature, "column")
    rows = [i for i in columns.features if is_list(columns.types[i]) or _holds_images(columns.types[i])]
    if len(rows) > 1:
        raise InputError(
            f"Expected one column of lists or images, or the name of the one to read, feature=NAME. Received: "
            f"{some([columns.names[i] for i in rows])} in {columns.source}."
        )
    return rows[0] if rows else None


def _holds_images(kind: Any) -> bool:
    """Return whether a type of pyarrow may be one of image files: bytes, or a struct of those and a path."""
    if str(kind).startswith("struct"):
        return any(field.name == "bytes" and _holds_images(field.type) for field in kind)
    return str(kind) in ("binary", "large_binary")


def _read_images(columns: Columns, i: int, decoder: Decoder, cache: pathlib.Path | str | None, total: int) -> Rows:
    """Return the images in column i of Parquet files as rows."""
    source, name = columns.source, columns.names[i]
    classes = Labels(f"column {columns.labels!r} of {source}")

    def images() -> Iterator[tuple[str, np.ndarray]]:
        for file, row, batch in _batches(source, IMAGES_AT_A_TIME):
            if columns.label_column is not None:
                classes.add(columns.labels_of(batch, file))
            column = batch.column(i)
            column = column.field("bytes") if str(column.type).startswith("struct") else column
            columns.check_present(column, i, file, row)
            for number, content in enumerate(column.to_pylist(), row + 1):
                where = f"row {number} of column {name!r} of {file}"
                yield where, decoder.decode(content, where)

    shown = f"images in column {name} of {source}"
    target = cache_file(cache, source.name, list(source.files), name, decoder.size, decoder.color)
    audit = Audit(shown)
    x, shape = store_each(images(), target, audit, total, SIZE_CURE)
    y, class_names = (None, ()) if columns.labels is None else classes.classes(len(x))
    notes = (*source.notes, *decoder.notes(), *audit.notes())
    return Rows(x, y, class_names, image_shape=shape, value_range=image_range(x), source=shown, notes=notes)


def _first_rows(file: pathlib.Path, number: int) -> Any:
    """Return at most so many rows of a Parquet file, or None if there are none."""
    with _reading(file), _opened(file) as table:
        return next(table.iter_batches(batch_size=number), None)


def _row_bytes(batch: Any) -> int:
    """Return how many bytes the first row takes as float64, or 0 if there is none."""
    if batch is None or not batch.num_rows:
        return 0
    return 8 * sum(_length(column.slice(0, 1)) for column in batch.columns)


def _length(values: Any) -> int:
    """Return how many numbers a column holds, in lists or lists of lists too."""
    return _length(values.flatten()) if is_list(values.type) else len(values)


def _batches(source: Source, size: int) -> Iterator[tuple[pathlib.Path, int, Any]]:
    """Yield (file, number of the first row, rows) of Parquet files."""
    for file in source.files:
        row = 0
        with _reading(file), _opened(file) as table:
            for batch in table.iter_batches(batch_size=size):
                yield file, row, batch
                row += batch.num_rows


@contextlib.contextmanager
def _reading(where: Any) -> Iterator[None]:
    """Raise InputError, one line, if pyarrow raises an error."""
    arrow = imported("pyarrow")
    try:
        yield
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"Expected a table that pyarrow can read. Received: {where}, which it cannot: "
            f"{' '.join(str(error).split())}"
        ) from error
