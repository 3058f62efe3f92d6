"""Files of dictionary_learning and openai/sparse_autoencoder: PyTorch's pickles, of which only tensors are read.

Reference: dictionary_learning 0.1, dictionary.py and trainers/; openai/sparse_autoencoder, model.py.
"""

import numpy as np

from ..errors import InputError
from . import methods
from .configuration import check_sizes, needed, read_json, refuse
from .detection import Found
from .tensors import Tensors
from .weights import Weights

COUNTERS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")  # of a training of openai's


def read_dictionary_learning(found: Found, tensors: Tensors) -> Weights:
    """Return the weights of a directory of dictionary_learning, whose config.json names their class.

    Codes are those of the class as it is, not as `AutoEncoder.from_pretrained` has them by default, times the lengths
    of the decoder's columns.
    """
    path = found.config or found.directory / "config.json"
    trainer = needed(read_json(path), "trainer", path)
    kind = needed(trainer, "dict_class", path)
    readers = {
        "AutoEncoder": _plain, "AutoEncoderNew": _plain, "GatedAutoEncoder": _gated, "AutoEncoderTopK": _sorted,
        "BatchTopKSAE": _sorted, "MatryoshkaBatchTopKSAE": _sorted, "JumpReluAutoEncoder": _jump,
    }  # fmt: skip
    if kind not in readers:
        raise refuse(f"the dict_class {kind!r}", path, f"one of {', '.join(readers)}")
    weights = readers[kind](found, tensors, kind)
    features, units = weights.kernels[0].shape
    check_sizes(tensors.path, {"activation_dim": features, "dict_size": units}, trainer)
    weights.metadata = {name: trainer[name] for name in ("lm_name", "layer", "submodule_name") if name in trainer}
    return weights


def _linear(tensors: Tensors, bias: np.ndarray, outputs: int) -> tuple:
    """Return the kernels of torch's Linear layers, which are stored transposed."""
    encoder = tensors.matrix("encoder.weight", outputs, len(bias), transposed=True)
    return encoder, tensors.matrix("decoder.weight", len(bias), outputs, transposed=True)


def _plain(found: Found, tensors: Tensors, kind: str) -> Weights:
    bias = tensors.vector("encoder.bias")
    output_bias = tensors.vector("bias" if kind == "AutoEncoder" else "decoder.bias")
    kernels = _linear(tensors, bias, len(output_bias))
    return Weights(kind, kernels, (bias, output_bias), centred=kind == "AutoEncoder", **methods.relu())


def _gated(found: Found, tensors: Tensors, kind: str) -> Weights:
    gate_bias, output_bias = tensors.vector("gate_bias"), tensors.vector("decoder_bias")
    units = len(gate_bias)
    method = methods.gated(gate_bias, tensors.vector("r_mag", units), tensors.vector("mag_bias", units))
    kernels = _linear(tensors, gate_bias, len(output_bias))
    return Weights(kind, kernels, (np.zeros_like(gate_bias), output_bias), centred=True, **method)


def _sorted(found: Found, tensors: Tensors, kind: str) -> Weights:
    matryoshka = kind == "MatryoshkaBatchTopKSAE"
    bias, output_bias = tensors.vector("b_enc" if matryoshka else "encoder.bias"), tensors.vector("b_dec")
    units, features = len(bias), len(output_bias)
    if matryoshka:
        kernels = (tensors.matrix("W_enc", features, units), tensors.matrix("W_dec", units, features))
        tensors.ignore(["group_sizes"])  # of its training
    else:
        kernels = _linear(tensors, bias, features)
    k = tensors.number("k")
    if kind == "AutoEncoderTopK":
        method = methods.top_k(k, units, tensors.path)
        tensors.ignore(["threshold"])  # which its codes do not depend on
    else:
        method = methods.batch_top_k(k, tensors.number("threshold"))
    return Weights(kind, kernels, (bias, output_bias), centred=True, **method)


def _jump(found: Found, tensors: Tensors, kind: str) -> Weights:
    bias, output_bias = tensors.vector("b_enc"), tensors.vector("b_dec")
    units, features = len(bias), len(output_bias)
    kernels = (tensors.matrix("W_enc", features, units), tensors.matrix("W_dec", units, features))
    return Weights(kind, kernels, (bias, output_bias), **methods.jump_relu(tensors.vector("threshold", units)))


def read_openai(found: Found, tensors: Tensors) -> Weights:
    """Return the weights of a file of openai's: ReLU, or TopK of rows that are normalised one by one."""
    if "latent_bias" not in tensors:
        raise InputError(
            f"Expected the tensors pre_bias, latent_bias, encoder.weight and decoder.weight in {found.weights}. "
            f"Received: {', '.join(sorted(tensors.shapes)) or 'none'}. If it is of dictionary_learning, call it ae.pt, "
            "with its config.json beside it."
        )
    bias, output_bias = tensors.vector("latent_bias"), tensors.vector("pre_bias")
    activation = str(tensors.array("activation")) if "activation" in tensors else "ReLU"
    after = str(tensors.array("activation_state_dict.postact_fn")) if activation == "TopK" else "ReLU"
    if activation not in ("ReLU", "TopK") or after != "ReLU":
        raise refuse(f"the activation {activation} with {after}", found.weights, "the activation ReLU, or TopK of ReLU")
    method = methods.relu()
    if activation == "TopK":
        method = methods.top_k(tensors.number("activation_state_dict.k"), len(bias), found.weights)
    tensors.ignore(COUNTERS)
    return Weights(
        activation,
        _linear(tensors, bias, len(output_bias)),
        (bias, output_bias),
        centred=True,
        normalisation="layer_norm" if activation == "TopK" else "",
        **method,
    )
