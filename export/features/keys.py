"""Columns of Parquet data that are kept beside the features, such as identifiers of the rows."""

from collections.abc import Sequence
from typing import Any

from keras_sae.archives import reading
from keras_sae.data import readers
from keras_sae.data.readers.rows import imported
from keras_sae.errors import InputError


def read_keys(data: Sequence[str], names: Sequence[str] | None) -> dict[str, Any]:
    """Return the columns of these names as Arrow has them, in the order of the rows.

    Raises: InputError if the data have no columns, or not these.
    """
    if not names:
        return {}
    source = readers.files_of(data, part=True)
    if source.kind != "parquet":
        raise InputError(f"Expected Parquet data for --keys, columns of them. Received: {source}. Leave --keys out.")
    arrow, parquet = imported("pyarrow"), imported("pyarrow.parquet")
    names, tables = [*dict.fromkeys(names)], []
    for file in source.files:
        with reading(file, "a Parquet file"):
            known = parquet.read_schema(file).names
            for name in names:
                if name not in known:
                    raise InputError(f"Expected --keys that are columns of the data. Received: {name}, not in {file}.")
            tables.append(parquet.read_table(file, columns=names))
    try:  # an integer of other width, or a column that is empty in a file, becomes what the others are
        table = arrow.concat_tables(tables, promote_options="permissive")
    except arrow.ArrowException as error:
        raise InputError(f"Expected --keys of one kind in all files. Received: {error}.") from error
    return {name: table[name] for name in names}
