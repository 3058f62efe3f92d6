"""Readers of NumPy's files, npy and npz."""

import dataclasses
import math
import os
import pathlib
import shutil
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ...archives import archive_array, array_header
from ...errors import InputError
from ...files import check_space
from . import sparse
from .directories import check_regular
from .labels import Labels, check_array, class_numbers
from .named_arrays import Shape, flattened, image_shape_of, left_out, name_to_read
from .rows import Audit, Rows, check_numbers, check_rows_shape, row_blocks
from .sources import Source
from .storage import cache_file, store, writing

CURE = "Save or copy the file again."
_DAMAGED = (ValueError, TypeError, KeyError, SyntaxError, OverflowError, EOFError, tokenize.TokenError)
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)  # RuntimeError: encryption, packing


def read_npy(source: Source, labels: pathlib.Path | str | None = None, cache: pathlib.Path | str | None = None) -> Rows:
    """Return the arrays of npy files, one mapped, several copied. `labels` is the path of another npy file."""
    x, image_shape, notes = _rows_of({file: file for file in source.files}, source, cache)
    rows = Rows(x, image_shape=image_shape, source=f"array in {source}", notes=(*source.notes, *notes))
    return _with_labels(rows, labels)


def _with_labels(rows: Rows, labels: pathlib.Path | str | None) -> Rows:
    """Return rows with the labels in an npy file, if there are any."""
    if labels is None:
        return rows
    y, class_names = _read_labels(labels, len(rows.x))
    return dataclasses.replace(rows, y=y, class_names=class_names)


def _read_labels(path: pathlib.Path | str, rows: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (class numbers, class names) of the labels in an npy file."""
    try:
        check_regular(pathlib.Path(path))
        with open(path, "rb") as file:
            shape, _, dtype = described = _header(file, path)
            _check_labels(shape, dtype, rows, path)
            return class_numbers(np.array(_array(path, path, file.tell(), *described)), rows, path)
    except OSError as error:
        raise InputError(
            f"Expected an npy file with the labels. Received: {path}, which cannot be read ({error.strerror})."
        ) from error


def _header(file: Any, where: pathlib.Path | str) -> tuple[Shape, bool, np.dtype]:
    """Return (shape, whether columns come first, dtype) of an open npy file, which stands at its first number then."""
    try:
        return array_header(file)
    except _DAMAGED as error:
        raise InputError(
            f"Expected a NumPy array. Received: {where}, which is damaged or something else. {CURE}"
        ) from error


def _check_labels(shape: Shape, dtype: np.dtype, rows: int, where: pathlib.Path | str) -> None:
    """Raise InputError unless an array of this shape and type holds a label for each of so many rows."""
    if dtype.hasobject:
        raise InputError(
            f"Expected labels that are integers or text. Received: Python objects in {where}, which NumPy saves in a "
            "form that is not safe to load. Save them as text: y.astype(str)."
        )
    check_array(shape, dtype, rows, where)


def _rows_of(
    paths: Mapping[Any, pathlib.Path], source: Source, cache: pathlib.Path | str | None
) -> tuple[np.ndarray, Shape | None, list[str]]:
    """Return what `rows_of` does for npy files. `paths` are theirs, by what they are called in messages."""
    described = {}
    for where, path in paths.items():
        with open(path, "rb") as file:
            shape, _, dtype = _header(file, where)
        described[where] = shape, dtype
    check_alike(described)
    return rows_of({where: _mapped(path, where) for where, path in paths.items()}, source, cache)


def rows_of(
    arrays: Mapping[Any, np.ndarray], source: Source, cache: pathlib.Path | str | None
) -> tuple[np.ndarray, Shape | None, list[str]]:
    """Return (x, image_shape, notes) of mapped arrays; x, (examples, features), is the only one, or a copy if need be.

    `arrays` are named as they are called in messages.
    """
    first_where, first = next(iter(arrays.items()))
    total = sum(map(len, arrays.values()))
    where = source if len(arrays) > 1 else first_where
    check_rows_shape((total, *first.shape[1:]), where)
    audit = Audit(where)
    ours = _native(first.dtype)
    in_order = first.ndim == 2 or first.flags.c_contiguous
    if len(arrays) == 1 and ours == first.dtype and in_order:
        x = first.reshape(len(first), -1)
        audit.add(x)
    else:
        target = cache_file(cache, source.name, list(map(str, arrays)), "copy")
        x = store(_batches(arrays.values(), ours), target, audit, total)
    image_shape = image_shape_of(first.shape, first.dtype)
    return x, image_shape, [*flattened(first.shape, image_shape), *audit.notes()]


def _native(dtype: np.dtype) -> np.dtype:
    """Return the type that numbers are kept in: as they are, but in the order and of a size that all code knows."""
    if dtype.name == "bfloat16":
        return np.dtype("float32")
    return dtype.newbyteorder("=") if dtype.itemsize <= 8 else np.dtype("float64")


def check_alike(described: Mapping[Any, tuple[Shape, Any]]) -> None:
    """Raise InputError unless arrays, (shape, dtype) by name, are of one type and, but for the examples, one shape."""
    (first_where, (first_shape, first)), *others = described.items()
    for where, (shape, dtype) in others:
        if (shape[1:], len(shape), dtype) != (first_shape[1:], len(first_shape), first):
            raise InputError(
                f"Expected arrays of one type and one shape but for the examples. Received: {first} {first_shape} in "
                f"{first_where} and {dtype} {shape} in {where}. Name only those that belong together."
            )


def _mapped(path: pathlib.Path, where: Any) -> np.ndarray:
    """Return the array of numbers of an npy file, mapped."""
    with open(path, "rb") as file:
        shape, fortran, dtype = _header(file, where)
        begin = file.tell()
    check_numbers(dtype, where)
    if len(shape) < 2 or 0 in shape:
        check_rows_shape(shape, where)
    array = _array(path, where, begin, shape, fortran, dtype)
    return array.view("uint8") if dtype.kind == "b" else array


def _array(
    path: pathlib.Path | str, where: Any, begin: int, shape: Shape, fortran: bool, dtype: np.dtype
) -> np.ndarray:
    """Return the array of an npy file that begins at this byte, mapped. Raise InputError if the file ends before it."""
    if min(shape, default=0) < 0 or begin + math.prod(shape) * dtype.itemsize > os.path.getsize(path):
        raise InputError(f"Expected {shape} numbers. Received: {where}, which is cut off. {CURE}")
    if 0 in (*shape, dtype.itemsize):  # which cannot be mapped
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", begin, shape, "F" if fortran else "C")


def _batches(arrays: Iterable[np.ndarray], dtype: np.dtype) -> Iterator[np.ndarray]:
    for array in arrays:
        for _, chunk in row_blocks(array):
            yield chunk.reshape(len(chunk), -1).astype(dtype)


def read_npz(
    source: Source,
    labels: str | None = None,
    feature: str | None = None,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return an array of npz files: the one named `feature`, or x, or x_train, or the only one that can be meant.

    It is unpacked into the cache first. `labels` is the name of another array. A sparse matrix of scipy, which is in
    an npz file of its own, becomes rows of all its numbers; `labels` is the path of an npy file then.
    """
    unpacked, classes, notes = {}, Labels(f"{labels} in {source}"), list(source.notes)
    for path in source.files:
        try:
            with zipfile.ZipFile(path) as archive:
                arrays = {name.removesuffix(".npy"): _described(archive, name, path) for name in archive.namelist()}
                if sparse.is_matrix(arrays):
                    return _with_labels(sparse.read_matrix(source, feature, cache), labels)
                feature = name_to_read(arrays, feature, labels, path)
                if labels is not None:
                    _check_labels(*arrays[labels], math.prod(arrays[feature][0][:1]), f"{labels} in {path}")
                    classes.add_array(archive_array(archive, archive.getinfo(f"{labels}.npy")))
                unpacked[f"{feature} in {path}"] = _unpacked(archive, feature, path, cache)
                notes += left_out(arrays, feature, labels) if len(unpacked) == 1 else []
        except InputError:
            raise
        except _DAMAGED_ZIP as error:
            raise InputError(f"Expected an npz file. Received: {path}, which is damaged: {error}. {CURE}") from error
    x, image_shape, more = _rows_of(unpacked, source, cache)
    y, class_names = (None, ()) if labels is None else classes.classes(len(x))
    return Rows(
        x, y, class_names, image_shape=image_shape, source=f"array {feature} in {source}", notes=(*notes, *more)
    )


def _described(archive: zipfile.ZipFile, name: str, path: pathlib.Path) -> tuple[Shape, np.dtype]:
    """Return (shape, dtype) of an array in a zip."""
    with archive.open(name) as file:
        shape, _, dtype = _header(file, f"{name} in {path}")
    return shape, dtype


def _unpacked(archive: zipfile.ZipFile, key: str, path: pathlib.Path, cache: pathlib.Path | str | None) -> pathlib.Path:
    """Return the path of an npy file after taking it out of a zip."""
    member = archive.getinfo(f"{key}.npy")
    shape, dtype = _described(archive, member.filename, path)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise InputError(f"Expected {shape} numbers. Received: {key} in {path}, which is cut off. {CURE}")
    target = cache_file(cache, path, key).with_suffix(".npy")
    with writing(target) as aside, archive.open(member) as packed, open(aside, "wb") as file:
        check_space(target.parent, member.file_size)
        shutil.copyfileobj(packed, file, 2**20)
    return target
