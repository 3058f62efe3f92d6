"""Tensors in the files of other libraries, matrices read some rows at a time: safetensors, npz, and torch's pickles."""

import contextlib
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import extras
from ..archives import mapped_arrays
from ..errors import InputError

BLOCK_BYTES = 2**17  # of a matrix that are read at once, beside what is in the model already
HALF = ("float16", "bfloat16")


class Matrix:
    """A matrix of a file, whose rows are float32: those of the file, or its columns, times factors.

    source: what gives a part of the stored matrix by slices, an array or a slice of safetensors.
    factor: a number, or an array that broadcasts with the matrix, float64.
    """

    def __init__(self, source: Any, shape: tuple[int, int], transposed: bool = False, factor: Any = None):
        self.source, self.shape, self.transposed, self.factor = source, shape, transposed, factor

    def times(self, factor: Any) -> "Matrix":
        """Return the matrix times a number, or times an array that broadcasts with it."""
        factor = np.asarray(factor, "float64") * (1.0 if self.factor is None else self.factor)
        return Matrix(self.source, self.shape, self.transposed, factor)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return some of the rows, (stop - start, columns) float32."""
        part = self.source[:, start:stop].T if self.transposed else self.source[start:stop]
        if self.factor is None:
            return np.asarray(part, "float32")
        factor = self.factor[start:stop] if np.ndim(self.factor) and len(self.factor) > 1 else self.factor
        return (np.asarray(part, "float64") * factor).astype("float32")

    def blocks(self) -> Iterator[np.ndarray]:
        """Return all rows, in order, a few MB at a time."""
        step = max(1, BLOCK_BYTES // (4 * self.shape[1]))
        return (self.rows(start, min(start + step, self.shape[0])) for start in range(0, self.shape[0], step))

    def lengths(self) -> np.ndarray:
        """Return the length of each row, (rows,) float64."""
        return np.concatenate([np.linalg.norm(block.astype("float64"), axis=1) for block in self.blocks()])

    def after(self, vector: np.ndarray) -> np.ndarray:
        """Return vector @ matrix, (columns,) float64."""
        total, start = np.zeros(self.shape[1]), 0
        for block in self.blocks():
            total += vector[start : start + len(block)] @ block.astype("float64")
            start += len(block)
        return total


class Tensors:
    """The tensors of a file by name, with one-line errors. What nobody asked for is not understood.

    get: name -> what gives parts of the tensor by slices.
    shapes, dtypes: by name.
    """

    def __init__(
        self,
        path: pathlib.Path,
        get: Callable[[str], Any],
        shapes: dict[str, tuple[int, ...]],
        dtypes: dict[str, str],
    ):
        self.path, self._get, self.shapes, self.dtypes = path, get, shapes, dtypes
        self.asked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def array(self, name: str) -> np.ndarray:
        """Return a small tensor as it is."""
        self.asked.add(name)
        if name not in self:
            received = ", ".join(sorted(self.shapes)) or "no tensors"
            raise InputError(f"Expected the tensor {name} in {self.path}. Received: {received}.")
        return np.asarray(self._get(name)[...])

    def vector(self, name: str, length: int | None = None) -> np.ndarray:
        """Return a tensor of one axis, (length,) float32."""
        found = self.array(name).astype("float32")
        if found.ndim != 1 or length not in (None, len(found)):
            self._refuse(name, f"({'any' if length is None else length},)")
        return found

    def number(self, name: str) -> float:
        """Return a tensor of one number."""
        found = self.array(name)
        if found.size != 1:
            self._refuse(name, "()")
        return float(found.reshape(()))

    def matrix(self, name: str, rows: int, columns: int, transposed: bool = False) -> Matrix:
        """Return a matrix (rows, columns), however it is stored; transposed: how a square one is."""
        self.asked.add(name)
        if name not in self:
            self.array(name)  # which says so
        stored = self.shapes[name]
        if stored == (rows, columns) and (rows != columns or not transposed):
            return Matrix(self._get(name), (rows, columns))
        if stored == (columns, rows):
            return Matrix(self._get(name), (rows, columns), transposed=True)
        return self._refuse(name, f"({rows}, {columns}), either way,")

    def ignore(self, names: Sequence[str]) -> None:
        """Leave out what has no part in codes and reconstructions, such as counters of a training."""
        self.asked.update(names)

    def check_asked(self) -> None:
        """Raise InputError if the file has tensors that nobody asked for: they may change what is computed."""
        left = sorted(set(self.shapes) - self.asked)
        if left:
            raise InputError(
                f"Expected no tensors but {', '.join(sorted(self.asked & set(self.shapes)))} in {self.path}. Received: "
                f"{', '.join(left)}, which this version does not understand, and so cannot leave out."
            )

    def _refuse(self, name: str, expected: str) -> Any:
        raise InputError(
            f"Expected {name} of shape {expected} in {self.path}. Received: {self.shapes[name]}. Its other tensors, or "
            "its configuration, say so: the file is of another autoencoder, or damaged."
        )


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[Tensors]:
    """Yield the tensors of a file of any of these formats, as its suffix says."""
    if not path.is_file():
        raise InputError(f"Expected the weights in {path}. Received: no such file.")
    open_it = {".safetensors": _safetensors, ".npz": _npz, ".pt": _pickle, ".pth": _pickle}.get(path.suffix)
    if open_it is None:
        raise InputError(
            f"Expected weights as .safetensors or .npz, or as .pt of libraries that write no others. Received: {path}."
        )
    with open_it(path) as tensors:
        yield tensors


@contextlib.contextmanager
def _safetensors(path: pathlib.Path) -> Iterator[Tensors]:
    library = extras.imported("safetensors", "read such weights with")
    try:
        file = library.safe_open(path, framework="np")
    except library.SafetensorError as error:
        raise _damaged(path, error) from error
    with file:  # NumPy knows bfloat16 by ml_dtypes, which Keras imports
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
        shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        kinds = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
        dtypes = {name: kinds.get(part.get_dtype(), part.get_dtype()) for name, part in slices.items()}
        yield Tensors(path, lambda name: slices[name] if shapes[name] else file.get_tensor(name), shapes, dtypes)


@contextlib.contextmanager
def _npz(path: pathlib.Path) -> Iterator[Tensors]:
    try:
        arrays = mapped_arrays(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from error
    yield _of_arrays(path, arrays)


@contextlib.contextmanager
def _pickle(path: pathlib.Path) -> Iterator[Tensors]:
    torch = extras.imported(
        "torch", f"read {path.name} with, which is a pickle: its safe loader takes tensors alone, and runs no code"
    )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has errors of many kinds for what is no such file
        raise InputError(
            f"Expected a file of tensors. Received: {path}, which torch's safe loader (weights_only=True) refuses: it "
            "is damaged, or holds code, which could do anything. Have whoever made it write safetensors."
        ) from error
    yield _of_arrays(path, _arrays(found, torch))


def _arrays(found: Any, torch: Any) -> dict[str, np.ndarray]:
    """Return the tensors of a state dictionary, or of one that a training's state holds as "ae", by name."""
    if isinstance(found, dict) and isinstance(found.get("ae"), dict):
        found = found["ae"]
    arrays: dict[str, np.ndarray] = {}
    for name, value in found.items() if isinstance(found, dict) else ():
        if isinstance(value, dict):
            arrays |= {f"{name}.{key}": part for key, part in _arrays(value, torch).items()}
        elif isinstance(value, torch.Tensor):
            kept = value.float() if value.dtype == torch.bfloat16 else value
            arrays[str(name)] = kept.numpy()
        else:
            arrays[str(name)] = np.asarray(value)
    return arrays


def _of_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> Tensors:
    shapes = {name: array.shape for name, array in arrays.items()}
    return Tensors(path, arrays.__getitem__, shapes, {name: array.dtype.name for name, array in arrays.items()})


def _damaged(path: pathlib.Path, error: Exception) -> InputError:
    return InputError(f"Expected weights that can be read. Received: {path}, which is damaged or cut off ({error}).")
