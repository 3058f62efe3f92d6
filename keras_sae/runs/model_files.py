"""Models as .keras files: written whole or not at all, read with a check of what they declare.

A .keras file is a zip archive with the model's config as JSON and its weights as HDF5.
"""

import contextlib
import io
import json
import math
import os
import pathlib
import threading
import typing
import zipfile
from collections.abc import Iterator

import h5py
import keras
import numpy as np

from .. import stack  # registers with Keras every class that the model of a run is made of
from ..archives import check_zip, reading
from ..errors import InputError
from ..files import write_aside

WEIGHTS = "model.weights.h5"
FREE_WEIGHTS = 2**20  # of layers, beside those in the file, which some keep for themselves

_one_at_a_time = threading.Lock()


def save_model(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Write a .keras file so that the path holds a complete file or none."""
    with write_aside(path) as aside:
        model.save(aside)


def load_model(path: str | os.PathLike[str]) -> keras.Model:
    """Return the model of a .keras file, with its loss and metrics; its optimizer begins anew.

    Raises:
        InputError: the file is damaged, or declares more than it holds, or needs what Keras' safe mode refuses.
    """
    path = pathlib.Path(path)
    with reading(path, "a model that Keras can read"):
        check_zip(path)
        with zipfile.ZipFile(path) as archive:
            compile_config = json.loads(archive.read("config.json")).get("compile_config")
            weights = count_weights(archive.read(WEIGHTS))
        with _bounded(weights + FREE_WEIGHTS):
            model = keras.saving.load_model(path, compile=False)
        if not isinstance(model, keras.Model):
            raise ValueError(f"it holds no model but a {type(model).__name__}")
        if compile_config:
            model.compile_from_config(compile_config)
    return model


def fresh(model: keras.Model) -> keras.Model:
    """Return a model of the same architecture with the weights that a training begins with.

    Layers that do not learn, such as the whitening of inputs, keep their weights.
    """
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    for ours, theirs in zip(copy._flatten_layers(), model._flatten_layers(), strict=True):
        if not theirs.trainable:
            ours.set_weights(theirs.get_weights())
        if isinstance(ours, stack.SparseAutoencoder):
            ours.started = False
    return copy


def repack(source: pathlib.Path, target: pathlib.Path, dtype: str | None = None) -> None:
    """Write a .keras file again, compressed, its optimizer as it was before the training.

    With `dtype`, matrices of float32 are stored as float16, say. Vectors stay as they are: biases, thresholds and
    counts of examples take few bytes, and counts are large numbers.

    Raises:
        InputError: a weight is too large for `dtype`.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as smaller:
        for member in archive.infolist():
            content = archive.read(member)
            content = _packed(content, dtype) if member.filename == WEIGHTS else content
            smaller.writestr(zipfile.ZipInfo(member.filename), content, zipfile.ZIP_DEFLATED)
    with write_aside(target) as aside:
        aside.write_bytes(packed.getvalue())


def _packed(content: bytes, dtype: str | None) -> bytes:
    """Return an HDF5 file with the arrays of another one, those of `repack`.

    Keras expects the arrays of an optimizer, and zeros, as which its moments and steps begin, take no room once they
    are compressed. Its learning rate is a scalar of floating point, and stays.
    """
    with h5py.File(io.BytesIO(content), "r") as file, h5py.File(buffer := io.BytesIO(), "w") as smaller:

        def copy(name: str, found: typing.Any) -> None:
            if isinstance(found, h5py.Group):
                smaller.require_group(name).attrs.update(found.attrs)
                return
            values = found[()]
            if "optimizer" in name.split("/") and (values.ndim or values.dtype.kind == "i"):
                values = np.zeros_like(values)
            if dtype and values.dtype == "float32" and values.ndim > 1:
                with np.errstate(over="ignore"):
                    values = values.astype(dtype)
                if not np.isfinite(values).all():
                    raise InputError(f"Expected weights that {dtype} can hold. Received: {name} with larger ones.")
            smaller.create_dataset(name, data=values).attrs.update(found.attrs)

        smaller.attrs.update(file.attrs)
        file.visititems(copy)
    return buffer.getvalue()


def count_weights(content: bytes) -> int:
    """Return how many numbers an HDF5 file holds. Raise an error if it declares more bytes than it has.

    The tree is walked here and not by HDF5, which follows any depth until its stack ends.
    """
    numbers = size = 0
    with h5py.File(io.BytesIO(content), "r") as file:
        groups: list[h5py.Group] = [file["/"]]
        seen = {h5py.h5o.get_info(file.id).addr}
        while groups:
            group = groups.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"{group.name}/{name} in its weights is a link")
                found = group[name]
                address = h5py.h5o.get_info(found.id).addr
                if address in seen:
                    continue
                seen.add(address)
                if isinstance(found, h5py.Group):
                    groups.append(found)
                else:
                    numbers += found.size or 0
                    size += found.nbytes
                    if found.external or found.is_virtual:
                        raise ValueError(f"{found.name} in its weights lies in another file")
    if size > len(content):
        raise ValueError(f"its weights declare {size:,} bytes and hold {len(content):,}")
    return numbers


@contextlib.contextmanager
def _bounded(most: int) -> Iterator[None]:
    """Refuse layers, made by this thread, that have more weights together: before they take memory.

    Keras makes a model as its config says, and looks only then whether the weights in the file are as many.
    """
    left, thread = most, threading.get_ident()

    def add_bounded_weight(layer: keras.layers.Layer, *arguments: typing.Any, **options: typing.Any) -> keras.Variable:
        nonlocal left
        if threading.get_ident() == thread:
            shape = arguments[0] if arguments else options.get("shape")
            left -= math.prod((shape,) if isinstance(shape, int) else shape or ())
            if left < 0:
                raise MemoryError
        return add_weight(layer, *arguments, **options)

    with _one_at_a_time:
        add_weight = keras.layers.Layer.add_weight
        keras.layers.Layer.add_weight = add_bounded_weight
        try:
            yield
        finally:
            keras.layers.Layer.add_weight = add_weight
            if left < 0:  # here, because Keras drops the errors of some layers
                raise ValueError("its config asks for more weights than it holds")
