"""The one form that files of all libraries are read as."""

import dataclasses
from typing import Any

import numpy as np

from ..sparsity import SparsityMethod
from .tensors import Matrix


@dataclasses.dataclass
class Weights:
    """A sparse autoencoder as a file has it, in the terms of this library.

        a    = method((scale x - b2) W1 + b1)          without b2 unless `centred`
        xhat = (a W2 + b2) / scale + x skip            skip: of transcoders, whose targets are other activations

    Args:
        architecture: what the file calls it.
        kernels: W1 (features, units), W2 (units, outputs).
        biases: b1 (units,), b2 (outputs,).
        method: without weights; of_method: these, by name.
        lacks_scale: whether the scale is not in the file, though its inputs were scaled.
        normalisation: how each row is scaled before, and back again after: "layer_norm", "constant_norm_rescale" or "".
        claims: what the file says about its codes: "k" or "l0", mean active units of an example.
        metadata: what it says about its data.
        remarks: what a user should be told.
    """

    architecture: str
    kernels: tuple[Matrix, Matrix]
    biases: tuple[np.ndarray, np.ndarray]
    method: SparsityMethod
    of_method: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    centred: bool = False
    scale: float = 1.0
    lacks_scale: bool = False
    skip: Matrix | None = None
    normalisation: str = ""
    claims: dict[str, float] = dataclasses.field(default_factory=dict)
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    remarks: list[str] = dataclasses.field(default_factory=list)


def with_norms(kernels: tuple[Matrix, Matrix], bias: np.ndarray) -> tuple[tuple[Matrix, Matrix], np.ndarray]:
    """Return W1, W2 and b1 so that codes count with the lengths of the rows of W2, and reconstructions are the same."""
    encoder, decoder = kernels
    lengths = np.maximum(decoder.lengths(), np.finfo("float32").tiny)
    return (encoder.times(lengths[None]), decoder.times(1 / lengths[:, None])), (bias * lengths).astype("float32")
