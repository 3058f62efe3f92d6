"""A reader of safetensors files, in which many libraries keep activations and embeddings."""

import json
import math
import pathlib
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ...errors import InputError
from ...extras import imported
from .arrays import check_alike, rows_of
from .labels import Labels, check_array
from .named_arrays import Shape, left_out, name_to_read
from .rows import Rows, check_rows_shape
from .sources import Source

# Numbers as such a file calls them, which are always little-endian -> those of NumPy.
_DTYPES: dict[str, Any] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16, "BOOL": "?"}
_DTYPES |= {f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)}


class _Tensor(NamedTuple):
    """A tensor in a file: its shape, its type as the file calls it, the file, and the byte at which it begins."""

    shape: Shape
    kind: str
    path: pathlib.Path
    offset: int


def read_safetensors(
    source: Source,
    labels: str | None = None,
    feature: str | None = None,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return a tensor of safetensors files: the one named `feature`, or x, or the only one that can be meant.

    One file is mapped as it is; several, and bfloat16, which becomes float32, are copied. `labels` is the name of
    another tensor.
    """
    chosen: dict[str, _Tensor] = {}
    classes, notes = Labels(f"{labels} in {source}"), list(source.notes)
    for path in source.files:
        tensors = _tensors(path)
        described: dict[str, Any] = {name: tensor[:2] for name, tensor in tensors.items()}
        feature = name_to_read(described, feature, labels, path)
        chosen[f"{feature} in {path}"] = tensors[feature]
        if labels is not None:
            tensor, where = tensors[labels], f"{labels} in {path}"
            check_array(tensor.shape, np.dtype("int64"), math.prod(tensors[feature].shape[:1]), where)
            classes.add_array(_mapped(tensor, where))
        notes += left_out(described, feature, labels) if len(chosen) == 1 else []
    check_alike({where: tensor[:2] for where, tensor in chosen.items()})
    mapped = {where: _mapped(tensor, where, least_dimensions=2) for where, tensor in chosen.items()}
    x, image_shape, more = rows_of(mapped, source, cache)
    y, class_names = (None, ()) if labels is None else classes.classes(len(x))
    return Rows(
        x, y, class_names, image_shape=image_shape, source=f"tensor {feature} in {source}", notes=(*notes, *more)
    )


def _tensors(path: pathlib.Path) -> dict[str, _Tensor]:
    """Return the tensors of a file by name, once safetensors has found that they are as large as it says, and fit."""
    safetensors = imported("safetensors")
    try:
        with safetensors.safe_open(path, "numpy"):
            pass
    except safetensors.SafetensorError as error:
        raise InputError(
            f"Expected a safetensors file. Received: {path}, which is damaged, cut off or something else: {error}. "
            "Save or copy the file again."
        ) from error
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {
        name: _Tensor(tuple(item["shape"]), item["dtype"], path, 8 + size + item["data_offsets"][0])
        for name, item in header.items()
    }


def _mapped(tensor: _Tensor, where: str, least_dimensions: int = 1) -> np.ndarray:
    """Return a tensor, mapped. Raise InputError unless it has numbers, in so many dimensions or more."""
    if tensor.kind not in _DTYPES:
        raise InputError(
            f"Expected real numbers of one of these types: {', '.join(_DTYPES)}. Received: {tensor.kind} in {where}. "
            "Save them as float32 or float16."
        )
    if len(tensor.shape) < least_dimensions or 0 in tensor.shape:
        check_rows_shape(tensor.shape, where)
    array = np.memmap(tensor.path, _DTYPES[tensor.kind], "r", tensor.offset, tensor.shape)
    return array.view("uint8") if tensor.kind == "BOOL" else array
