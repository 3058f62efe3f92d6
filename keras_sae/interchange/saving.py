"""Sparse autoencoders of this library as files of others."""

import os
import pathlib
from typing import Any

import keras
import numpy as np
from keras import ops

from .. import extras
from ..autoencoder import as_single
from ..errors import InputError
from ..files import write_aside, write_json
from ..sparse_autoencoder import SparseAutoencoder
from ..sparsity import L1, BatchTopK, Contractive, Gated, JumpReLU, TopK
from .detection import LAYOUTS
from .saelens import METADATA

VERSION = "6.0.0"  # of the format of SAELens; without one, files are read as of versions before it


def save_sae(model: SparseAutoencoder, path: str | os.PathLike[str], format: str = "saelens") -> None:
    """Write a SparseAutoencoder as a directory that another library reads, with the same codes and reconstructions.

        W_enc = scale W1     b_enc = b1     W_dec = W2 / scale     b_dec = b2 / scale

    Args:
        model: of "saelens" with units that are ReLU, TopK, BatchTopK, JumpReLU or Gated, BatchTopK and
            MatryoshkaBatchTopK as JumpReLU with their threshold; of "sparsify" with TopK.
        path: a new directory, or one whose files are replaced: cfg.json, and sae_weights.safetensors or
            sae.safetensors, of which the other is removed.
        format: "saelens", of version 6, or "sparsify".

    Raises:
        InputError: the other library has no name for what the model computes.

    >>> keras_sae.save_sae(ae, "mine")  # there: sae_lens.SAE.load_from_disk("mine")
    """
    if format not in WRITERS:
        raise InputError(f"Expected `format` as one of {', '.join(WRITERS)}. Received: {format!r}.")
    _check(model, format)
    extras.check("safetensors", "write such weights with")
    config, weights, name = WRITERS[format](model)
    from safetensors.numpy import save_file

    directory = pathlib.Path(path)
    directory.mkdir(parents=True, exist_ok=True)
    with write_aside(directory / name) as aside:
        save_file({key: np.ascontiguousarray(value) for key, value in weights.items()}, aside)
    write_json(directory / "cfg.json", config)
    for layout in LAYOUTS:  # one configuration is of one file of weights
        if layout.config == "cfg.json" and layout.weights != name:
            (directory / layout.weights).unlink(missing_ok=True)


def _check(model: Any, format: str) -> None:
    """Raise InputError for what no other library has a name for."""
    reason = ""
    if not isinstance(model, SparseAutoencoder):
        reason = f"a {type(model).__name__}. Give it a SparseAutoencoder, those of a stack one by one"
    elif not model.built:
        reason = "one that has no weights yet: fit it, or call build((None, features))"
    elif model.tied:
        reason = "tied weights: it has two kernels, which would go different ways"
    elif model.output_activation is not keras.activations.linear:
        reason = f"outputs with the activation {model.output_activation.__name__}: it has linear ones"
    elif model.activation not in (keras.activations.linear, keras.activations.relu):
        reason = f"units with the activation {model.activation.__name__}: it has ReLU and its kin, and no KL"
    if reason:
        raise InputError(f"Expected an autoencoder that {format} has a name for. Received: {reason}.")


def _weights(model: SparseAutoencoder) -> dict[str, np.ndarray]:
    """Return W_enc, b_enc, W_dec and b_dec for rows as they are, float32; b_dec is subtracted if `pre_bias`."""
    hidden, output = model.encoder.get_layer("hidden"), model.output_layer
    scale = float(output.scale) if model.is_dictionary else 1.0
    encoder, decoder = (as_single(ops.convert_to_tensor(kernel)) for kernel in (hidden.kernel, output.kernel))
    if scale != 1:
        encoder, decoder = encoder * scale, decoder / scale
    bias = as_single(ops.convert_to_tensor(hidden.bias)) if hidden.use_bias else np.zeros(model.units)
    weights = {"W_enc": encoder, "b_enc": bias, "W_dec": decoder}
    weights["b_dec"] = as_single(ops.convert_to_tensor(output.bias)) / scale
    return {name: value.astype("float32", copy=False) for name, value in weights.items()}


def _saelens(model: SparseAutoencoder) -> tuple[dict[str, Any], dict[str, np.ndarray], str]:
    weights, method, more = _weights(model), model.sparsity, {}
    if type(method) is TopK and method.relu:
        architecture, more = "topk", {"k": method.k_inference or method.k, "rescale_acts_by_decoder_norm": False}
    elif isinstance(method, BatchTopK):
        architecture = "jumprelu"
        weights["threshold"] = np.full(model.units, float(method.threshold), "float32")
    elif type(method) is JumpReLU:
        architecture = "jumprelu"
        weights["threshold"] = as_single(ops.convert_to_tensor(method.theta)).astype("float32")
    elif type(method) is Gated:
        architecture = "gated"
        names = {"b_gate": "gate_bias", "b_mag": "magnitude_bias", "r_mag": "log_scale"}
        del weights["b_enc"]
        weights |= {theirs: as_single(ops.convert_to_tensor(getattr(method, ours))) for theirs, ours in names.items()}
    elif _is_relu(model):
        architecture = "standard"
    else:
        raise _nameless(method, "saelens")
    features, units = weights["W_enc"].shape
    known = {
        name: value for name, value in getattr(model, "origin", {}).get("metadata", {}).items() if name in METADATA
    }
    config = {
        "architecture": architecture, "d_in": features, "d_sae": units, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": model.pre_bias, "normalize_activations": "none", "reshape_activations": "none", **more,
        "metadata": {**known, "sae_lens_version": VERSION},
    }  # fmt: skip
    return config, weights, "sae_weights.safetensors"


def _is_relu(model: SparseAutoencoder) -> bool:
    """Return whether codes are ReLU activations, which its penalties do not change."""
    method = model.sparsity
    passes = method is None or isinstance(method, (keras.regularizers.Regularizer, L1, Contractive))
    return model.activation is keras.activations.relu and passes


def _sparsify(model: SparseAutoencoder) -> tuple[dict[str, Any], dict[str, np.ndarray], str]:
    method, weights = model.sparsity, _weights(model)
    if type(method) is not TopK or not method.relu:
        raise _nameless(method, "sparsify")
    bias = weights["b_enc"].astype("float64")
    if not model.pre_bias:  # it subtracts the bias all the same
        bias = bias + weights["b_dec"].astype("float64") @ weights["W_enc"].astype("float64")
    features, units = weights["W_enc"].shape
    config = {
        "activation": "topk", "expansion_factor": max(1, units // features), "normalize_decoder": False,
        "num_latents": units, "k": method.k_inference or method.k, "multi_topk": False, "skip_connection": False,
        "transcode": False, "d_in": features,
    }  # fmt: skip
    named = {"encoder.weight": weights["W_enc"].T, "encoder.bias": bias.astype("float32")}
    return config, {**named, "W_dec": weights["W_dec"], "b_dec": weights["b_dec"]}, "sae.safetensors"


def _nameless(method: Any, format: str) -> InputError:
    known = "TopK" if format == "sparsify" else "ReLU, TopK, BatchTopK, JumpReLU and Gated"
    what = "no method" if method is None else type(method).__name__
    negative = ", whose codes may be negative" if isinstance(method, TopK) else ""
    return InputError(f"Expected an autoencoder that {format} has a name for: {known}. Received: {what}{negative}.")


WRITERS = {"saelens": _saelens, "sparsify": _sparsify}
