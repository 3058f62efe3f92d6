"""Sparse autoencoders of other libraries as models of this one."""

import hashlib
import pathlib
import typing
import warnings

import numpy as np

from ..conventions import norm_scale
from ..errors import InputError
from . import hub, pickles, saelens, scopes, sparsify
from .check import check
from .detection import Found, find
from .models import build
from .tensors import HALF, opened
from .weights import Weights

if typing.TYPE_CHECKING:
    import os

    import keras

READERS = {
    "saelens": saelens.read,
    "sparsify": sparsify.read,
    "gemma_scope": scopes.read_gemma,
    "llama_scope": scopes.read_llama,
    "dictionary_learning": pickles.read_dictionary_learning,
    "openai": pickles.read_openai,
}


def load_sae(path: "str | os.PathLike[str]", format: str = "auto", sample: typing.Any = None) -> "keras.Model":
    """Return the sparse autoencoder in a file, directory or repository of another library, as a Keras model.

    It is a `SparseAutoencoder` with the method, scale and thresholds of the file, so that `transform`, `reconstruct`,
    `save`, exports and training go on from there. A transcoder, whose outputs are other activations, and an autoencoder
    that normalises each row are functional models instead, whose `get_layer("encoder")` gives the codes. Kernels turn
    as their shapes say, nothing is left out, and what is not understood is refused by name. Half precision becomes
    float32, exactly; there is a warning, because the weights are no more precise than before. Penalties of a training
    are in no file: methods have them at 0.

    Where the model is from is its `origin`, a dictionary with "format", "address", "revision" (of the Hub), "sha256" of
    the weights, "architecture", "dtype", "claims" (k, or mean active units) and "metadata"; `save` keeps it.

    Args:
        path: a directory, the file with the weights, or `hf://user/repository[@revision][/directory]` on the Hugging
            Face Hub, which needs `pip install 'keras-sae[interchange]'`, as safetensors do.
        format: "auto", or one of "saelens" (version 6 and before), "gemma_scope" (1: params.npz, 2:
            params.safetensors), "sparsify", "llama_scope" (and R1-distill), "dictionary_learning", "openai". The last
            two are pickles of PyTorch: it has to be installed, and only its safe loader is used.
        sample: (examples, features), activations that the autoencoder is for; of a transcoder a tuple, (inputs,
            targets). Then `origin` has "l0" and "variance_explained" of them, and there is a warning that names the
            likely cause if they are absurd. If activations were scaled in training and the file lacks the factor, it is
            taken from the sample.

    Raises:
        InputError: there is no such file, or several; tensors are missing or have other shapes; it is damaged, or holds
            what this version does not understand.

    >>> sae = keras_sae.load_sae("gpt2-small-resid-8", sample=activations[:4096])
    >>> codes = sae.transform(activations)
    """
    place = hub.fetched(str(path)) if str(path).startswith(hub.SCHEME) else hub.Place(pathlib.Path(path))
    found = find(place.path, format)
    with opened(found.weights) as tensors:
        weights = READERS[found.format](found, tensors)
        tensors.check_asked()
        rows = None if sample is None else _rows(sample, weights)
        if weights.lacks_scale and rows is not None:
            weights.scale = norm_scale([rows])
        model = build(weights)
        dtypes = {tensors.dtypes[name] for name in tensors.asked if name in tensors}
    model.origin = _origin(str(path), place, found, weights, dtypes)
    for remark in _remarks(weights, dtypes, rows):
        warnings.warn(f"{path}: {remark}", stacklevel=2)
    if rows is not None:
        measured, warning = check(model, weights, *rows)
        model.origin.update(measured)
        if warning:
            warnings.warn(f"{path}: {warning}", stacklevel=2)
    return model


def _origin(address: str, place: hub.Place, found: Found, weights: Weights, dtypes: set[str]) -> dict[str, typing.Any]:
    with found.weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    hub.check_digest(found.weights, digest)
    return {
        "format": found.format,
        "address": address,
        "revision": place.revision,
        "sha256": digest,
        "architecture": weights.architecture,
        "dtype": sorted(dtypes & {*HALF, "float64"} or {"float32"})[0],
        "claims": weights.claims,
        "metadata": weights.metadata,
    }


def _remarks(weights: Weights, dtypes: set[str], sample: typing.Any) -> list[str]:
    """Return what a user should be told."""
    remarks = list(weights.remarks)
    for dtype in sorted(dtypes & set(HALF)):
        remarks.append(f"Its weights are {dtype}, now float32: exact, but no more precise than before.")
    if weights.lacks_scale and sample is None:
        remarks.append(
            "It was trained on activations that were scaled to a mean length of sqrt(features), and the file lacks the "
            "factor. Scale yours so, or pass some as `sample`, from which the factor is then taken."
        )
    return remarks


def _rows(sample: typing.Any, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Return the activations of a sample and what they are to be turned into, (rows, features) and (rows, outputs)."""
    x, y = sample if isinstance(sample, tuple) else (sample, sample)
    x, y = np.asarray(x, "float32"), np.asarray(y, "float32")
    features, outputs = weights.kernels[0].shape[0], weights.kernels[1].shape[1]
    if x.ndim != 2 or x.shape[1] != features or not len(x):
        raise InputError(
            f"Expected a sample of activations of shape (examples, {features}), for which the autoencoder is. "
            f"Received: {x.shape}. They are of another model, or of another place in it."
        )
    if y.shape != (len(x), outputs):
        raise InputError(
            f"Expected `sample` as (inputs, targets) with targets of shape ({len(x)}, {outputs}). Received: {y.shape}."
        )
    return x, y
