"""Columns of Parquet data that are kept beside the features, such as identifiers of the rows."""

from collections.abc import Sequence
from typing import Any

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
    for file in source.files:
        known = parquet.read_schema(file).names
        for name in names:
            if name not in known:
                raise InputError(f"Expected --keys that are columns of the data. Received: {name}, not in {file}.")
    table = arrow.concat_tables([parquet.read_table(file, columns=[*names]) for file in source.files])
    return {name: table[name] for name in names}
