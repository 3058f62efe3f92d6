"""What files that hold several arrays have alike: which one is read, and how its rows are stored."""

import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ...errors import InputError
from . import rows
from .bounds import check_memory
from .labels import Labels, check_array
from .rows import Audit, Rows, check_numbers, check_rows_shape
from .sources import Source
from .storage import cache_file, store

Shape = tuple[int, ...]
# Opens a file as {name: array}: what has shape, dtype and slices of rows, on the disk or sparse.
Opener = Callable[[pathlib.Path], contextlib.AbstractContextManager[dict[str, Any]]]


def read_named(
    source: Source,
    opened: Opener,
    labels: str | None,
    feature: str | None,
    cache: pathlib.Path | str | None,
) -> Rows:
    """Return the array `feature` of every file of the source, or the one that can be meant, as rows.

    They are uint8 if the array is, else float32. `labels` is the name of another array.
    """
    shapes: dict[pathlib.Path, tuple[Shape, np.dtype]] = {}
    classes, notes = Labels(f"{labels} in {source}"), list(source.notes)
    for path in source.files:
        with _undamaged(path), opened(path) as arrays:
            described = {name: (array.shape, array.dtype) for name, array in arrays.items()}
            feature = name_to_read(described, feature, labels, path)
            shapes[path] = described[feature]
            notes += left_out(described, feature, labels) if len(shapes) == 1 else []
            _check_chunks(arrays[feature], f"{feature} in {path}")
            if labels is not None:
                check_array(*described[labels], math.prod(described[feature][0][:1]), f"{labels} in {path}")
                classes.add_array(np.asarray(arrays[labels][:]))
    where = f"{feature} in {source}"
    shape, dtype = _of_one_shape(shapes, f"{feature}")
    check_numbers(dtype, where)
    check_rows_shape(shape, where)

    def batches() -> Iterator[np.ndarray]:
        for path in source.files:
            with _undamaged(path), opened(path) as arrays:
                yield from _row_batches(arrays[str(feature)])

    audit, kept = Audit(where), "uint8" if dtype.kind == "b" or dtype == np.uint8 else "float32"
    target = cache_file(cache, source.name, list(source.files), feature)
    x = store(batches(), target, audit, shape[0], kept)
    y, class_names = (None, ()) if labels is None else classes.classes(len(x))
    image_shape = image_shape_of(shape, dtype)
    notes += [*flattened(shape, image_shape), *audit.notes()]
    return Rows(x, y, class_names, image_shape=image_shape, source=f"array {feature} in {source}", notes=tuple(notes))


def _check_chunks(array: Any, where: str) -> None:
    """Raise InputError if the pieces in which HDF5 keeps an array, which are unpacked as a whole, take too much."""
    if chunks := getattr(array, "chunks", None):
        size = math.prod(chunks) * array.dtype.itemsize
        check_memory(2 * size, f"pieces of {size:,} bytes, in which HDF5 keeps {where}")


@contextlib.contextmanager
def _undamaged(path: pathlib.Path) -> Iterator[None]:
    """Raise InputError if a library raises an error of its own while it reads a file: there are many of them."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        received = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"Expected arrays that can be read. Received: {path}, which is damaged or something else: {received}. Save "
            "or copy the file again."
        ) from error


def _of_one_shape(shapes: Mapping[pathlib.Path, tuple[Shape, np.dtype]], name: str) -> tuple[Shape, np.dtype]:
    """Return (shape, dtype) of all arrays in a row. Raise InputError if they are of several shapes or types."""
    first_path, (first, dtype) = next(iter(shapes.items()))
    for path, (shape, other) in shapes.items():
        if (shape[1:], other) != (first[1:], dtype):
            raise InputError(
                f"Expected arrays of one type and one shape but for the examples. Received: {name} as {dtype} {first} "
                f"in {first_path} and {other} {shape} in {path}. Name only those that belong together."
            )
    if not first:
        return first, dtype
    return (sum(shape[0] for shape, _ in shapes.values()), *first[1:]), dtype


def _row_batches(array: Any) -> Iterator[np.ndarray]:
    """Yield the rows of an array on the disk, or of a sparse one, as dense arrays (rows, features)."""
    width = int(np.prod(array.shape[1:]))
    size = max(1, rows.CHUNK_BYTES // (width * 8))
    for start in range(0, array.shape[0], size):
        chunk = array[start : start + size]
        chunk = np.asarray(chunk.toarray() if hasattr(chunk, "toarray") else chunk)
        yield chunk.reshape(len(chunk), width).astype(chunk.dtype.newbyteorder("="), copy=False)


def image_shape_of(shape: Shape, dtype: np.dtype) -> Shape | None:
    """Return (height, width) or (height, width, 3) if a uint8 array has these dimensions, else None."""
    if dtype != "uint8" or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        return None
    return shape[1:3] if shape[3:] == (1,) else shape[1:]


def flattened(shape: Shape, image_shape: Shape | None = None) -> list[str]:
    """Return a note if examples of several dimensions, and no images, became rows: not each meant them so."""
    if len(shape) == 2 or image_shape is not None:
        return []
    features = int(np.prod(shape[1:]))
    return [
        f"each of the {shape[0]:,} examples of shape {shape[1:]} became one row of {features:,} features; if each "
        f"{shape[-1]:,} numbers are an example, save x.reshape(-1, {shape[-1]})"
    ]


def name_to_read(
    arrays: Mapping[str, tuple[Shape, np.dtype]], feature: str | None, labels: str | None, path: pathlib.Path
) -> str:
    """Return the name of the array to read among {name: (shape, dtype)}. Raise InputError if it is not clear."""
    for wanted, role in ((labels, "labels"), (feature, "an array")):
        if wanted is not None and wanted not in arrays:
            raise InputError(f"Expected {role} named {wanted!r} in {path}. Received: {_listed(arrays)}.")
    if feature is not None:
        return feature
    others = {name: shape for name, (shape, _) in arrays.items() if name != labels and len(shape) >= 2}
    wide = [name for name, shape in others.items() if shape[0] != 1 and shape[1:] != (1,)]  # neither is labels
    for candidates in ([name for name in ("x", "X", "x_train", "X_train") if name in arrays], wide, list(others)):
        candidates = [name for name in candidates if name != labels]
        if len(candidates) == 1 or "x" in candidates:
            return candidates[0]
    raise InputError(
        f"Expected an array named x or x_train, or only one of two dimensions or more, in {path}. Received: "
        f"{_listed(arrays)}. Name the one to read: feature=NAME."
    )


def left_out(arrays: Mapping[str, tuple[Shape, np.dtype]], feature: str, labels: str | None) -> list[str]:
    """Return a note on the arrays that are not read, if there are any."""
    others = {name: described for name, described in arrays.items() if name not in (feature, labels)}
    return [f"left out: {_listed(others)}"] if others else []


def _listed(arrays: Mapping[str, tuple[Shape, np.dtype]]) -> str:
    return ", ".join(f"{name} {shape} {dtype}" for name, (shape, dtype) in arrays.items()) or "nothing"
