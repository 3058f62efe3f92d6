"""Data sets of any size, read some rows at a time: a memory-mapped one never has to fit into memory."""

import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import keras
import numpy as np
from keras import ops

from ..backend import shared, single, widest_float
from ..backend.sums import Sums
from ..constraints import check
from ..files import forget, write_aside
from .containers import as_array, in_memory, is_array, is_distributed
from .fingerprints import of_tensors

CHUNK_SIZE = 10_000  # rows at a time: enough for fast matrix products (see benchmarks), 31 MB of MNIST in float32


def predict_in_chunks(model: Any, x: Any, chunk_size: int = CHUNK_SIZE) -> np.ndarray:
    """Return the outputs of a model or layer for all rows of x, in inference mode, as an array (examples, ...).

    `model.predict` returns the same, but it compiles a function for every model and for every size of the last batch,
    which takes longer than running the few layers of an autoencoder.
    """
    chunks = Chunks(x, chunk_size=chunk_size, **inputs_of(model))
    return np.concatenate([ops.convert_to_numpy(model(chunk, training=False)) for chunk, *_ in chunks.read()])


def predict_to_file(model: Any, x: Any, path: str | pathlib.Path, chunk_size: int = CHUNK_SIZE) -> np.ndarray:
    """Return the outputs for all rows of x as a memory-mapped array, written to an .npy file in chunks.

    A file that an earlier call wrote, completely or not at all, is used again if the model has the same weights, and
    the data begin alike and are as many: behind its numbers it holds a checksum of these.
    """
    chunks = Chunks(x, chunk_size=chunk_size, **inputs_of(model))
    number = str(len(chunks.x) if chunks.is_array else None)
    made_of = (of_tensors(model.weights) + of_tensors([next(chunks.read()).x]) + number).encode()
    if not _ends_with(path, made_of):
        with write_aside(path) as aside, open(aside, "wb") as file:
            shape, dtype = (0,), np.dtype("float32")
            for chunk, *_ in chunks.read():
                rows = ops.convert_to_numpy(model(chunk, training=False))
                rows = rows.astype(single(rows.dtype.name), copy=False)  # NumPy's files know no bfloat16
                if shape == (0,):
                    write_npy_header(file, (0, *rows.shape[1:]), rows.dtype)
                shape, dtype = (shape[0] + len(rows), *rows.shape[1:]), rows.dtype
                rows.tofile(file)
            file.write(made_of)
            file.seek(0)
            write_npy_header(file, shape, dtype)  # the number of rows is known now
    return np.load(path, mmap_mode="r")


def _ends_with(path: str | pathlib.Path, content: bytes) -> bool:
    """Return whether a file is there that ends with this content."""
    if not os.path.exists(path) or os.path.getsize(path) < len(content):
        return False
    with open(path, "rb") as file:
        file.seek(-len(content), os.SEEK_END)
        return file.read() == content


def features_of(model: Any, x: Any, path: str | pathlib.Path) -> Any:
    """Return the outputs for all rows of x where these are: in memory, in a file at `path`, or on a cluster."""
    if is_distributed(x):
        return x.encoded(model)
    return predict_in_chunks(model, x) if in_memory(x) else predict_to_file(model, x, path)


def write_npy_header(file: BinaryIO, shape: tuple, dtype: np.dtype) -> None:
    """Write the header of an .npy file, padded by NumPy so that the header of a longer array fits in its place."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def mean_over_rows(batches: Iterable[tuple], sums: Callable[..., list]) -> list[np.ndarray]:
    """Return the means over all rows of what `sums(*batch)` adds up over the rows of a batch: a list of float64 arrays.

    batches: yields (x, ...). The sums of the batches are added up in float64.
    """
    totals, rows = Sums(), 0
    for batch in batches:
        totals.add(sums(*batch))
        rows += len(batch[0])
    return [total / rows for total in totals.read()]


class TransformedDataset:
    """A data set of batches x, (x, y) or (x, y, weights), as of tf.data, whose x is transformed when it is read."""

    def __init__(self, batches: Any, transform: Any):
        self.batches, self.transform = batches, transform

    def __iter__(self) -> Iterator["Chunk"]:
        for chunk in Chunks(self.batches).read():
            yield chunk._replace(x=self.transform(chunk.x, training=False))


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


class Chunk(NamedTuple):
    """Some rows of a data set, tensors.

    x: (rows, ...).  y: targets, (rows, ...), or None.  weights: how much each example counts, (rows,), or None.
    """

    x: Any
    y: Any = None
    weights: Any = None


class Chunks:
    """A data set as `Chunk`s of some rows each, in the same order at every pass.

    Arrays in memory are converted once; memory-mapped arrays, tf.data and PyDatasets are read again at every pass.
    `dtype` and `shape` are those of the inputs of the model that reads the chunks, see `inputs_of`. `part` says that
    there are more rows elsewhere, so that those here may all weigh nothing.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        chunk_size: int = CHUNK_SIZE,
        dtype: str = "float32",
        shape: tuple | None = None,
        weights: Any = None,
        part: bool = False,
    ):
        self.x, self.y, self.weights, self.dtype, self.shape = x, y, weights, dtype, shape
        self.chunk_size, self.part = chunk_size, part
        self.is_array = is_array(x)
        self._converted: list | None = None
        if self.is_array:
            self.x = as_array(x)
            self.y = None if y is None else as_array(y)
            self.weights = None if weights is None else as_array(weights)
            self._check_arrays()
        elif y is not None or weights is not None:
            raise ValueError("Give `y` with arrays only; a dataset yields (x, y) or (x, y, weights) itself.")

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
        if self.weights is not None:
            check_weights(self.weights, len(self.x), all_zero=self.part)
        check("chunk_size", self.chunk_size)

    def __iter__(self) -> Iterator[Chunk]:
        """Return the chunks; those of arrays in memory are kept for the next pass."""
        if not in_memory(self.x):
            return self.read()
        if self._converted is None:
            self._converted = list(self.read())
        return iter(self._converted)

    def read(self, skip: int = 0) -> Iterator[Chunk]:
        """Return the chunks but the first `skip`, which are converted when they are read and not kept."""
        return self._from_arrays(skip) if self.is_array else self._from_dataset(skip)

    def num_features(self) -> int:
        """Return the number of features of each row."""
        return self.x.shape[-1] if self.is_array else next(iter(self))[0].shape[-1]

    def mean_weight(self) -> float | None:
        """Return the mean weight of all examples, which takes a pass over a data set; None if they have no weights."""
        if self.is_array:
            return None if self.weights is None else float(np.mean(self.weights, dtype="float64"))
        if next(iter(self)).weights is None:
            return None
        rows, total = 0, 0.0
        for chunk in self.read():
            weights = ops.convert_to_numpy(chunk.weights)
            check_weights(weights, len(chunk.x), all_zero=True)
            rows, total = rows + len(weights), total + float(weights.sum(dtype="float64"))
        if total == 0:
            raise ValueError("Expected a weight above 0 for one example or more. Received: zeros.")
        return total / rows

    def num_rows(self) -> int:
        """Return the number of examples, which takes a pass over a data set."""
        return len(self.x) if self.is_array else sum(len(chunk.x) for chunk in self.read())

    def _from_arrays(self, skip: int) -> Iterator[Chunk]:
        for start in range(skip * self.chunk_size, len(self.x), self.chunk_size):
            rows = slice(start, start + self.chunk_size)
            y, weights = (None if array is None else array[rows] for array in (self.y, self.weights))
            chunk = self._chunk(self.x[rows], y, weights)
            forget(self.x)
            yield chunk

    def _from_dataset(self, skip: int) -> Iterator[Chunk]:
        if isinstance(self.x, keras.utils.PyDataset):
            batches: Iterable = (self.x[i] for i in range(skip, len(self.x)))
        else:
            batches = itertools.islice(self.x, skip, None)
        rows = 0
        for batch in batches:
            chunk = self._chunk(*batch) if isinstance(batch, (tuple, list)) else self._chunk(batch)
            check_shape(chunk.x.shape, self.shape)
            rows += len(chunk.x)
            yield chunk
        if rows == 0 and skip == 0:
            raise ValueError("Expected a data set with at least one row, which can be read again. Received no rows.")

    def _chunk(self, x: Any, y: Any = None, weights: Any = None, *others: Any) -> Chunk:
        if others:
            raise ValueError(f"Expected batches of x, (x, y) or (x, y, weights). Received: {3 + len(others)} elements.")
        x = ops.convert_to_tensor(x, dtype=self.dtype)
        y = None if y is None else ops.convert_to_tensor(y)
        weights = None if weights is None else ops.convert_to_tensor(weights, dtype=widest_float())
        return Chunk(*(None if array is None else shared(array) for array in (x, y, weights)))


def check_weights(weights: np.ndarray, examples: int, all_zero: bool = False) -> None:
    """Raise ValueError unless these are weights of so many examples; `all_zero` allows a part without weight."""
    expected = f"Expected a finite weight of 0 or more for each of the {examples:,} examples, shape ({examples},)"
    if weights.shape != (examples,):
        raise ValueError(f"{expected}. Received shape: {weights.shape}")
    wrong = np.flatnonzero(~((weights >= 0) & np.isfinite(weights)))
    if len(wrong):
        raise ValueError(f"{expected}. Received: {weights[wrong[0]]} for example {wrong[0]}.")
    if not all_zero and not weights.any():
        raise ValueError(f"{expected}, above 0 for one or more. Received: zeros.")
