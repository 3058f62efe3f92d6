"""Keras models of the weights that files hold."""

from typing import Any

import keras
import numpy as np

from ..backend.assignment import assign_in_blocks
from ..conventions import RowNormalization
from ..errors import InputError
from ..sparse_autoencoder import SparseAutoencoder
from ..sparsity import Gated
from .weights import Weights


def build(weights: Weights) -> keras.Model:
    """Return the model: a SparseAutoencoder if it can be one, else a functional model with a layer called encoder.

    Kernels start at zeros and are filled some rows at a time, so that memory holds them once.
    """
    features, units = weights.kernels[0].shape
    transcoder = "transcoder" in weights.architecture or weights.skip is not None
    with keras.utils.custom_object_scope({"glorot_uniform": keras.initializers.Zeros}):
        if transcoder or weights.normalisation:
            return _functional(weights)
        model = SparseAutoencoder(
            units,
            weights.method,
            pre_bias=weights.centred,
            input_scale=weights.scale != 1,
            unit_norm=False,
            transposed_start=False,
            started=True,
        )
        model.build((None, features))
    hidden, output = model.encoder.get_layer("hidden"), model.output_layer
    _fill(weights, hidden, model.sparsity, output.own_kernel, output.bias)
    if hidden.use_bias:
        hidden.bias.assign(weights.biases[0])
    if weights.scale != 1:
        model.centring.scale.assign(weights.scale)
    return model


def _fill(weights: Weights, hidden: Any, method: Any, decoder: Any, output_bias: Any) -> None:
    assign_in_blocks(hidden.kernel, weights.kernels[0].blocks())
    assign_in_blocks(decoder, weights.kernels[1].blocks())
    output_bias.assign(weights.biases[1])
    for name, value in weights.of_method.items():
        getattr(method, name).assign(value)


def _functional(weights: Weights) -> keras.Model:
    """Return the model of Dense layers for raw rows, with biases and scale in their weights.

    W1' = scale W1     b1' = b1 - b2 W1     W2' = W2 / scale     b2' = b2 / scale
    """
    (features, units), outputs = weights.kernels[0].shape, weights.kernels[1].shape[1]
    if isinstance(weights.method, Gated):
        raise InputError(
            f"Expected a gated autoencoder of activations as they are. Received: {weights.architecture} with "
            f"{weights.normalisation or 'other targets'}, which this version cannot compute."
        )
    if weights.centred:
        shifted = weights.biases[0] - weights.kernels[0].after(weights.biases[1].astype("float64"))
        weights.biases = (shifted.astype("float32"), weights.biases[1])
    if weights.scale != 1:
        weights.kernels = (weights.kernels[0].times(weights.scale), weights.kernels[1].times(1 / weights.scale))
        weights.biases = (weights.biases[0], weights.biases[1] / np.float32(weights.scale))
    inputs = keras.Input((features,), name="inputs")
    rows = inputs
    if weights.normalisation:
        epsilon = 1e-5 if weights.normalisation == "layer_norm" else 0.0
        normalise = RowNormalization(weights.normalisation, epsilon, name="normalise")
        rows, mean, size = normalise(inputs)
    hidden = keras.layers.Dense(units, weights.method.conventions.activation, name="hidden")
    method = weights.method.fresh(units, None)
    encoder = keras.Model(inputs, method(hidden(rows)), name="encoder")
    output = keras.layers.Dense(outputs, name="output")
    result = output(encoder(inputs))
    if weights.normalisation and "transcoder" not in weights.architecture:
        result = result * size + mean
    if weights.skip is not None:
        skip = keras.layers.Dense(outputs, use_bias=False, name="skip")
        result = result + skip(inputs)
        assign_in_blocks(skip.kernel, weights.skip.blocks())
    _fill(weights, hidden, method, output.kernel, output.bias)
    hidden.bias.assign(weights.biases[0])
    return keras.Model(inputs, result, name="transcoder" if "transcoder" in weights.architecture else "autoencoder")
