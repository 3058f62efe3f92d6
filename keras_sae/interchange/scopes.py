"""Files of Gemma Scope and Llama Scope, which are JumpReLU.

Gemma Scope     params.npz; of its second edition params.safetensors with a config.json
Llama Scope     hyperparams.json and checkpoints/final.safetensors
R1-distill      config.json and sae_weights.safetensors

Reference: sae_lens 6.54, sae_lens/loading/pretrained_sae_loaders.py.
"""

import re
from typing import Any

import numpy as np

from ..errors import InputError
from . import methods
from .configuration import check_sizes, needed, read_json, refuse
from .detection import Found
from .saelens import check_scaling_factor
from .tensors import Tensors
from .weights import Weights


def read_gemma(found: Found, tensors: Tensors) -> Weights:
    """Return the weights of a directory of Gemma Scope, whose encoders do not subtract the decoder's bias.

    The kernels of those of embeddings are for rows divided by sqrt(features); their bias is not, as SAELens has it.
    """
    config = read_json(found.config) if found.config else {}
    architecture = config.get("architecture", "jump_relu")
    if architecture != "jump_relu":
        raise refuse(f"the architecture {architecture!r}", tensors.path, "the architecture jump_relu")
    bias, output_bias = tensors.vector("b_enc"), tensors.vector("b_dec")
    units, outputs = len(bias), len(output_bias)
    names = ("W_enc", "W_dec") if "W_enc" in tensors else ("w_enc", "w_dec")  # of the first and the second edition
    shape = tensors.shapes.get(names[0], (outputs,))
    features = outputs if outputs in shape else next((size for size in shape if size != units), outputs)
    skip = None
    if "affine_skip_connection" in tensors:
        skip = tensors.matrix("affine_skip_connection", features, outputs)
    # As in transcoder/LAYER, or in the name of a repository, as in ...--gemma-scope-2b-pt-transcoders.
    named = any(re.search(r"(^|-)transcoders?$", part) for part in found.directory.resolve().parts)
    transcoder = named or skip is not None or features != outputs or "hf_hook_point_out" in config
    l0 = re.search(r"average_l0_(\d+)", found.directory.name)
    kernels = (tensors.matrix(names[0], features, units), tensors.matrix(names[1], units, outputs))
    check_scaling_factor(tensors)
    if "embedding" in found.directory.parts[-3:-1]:  # as in embedding/WIDTH/average_l0_6
        kernels = (kernels[0].times(features**-0.5), kernels[1].times(features**0.5))
    return Weights(
        "transcoder" if transcoder else "jumprelu",
        kernels,
        (bias, output_bias),
        skip=skip,
        claims={"l0": float(l0[1])} if l0 else {},
        metadata=config,
        **methods.jump_relu(tensors.vector("threshold", units)),
    )


def read_llama(found: Found, tensors: Tensors) -> Weights:
    """Return the weights of a directory of Llama Scope, for which activations have a mean length of sqrt(features)."""
    path = found.config or found.directory / "hyperparams.json"
    config = read_json(path)
    units, features = len(tensors.vector("encoder.bias")), needed(config, "d_model", path)
    activation = config.get("act_fn", "jumprelu")
    if activation != "jumprelu":
        raise refuse(f"the activation {activation!r}", path, "the activation jumprelu")
    expected = config.get("d_sae") or features * needed(config, "expansion_factor", path)
    check_sizes(
        tensors.path, {"d_sae": units, "d_model": len(tensors.vector("decoder.bias"))}, {**config, "d_sae": expected}
    )
    scale, scale_out = _scales(found, tensors, config, features)
    if path.name == "hyperparams.json":  # one number, in units of activations that are not scaled
        threshold = np.full(units, float(needed(config, "jump_relu_threshold", path)) * scale)
    else:
        threshold = np.exp(tensors.vector("log_jumprelu_threshold", units))
    decoder = tensors.matrix("decoder.weight", units, features, transposed=True)
    output_bias = tensors.vector("decoder.bias")
    transcoder = config.get("hook_point_out", config.get("hook_point_in")) != config.get("hook_point_in")
    if transcoder:  # its outputs are in other units than its inputs
        decoder, output_bias = decoder.times(scale / scale_out), output_bias * (scale / scale_out)
    return Weights(
        "transcoder" if transcoder else "jumprelu",
        (tensors.matrix("encoder.weight", features, units, transposed=True), decoder),
        (tensors.vector("encoder.bias"), output_bias),
        centred=bool(config.get("apply_decoder_bias_to_pre_encoder")),
        scale=scale,
        metadata={name: config[name] for name in ("hook_point_in", "hook_point_out", "top_k") if name in config},
        **methods.jump_relu(threshold),
    )


def _scales(found: Found, tensors: Tensors, config: dict[str, Any], features: int) -> tuple[float, float]:
    """Return the factors of inputs and outputs: sqrt(features) divided by their mean length in the data of training."""
    norm = config.get("norm_activation", "dataset-wise")
    if norm == "inference":  # they are in the weights
        return 1.0, 1.0
    if norm != "dataset-wise":
        raise refuse(f"norm_activation={norm!r}", tensors.path, "norm_activation dataset-wise or inference")
    lengths = dict(config.get("dataset_average_activation_norm") or {})
    beginning = "dataset_average_activation_norm."
    stored = {name.removeprefix(beginning): name for name in tensors.shapes if name.startswith(beginning)}
    for key, hook in (("in", config.get("hook_point_in")), ("out", config.get("hook_point_out"))):
        name = stored.get(str(hook), stored.get(key))
        if name is not None:
            lengths[key] = tensors.number(name)
    if not lengths.get("in"):
        raise InputError(
            f"Expected the mean length of activations, dataset_average_activation_norm, in {found.directory}. "
            "Received: none, so that the scale of its inputs is unknown."
        )
    return features**0.5 / lengths["in"], features**0.5 / lengths.get("out", lengths["in"])
