"""The methods of sparsity of other libraries as ours: what `Weights` take of them, as keyword arguments.

Penalties of a training are in no file, so methods have them at 0.
"""

import pathlib
from typing import Any

import numpy as np

from ..errors import InputError
from ..sparsity import L1, BatchTopK, Gated, JumpReLU, TopK


def relu() -> dict[str, Any]:
    """Return a method that lets activations of ReLU units pass."""
    return {"method": L1(0.0, decoder_norms=True)}


def top_k(k: Any, units: int, path: pathlib.Path) -> dict[str, Any]:
    """Return the method, with what it claims."""
    if not isinstance(k, (int, float)) or not 1 <= k <= units or k != int(k):
        raise InputError(f"Expected k from 1 to the {units} units in {path}. Received: {k!r}.")
    return {"method": TopK(int(k)), "claims": {"k": int(k)}}


def jump_relu(threshold: np.ndarray) -> dict[str, Any]:
    """Return the method with thresholds, (units,); below 0 they are as 0, because codes are never negative."""
    return {"method": JumpReLU(None, weight=0.0), "of_method": {"theta": np.maximum(threshold, 0)}}


def batch_top_k(k: float, threshold: float) -> dict[str, Any]:
    """Return the method with its one threshold, and a remark if that was never set."""
    remarks = []
    if threshold < 0:
        remarks = [
            f"Its threshold was never set ({threshold:g}), because its training was too short. All positive "
            f"pre-activations are codes, not {k:g} of an example."
        ]
    method = BatchTopK(max(1, round(k)))
    return {
        "method": method,
        "of_method": {"threshold": np.array(max(threshold, 0))},
        "claims": {"k": k},
        "remarks": remarks,
    }


def gated(gate_bias: np.ndarray, log_scale: np.ndarray, magnitude_bias: np.ndarray) -> dict[str, Any]:
    """Return the method with its weights, (units,) each."""
    weights = {"gate_bias": gate_bias, "log_scale": log_scale, "magnitude_bias": magnitude_bias}
    return {"method": Gated(0.0), "of_method": weights}
