"""In what precision matrices are multiplied, on each backend."""

import contextlib
import os
from collections.abc import Iterator

import keras

PRECISIONS = ("float32", "tensorfloat32", "bfloat16")  # 23, 10 and 7 bits of the fraction of each number that goes in


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Let products of float32 matrices be computed in this precision: of `PRECISIONS`, the first is exact.

    Sums, in and over products, stay in float32. Backends multiply float32 matrices on GPUs as tensorfloat32 unless told
    otherwise. Functions from here are compiled for each precision in which they are called.
    """
    check_precision(precision)
    with _PRECISIONS[keras.backend.backend()](precision):
        yield


def check_precision(precision: str) -> None:
    """Raise ValueError unless matrices can be multiplied in this precision."""
    if precision not in PRECISIONS:
        raise ValueError(f"Expected `precision` as one of {', '.join(PRECISIONS)}. Received: {precision!r}")


@contextlib.contextmanager
def _tensorflow_precision(precision: str) -> Iterator[None]:
    import tensorflow as tf

    # The rewrite of graphs leaves sums in float32, except for the gradients of biases, unless told so.
    kept = "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_INFERLIST_REMOVE"
    os.environ[kept] = ",".join({*filter(None, os.environ.get(kept, "").split(",")), "BiasAddGrad"})
    rewrite = "auto_mixed_precision_onednn_bfloat16"
    before = tf.config.optimizer.get_experimental_options().get(rewrite, False)
    allowed = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        tf.config.optimizer.set_experimental_options({rewrite: precision == "bfloat16"})
        tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")
        yield
    finally:
        tf.config.optimizer.set_experimental_options({rewrite: before})
        tf.config.experimental.enable_tensor_float_32_execution(allowed)


def _jax_precision(precision: str) -> contextlib.AbstractContextManager:
    import jax

    # "bfloat16" itself would mean what the device takes for fast enough, which on GPUs is tensorfloat32.
    return jax.default_matmul_precision("BF16_BF16_F32" if precision == "bfloat16" else precision)


@contextlib.contextmanager
def _torch_precision(precision: str) -> Iterator[None]:
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision({"float32": "highest", "tensorfloat32": "high", "bfloat16": "medium"}[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


_PRECISIONS = {"tensorflow": _tensorflow_precision, "jax": _jax_precision, "torch": _torch_precision}
