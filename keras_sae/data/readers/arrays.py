"""Readers of NumPy's files, npy and npz."""

import pathlib
import shutil
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np

from ...errors import InputError
from .labels import class_numbers
from .rows import (
    Rows,
    cache_file,
    check_finite,
    check_numbers,
    check_rows_shape,
    check_space,
    row_blocks,
    store,
    writing,
)

CURE = "Save or copy the file again."
_DAMAGED = (ValueError, TypeError, KeyError, SyntaxError, OverflowError, EOFError, tokenize.TokenError)
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)  # RuntimeError: encryption, unknown compression


def read_npy(
    path: pathlib.Path, labels: pathlib.Path | str | None = None, cache: pathlib.Path | str | None = None
) -> Rows:
    """Return the array of an npy file, mapped. `labels` is the path of another npy file, (examples,)."""
    x, image_shape = _mapped(path, path, cache)
    y, class_names = (None, ()) if labels is None else _read_labels(labels, len(x))
    return Rows(x, y, class_names, image_shape=image_shape, source=f"array in {path}")


def _read_labels(path: pathlib.Path | str, rows: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (class numbers, class names) of the labels in an npy file."""
    try:
        with open(path, "rb") as file:
            return class_numbers(_load(file, path), rows, path)
    except OSError as error:
        raise InputError(
            f"Expected an npy file with the labels. Received: {path}, which cannot be read ({error.strerror})."
        ) from error


def _load(file: Any, where: pathlib.Path | str) -> np.ndarray:
    """Return the complete array of an open npy file, which should fit into memory."""
    try:
        return np.lib.format.read_array(file, allow_pickle=False)
    except _DAMAGED as error:
        raise InputError(f"Expected labels as a NumPy array. Received: {where}: {error}. {CURE}") from error


def _header(file: Any, where: pathlib.Path | str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return (shape, whether columns come first, dtype) of an open npy file."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        return read[np.lib.format.read_magic(file)](file)
    except _DAMAGED as error:
        raise InputError(
            f"Expected a NumPy array. Received: {where}, which is damaged or something else. {CURE}"
        ) from error


def _mapped(
    path: pathlib.Path, where: pathlib.Path | str, cache: pathlib.Path | str | None
) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """Return (x, image_shape) of an npy file; x, (examples, features), maps the file, or a copy of it if it has to."""
    with open(path, "rb") as file:
        shape, columns_first, dtype = _header(file, where)
    check_numbers(dtype, where)
    check_rows_shape(shape, where)
    try:
        array = np.load(path, mmap_mode="r")
    except _DAMAGED as error:
        raise InputError(f"Expected {shape} numbers. Received: {where}, which is cut off. {CURE}") from error
    array = array.view("uint8") if dtype.kind == "b" else array
    ours = array.dtype.newbyteorder("=") if dtype.itemsize <= 8 else np.dtype("float64")
    if ours != array.dtype or (columns_first and len(shape) > 2):
        batches = (chunk.reshape(len(chunk), -1).astype(ours) for _, chunk in row_blocks(array))
        x = store(batches, cache_file(cache, path, "copy"), where, total=len(array))
    else:
        x = array.reshape(len(array), -1)
        check_finite(x, where)
    return x, _image_shape(array)


def _image_shape(array: np.ndarray) -> tuple[int, ...] | None:
    """Return (height, width) or (height, width, 3) if a uint8 array has these dimensions, else None."""
    if array.dtype != "uint8" or array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        return None
    return array.shape[1:3] if array.shape[3:] == (1,) else array.shape[1:]


def read_npz(path: pathlib.Path, labels: str | None = None, cache: pathlib.Path | str | None = None) -> Rows:
    """Return an array of an npz file: x, or x_train, or the only one of two dimensions or more.

    It is unpacked into the cache first. `labels` is the name of another array of the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path, labels, cache)
    except _DAMAGED_ZIP as error:
        raise InputError(f"Expected an npz file. Received: {path}, which is damaged: {error}. {CURE}") from error


def _read_archive(
    archive: zipfile.ZipFile, path: pathlib.Path, labels: str | None, cache: pathlib.Path | str | None
) -> Rows:
    """Return the array of an open npz file, as `read_npz`."""
    arrays = {name.removesuffix(".npy"): _described(archive, name, path) for name in archive.namelist()}
    found = ", ".join(f"{key} {shape} {dtype}" for key, (shape, dtype) in arrays.items()) or "nothing"
    if labels is not None and labels not in arrays:
        raise InputError(f"Expected labels named {labels!r} in {path}. Received: {found}.")
    key = _key_of_data(arrays, labels)
    if key is None:
        raise InputError(
            f"Expected an array named x or x_train, or only one of two dimensions or more, in {path}. Received: "
            f"{found}. Save it again: np.savez(path, x=x, y=y)."
        )
    x, image_shape = _mapped(_unpacked(archive, key, path, cache), f"{key} in {path}", cache)
    y: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    if labels is not None:
        with archive.open(f"{labels}.npy") as file:
            where = f"{labels} in {path}"
            y, class_names = class_numbers(_load(file, where), len(x), where)
    return Rows(x, y, class_names, image_shape=image_shape, source=f"array {key} in {path}")


def _described(archive: zipfile.ZipFile, name: str, path: pathlib.Path) -> tuple[tuple[int, ...], np.dtype]:
    """Return (shape, dtype) of an array in a zip."""
    with archive.open(name) as file:
        shape, _, dtype = _header(file, f"{name} in {path}")
    return shape, dtype


def _key_of_data(arrays: dict[str, tuple[tuple[int, ...], np.dtype]], labels: str | None) -> str | None:
    """Return the name of the array to read, or None if it is not clear which one is meant."""
    named = [key for key in ("x", "x_train") if key in arrays and key != labels]
    others = [key for key, (shape, _) in arrays.items() if len(shape) >= 2 and key != labels]
    return named[0] if named else others[0] if len(others) == 1 else None


def _unpacked(archive: zipfile.ZipFile, key: str, path: pathlib.Path, cache: pathlib.Path | str | None) -> pathlib.Path:
    """Return the path of an npy file after taking it out of a zip."""
    member = archive.getinfo(f"{key}.npy")
    target = cache_file(cache, path, key).with_suffix(".npy")
    with writing(target) as aside, archive.open(member) as source, open(aside, "wb") as file:
        check_space(target.parent, member.file_size)
        shutil.copyfileobj(source, file, 2**20)
    return target
