"""Files of sparsify: cfg.json and sae.safetensors.

Reference: eai-sparsify 1.3, sparsify/sparse_coder.py and config.py.
"""

from . import methods
from .configuration import check_sizes, needed, read_json, refuse
from .detection import Found
from .tensors import Tensors
from .weights import Weights


def read(found: Found, tensors: Tensors) -> Weights:
    """Return the weights of a directory of sparsify.

    Its inputs are centred unless it is a transcoder, and its skip connection takes them as they are.
    """
    path = found.config or found.directory / "cfg.json"
    config = read_json(path)
    activation = config.get("activation", "topk")
    if activation != "topk":
        raise refuse(f"the activation {activation!r}", path, "the activation topk")
    if config.get("signed"):
        raise refuse("signed=true", path, "TopK of positive activations")
    bias, output_bias = tensors.vector("encoder.bias"), tensors.vector("b_dec")
    units, features = len(bias), len(output_bias)
    wanted = config.get("num_latents") or needed(config, "d_in", path) * config.get("expansion_factor", 32)
    check_sizes(tensors.path, {"d_in": features, "num_latents": units}, {**config, "num_latents": wanted})
    encoder = tensors.matrix("encoder.weight", features, units, transposed=True)
    skip = tensors.matrix("W_skip", features, features, transposed=True) if config.get("skip_connection") else None
    transcodes = bool(config.get("transcode"))
    return Weights(
        "transcoder" if transcodes else "topk",
        (encoder, tensors.matrix("W_dec", units, features)),
        (bias, output_bias),
        centred=not transcodes,
        skip=skip,
        metadata={"hookpoint": found.directory.name},
        **methods.top_k(needed(config, "k", path), units, path),
    )
