"""Small files of other libraries with random weights, and what they compute, in NumPy."""

import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

GOLDEN = pathlib.Path(__file__).parent / "golden"
FEATURES, UNITS = 6, 9


def tensors(features=FEATURES, units=UNITS, seed=0, **more):
    """The tensors of a SAELens file, float32."""
    rng = np.random.default_rng(seed)
    shapes = {"W_enc": (features, units), "W_dec": (units, features), "b_enc": (units,), "b_dec": (features,)}
    return {name: rng.standard_normal(shape).astype("float32") for name, shape in shapes.items()} | more


def saelens(directory, weights=None, **config):
    """Write a SAELens directory, of version 6 unless told otherwise, and return its path."""
    weights = tensors() if weights is None else weights
    directory.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(value) for name, value in weights.items()}, directory / "sae_weights.safetensors"
    )
    usual = {"architecture": "standard", "apply_b_dec_to_input": True, "normalize_activations": "none",
             "metadata": {"sae_lens_version": "6.0.0"}}  # fmt: skip
    (directory / "cfg.json").write_text(json.dumps(usual | config))
    return directory


def rows(features=FEATURES, number=20, seed=1):
    return np.random.default_rng(seed).standard_normal((number, features)).astype("float32")


def relu_of(weights, x):
    """Codes and outputs of a standard SAELens autoencoder, float64."""
    w = {name: value.astype("float64") for name, value in weights.items()}
    codes = np.maximum((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 0)
    return codes, codes @ w["W_dec"] + w["b_dec"]
