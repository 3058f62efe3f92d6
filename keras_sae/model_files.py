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

from . import stack  # noqa: F401, registers with Keras every class that the model of a run is made of
from .archives import check_zip, reading
from .files import write_aside

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
