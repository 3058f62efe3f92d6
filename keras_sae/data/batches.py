"""Data sets of any size, read some rows at a time: a memory-mapped one never has to fit into memory."""

import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import keras
import numpy as np
from keras import ops

from ..constraints import check
from ..files import forget, write_aside

CHUNK_SIZE = 10_000  # rows at a time: enough for fast matrix products (see benchmarks), 31 MB of MNIST in float32


def predict_in_chunks(model: Any, x: Any, chunk_size: int = CHUNK_SIZE) -> np.ndarray:
    """Return the outputs of a model or layer for all rows of x, in inference mode, as an array (examples, ...).

    `model.predict` returns the same, but it compiles a function for every model and for every size of the last batch,
    which takes longer than running the few layers of an autoencoder.
    """
    chunks = Chunks(x, chunk_size=chunk_size, **inputs_of(model))
    return np.concatenate([ops.convert_to_numpy(model(chunk, training=False)) for chunk, _ in chunks.read()])


def predict_to_file(model: Any, x: Any, path: str | pathlib.Path, chunk_size: int = CHUNK_SIZE) -> np.ndarray:
    """Return the outputs for all rows of x as a memory-mapped array, written to an .npy file in chunks.

    If the file exists, it is taken for the result of an earlier call: it is written completely or not at all.
    """
    if not os.path.exists(path):
        chunks = Chunks(x, chunk_size=chunk_size, **inputs_of(model))
        with write_aside(path) as aside, open(aside, "wb") as file:
            shape, dtype = (0,), np.dtype("float32")
            for chunk, _ in chunks.read():
                rows = ops.convert_to_numpy(model(chunk, training=False))
                if shape == (0,):
                    _write_header(file, (0, *rows.shape[1:]), rows.dtype)
                shape, dtype = (shape[0] + len(rows), *rows.shape[1:]), rows.dtype
                rows.tofile(file)
            file.seek(0)
            _write_header(file, shape, dtype)  # the number of rows is known now
    return np.load(path, mmap_mode="r")


def _write_header(file: BinaryIO, shape: tuple, dtype: np.dtype) -> None:
    """Write the header of an .npy file, padded by NumPy so that the header of a longer array fits in its place."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def mean_over_rows(batches: Iterable[tuple], sums: Callable[[Any], list]) -> list[np.ndarray]:
    """Return the means over all rows of what `sums(x)` adds up over the rows of a batch: a list of float64 arrays.

    batches: yields (x, anything). The sums of the batches are added up in float64.
    """
    totals: list[np.ndarray] = []
    rows = 0
    for x, _ in batches:
        parts = [ops.convert_to_numpy(part).astype("float64") for part in sums(x)]
        totals = [a + b for a, b in zip(totals, parts, strict=True)] if totals else parts
        rows += len(x)
    return [total / rows for total in totals]


class RowSubset:
    """Chosen rows of an array (examples, features), in a chosen order, which are copied and transformed when read.

    They keep the dtype of the array, or become float32 if they are transformed.

    Args:
        x: the array (examples, features), in memory or memory-mapped.
        rows: the indices of the rows, (examples,), or None for all rows.
        transform: a Keras layer or model, tensor -> tensor, or None.
    """

    ndim = 2

    def __init__(self, x: Any, rows: np.ndarray | None = None, transform: Any = None):
        self.x, self.rows, self.transform = x, rows, transform
        features = x.shape[1] if transform is None else transform.compute_output_shape((None, x.shape[1]))[-1]
        self.shape = (len(x) if rows is None else len(rows), features)
        self.dtype = x.dtype if transform is None else np.dtype("float32")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        # Copied, as the pages of a memory-mapped array are forgotten.
        rows = np.array(self.x[key if self.rows is None else self.rows[key]])
        forget(self.x)
        if self.transform is None:
            return rows
        return ops.convert_to_numpy(self.transform(rows.astype("float32"), training=False))


class TransformedDataset:
    """A data set of batches x or (x, y), a tf.data.Dataset for example, whose x is transformed when it is read."""

    def __init__(self, batches: Any, transform: Any):
        self.batches, self.transform = batches, transform

    def __iter__(self) -> Iterator[tuple]:
        for x, y in Chunks(self.batches).read():
            x = self.transform(x, training=False)
            yield (x,) if y is None else (x, y)


def is_array(x: Any) -> bool:
    """Return whether the rows of x can be counted and indexed, which those of a data set of batches cannot."""
    return hasattr(x, "shape") or isinstance(x, list)


def in_memory(x: Any) -> bool:
    """Return whether all rows of x are in memory, rather than read when they are needed."""
    if isinstance(x, RowSubset):
        return in_memory(x.x)
    return is_array(x) and not isinstance(x, np.memmap)


def inputs_of(model: Any) -> dict[str, Any]:
    """Return the options of `Chunks` for a model: the dtype of its inputs, and their shape if the model is built."""
    # The inputs tell the dtype: a functional model has the default policy, whatever the policy of its layers is.
    inputs = getattr(model, "inputs", None)
    return {"dtype": inputs[0].dtype, "shape": inputs[0].shape} if inputs else {"dtype": model.compute_dtype}


def check_shape(shape: tuple, wanted: tuple | None) -> None:
    """Raise ValueError if rows of this shape do not match the inputs of a model (Keras' own message is a page long).

    wanted: the shape of those inputs, in which None matches any size; or None, which matches any shape.
    """
    if wanted is not None:
        matches = len(shape) == len(wanted) and all(a in (None, b) for a, b in zip(wanted[1:], shape[1:], strict=True))
        if not matches:
            expected = ", ".join(["examples", *map(str, wanted[1:])])
            raise ValueError(f"Expected data of shape ({expected}), as the model takes. Received shape: {tuple(shape)}")


class Chunks:
    """A data set as pairs (x, y) of tensors with some rows each, in the same order at every pass; y may be None.

    Arrays in memory are converted once; memory-mapped arrays, tf.data and PyDatasets are read again at every pass.
    `dtype` and `shape` are those of the inputs of the model that reads the chunks, see `inputs_of`.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        chunk_size: int = CHUNK_SIZE,
        dtype: str = "float32",
        shape: tuple | None = None,
    ):
        self.x, self.y, self.dtype, self.shape = x, y, dtype, shape
        self.chunk_size = chunk_size
        self.is_array = is_array(x)
        self._converted: list | None = None
        if self.is_array:
            self.x = x if isinstance(x, (np.ndarray, RowSubset)) else ops.convert_to_numpy(x)
            self.y = y if y is None or isinstance(y, np.ndarray) else ops.convert_to_numpy(y)
            self._check_arrays()
        elif y is not None:
            raise ValueError("Give `y` with arrays only; a dataset yields (x, y) itself.")

    def _check_arrays(self) -> None:
        if self.x.ndim < 2 or len(self.x) == 0:
            raise ValueError(
                f"Expected data of shape (examples, features) with at least one row. Received shape: {self.x.shape}"
            )
        check_shape(self.x.shape, self.shape)
        if self.x.dtype.kind in "OSUMmc":
            raise ValueError(f"Expected real numbers. Received: {self.x.dtype}. Convert them: x.astype('float32').")
        if self.y is not None and len(self.y) != len(self.x):
            raise ValueError(f"Expected one target for each of the {len(self.x)} inputs. Received: {len(self.y)}")
        check("chunk_size", self.chunk_size)

    def __iter__(self) -> Iterator[tuple]:
        """Return the chunks; those of arrays in memory are kept for the next pass."""
        if not in_memory(self.x):
            return self.read()
        if self._converted is None:
            self._converted = list(self.read())
        return iter(self._converted)

    def read(self) -> Iterator[tuple]:
        """Return the chunks, which are converted when they are read and not kept."""
        return self._from_arrays() if self.is_array else self._from_dataset()

    def num_features(self) -> int:
        """Return the number of features of each row."""
        return self.x.shape[-1] if self.is_array else next(iter(self))[0].shape[-1]

    def _from_arrays(self) -> Iterator[tuple]:
        for start in range(0, len(self.x), self.chunk_size):
            rows = slice(start, start + self.chunk_size)
            tensors = self._tensors(self.x[rows], None if self.y is None else self.y[rows])
            forget(self.x)
            yield tensors

    def _from_dataset(self) -> Iterator[tuple]:
        batches = (self.x[i] for i in range(len(self.x))) if isinstance(self.x, keras.utils.PyDataset) else self.x
        rows = 0
        for batch in batches:
            x, y = self._tensors(*batch[:2]) if isinstance(batch, (tuple, list)) else self._tensors(batch)
            check_shape(x.shape, self.shape)
            rows += len(x)
            yield x, y
        if rows == 0:
            raise ValueError("Expected a data set with at least one row, which can be read again. Received no rows.")

    def _tensors(self, x: Any, y: Any = None) -> tuple:
        x = ops.convert_to_tensor(x, dtype=self.dtype)
        return x, None if y is None else ops.convert_to_tensor(y)
