"""Codes of many units, of which few are active: for each row a list of their indices and one of their values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from keras_sae.data.readers.rows import Rows

from .columns import Arrays, singular
from .outputs import ParquetParts


class SparseParts(ParquetParts):
    """A directory of Parquet files with two columns of lists for each output of several numbers.

    feature_indices and feature_values hold what is not 0 in a row of `features`, in the order of the units. How many
    units there are is in the metadata of the files, by the name of the output.
    """

    def kept(self, outputs: Arrays) -> Arrays:
        return {
            name: scipy.sparse.csr_array(array.reshape(len(array), -1)) if array.ndim > 1 else array
            for name, array in outputs.items()
        }

    def _bytes_on_disk(self, example: Arrays) -> int:
        return sum(np.count_nonzero(array) * (4 + array.itemsize) for array in example.values())

    def _begin(self, example: Arrays, rows: Rows) -> None:
        wide = {name: array[0].size for name, array in example.items() if array.ndim > 1}
        self.names |= {name: [f"{singular(name)}_indices", f"{singular(name)}_values"] for name in wide}
        self.metadata = {name: str(size) for name, size in wide.items()}
        super()._begin(example, rows)

    def _table(self, batches: list[Arrays], start: int, stop: int) -> Any:
        return super()._table(batches, start, stop).replace_schema_metadata(self.metadata)

    def _columns(self, arrays: list[np.ndarray]) -> Sequence[Any]:
        if not scipy.sparse.issparse(arrays[0]):
            return super()._columns(arrays)
        codes = scipy.sparse.vstack(arrays, "csr")
        return [self.arrow.ListArray.from_arrays(codes.indptr, part) for part in (codes.indices, codes.data)]
