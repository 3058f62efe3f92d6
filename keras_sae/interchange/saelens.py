"""Files of SAELens, of version 6 and before: cfg.json and sae_weights.safetensors.

Reference: sae_lens 6.54, sae_lens/saes/ and sae_lens/loading/pretrained_sae_loaders.py.
"""

import pathlib
import re
from typing import Any

import numpy as np

from . import methods
from .configuration import check_sizes, needed, read_json, refuse
from .detection import Found
from .tensors import Tensors, opened
from .weights import Weights, with_norms

ARCHITECTURES = ("standard", "topk", "jumprelu", "gated", "batchtopk", "matryoshka_batchtopk", "transcoder",
                 "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")  # fmt: skip
NORMALISATIONS = ("none", "expected_average_only_in", "layer_norm", "constant_norm_rescale")
RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}
METADATA = ("model_name", "hook_name", "hook_layer", "hook_head_index", "context_size", "prepend_bos", "dataset_path",
            "neuronpedia_id", "hook_name_out", "sae_lens_training_version")  # fmt: skip


def read(found: Found, tensors: Tensors) -> Weights:
    """Return the weights of a directory of SAELens."""
    path = found.config or found.directory / "cfg.json"
    content = read_json(path)
    if "num_latents" in content:
        raise refuse("a configuration of sparsify", path, "one of SAELens, as sae_weights.safetensors is")
    config = configuration(content)
    architecture = config["architecture"]
    if architecture not in ARCHITECTURES:
        raise refuse(f"the architecture {architecture!r}", path, f"one of the architectures {', '.join(ARCHITECTURES)}")
    transcoder = "transcoder" in architecture
    bias = tensors.vector("b_gate" if architecture == "gated" else "b_enc")
    units, outputs = len(bias), len(tensors.vector("b_dec"))
    features = config.get("d_in", outputs) if transcoder else outputs
    sizes = {"d_sae": units, "d_in": features, **({"d_out": outputs} if transcoder else {})}
    check_sizes(tensors.path, sizes, config)
    kernels = (tensors.matrix("W_enc", features, units), tensors.matrix("W_dec", units, outputs))
    if config.get("rescale_acts_by_decoder_norm"):
        kernels, bias = with_norms(kernels, bias)
    normalisation, scale = _normalisation(config, path)
    method = _method(architecture, config, tensors, bias, path)
    weights = Weights(
        architecture,
        kernels,
        (np.zeros_like(bias) if architecture == "gated" else bias, tensors.vector("b_dec")),
        centred=bool(config.get("apply_b_dec_to_input", not transcoder)),
        scale=1.0 if scale is None else scale,
        lacks_scale=scale is None,
        skip=tensors.matrix("W_skip", features, outputs, transposed=True) if "skip" in architecture else None,
        normalisation=normalisation,
        metadata=config["metadata"],
        **{**method, "claims": _claims(method, found)},
    )
    check_scaling_factor(tensors)
    return weights


def configuration(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration in the terms of version 6: earlier ones, and those without a version, have other names."""
    metadata = config.get("metadata") or {}
    version = re.match(r"\d+", str(config.get("sae_lens_version") or metadata.get("sae_lens_version") or ""))
    if version and int(version[0]) >= 6:
        return {"architecture": "standard", **config, "metadata": metadata}
    config = {RENAMED.get(name, name): value for name, value in config.items()}
    config.setdefault("architecture", "standard")
    config.setdefault("apply_b_dec_to_input", True)
    k = (config.get("activation_fn_kwargs") or {}).get("k")
    if config.get("activation_fn") == "topk" and k is not None:
        config |= {"architecture": "topk", "k": k}
    norm = config.get("normalize_activations")
    config["normalize_activations"] = {True: "expected_average_only_in", False: "none", None: "none"}.get(norm, norm)
    return {**config, "metadata": {name: config[name] for name in METADATA if config.get(name) is not None}}


def _method(
    architecture: str, config: dict[str, Any], tensors: Tensors, bias: np.ndarray, path: pathlib.Path
) -> dict[str, Any]:
    units = len(bias)
    activation = config.get("activation_fn", "relu")
    if activation not in ("relu", "topk") or (activation == "topk" and architecture != "topk"):
        raise refuse(
            f"activation_fn={activation!r} of the architecture {architecture}", path, "relu, or topk with its k"
        )
    if architecture == "topk":
        return methods.top_k(needed(config, "k", path), units, path)
    if architecture.startswith("jumprelu"):
        if "log_threshold" in tensors:  # of a training that went on
            return methods.jump_relu(np.exp(tensors.vector("log_threshold", units)))
        return methods.jump_relu(tensors.vector("threshold", units))
    if architecture == "gated":
        return methods.gated(bias, tensors.vector("r_mag", units), tensors.vector("b_mag", units))
    if "batchtopk" in architecture:  # of a training that went on; finished ones are jumprelu
        return methods.batch_top_k(float(needed(config, "k", path)), tensors.number("topk_threshold"))
    return methods.relu()


def _normalisation(config: dict[str, Any], path: pathlib.Path) -> tuple[str, float | None]:
    """Return (normalisation of each row, scale of all or None if the file does not have it)."""
    norm = config.get("normalize_activations") or "none"
    if norm not in NORMALISATIONS:
        raise refuse(f"normalize_activations={norm!r}", path, f"one of {', '.join(NORMALISATIONS)}")
    if norm != "expected_average_only_in":
        return "" if norm == "none" else norm, 1.0
    scaler = path.parent / "activation_scaler.json"
    factor = read_json(scaler).get("scaling_factor") if scaler.is_file() else None
    return "", float(factor) if factor else None


def _claims(method: dict[str, Any], found: Found) -> dict[str, float]:
    """Return what a file says about L0: its k, or else the rates at which its units were active."""
    rates = found.directory / "sparsity.safetensors"
    if method.get("claims") or not rates.is_file():
        return method.get("claims", {})
    with opened(rates) as tensors:
        return {"l0": float((10 ** tensors.vector("sparsity").astype("float64")).sum())}


def check_scaling_factor(tensors: Tensors) -> None:
    """Raise InputError for a factor of codes, which old files may have, unless it is 1."""
    if "scaling_factor" not in tensors:
        return
    factor = tensors.vector("scaling_factor")
    if not np.allclose(factor, 1):
        raise refuse(
            f"a scaling_factor from {factor.min():g} to {factor.max():g}", tensors.path, "no scaling_factor but 1"
        )
