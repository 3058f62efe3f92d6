"""The sparse autoencoder of dictionary learning in NumPy, float64, with gradients by hand: no code of the library."""

import numpy as np

from keras_sae import SparseAutoencoder
from tests.keras_sae.conftest import randomise

FEATURES, UNITS = 6, 8
NAMES = ("pre_bias", "kernel", "bias", "dictionary")  # of the trainable weights, in the model's order


def autoencoder(method, scale=1.0, units=UNITS, **options):
    """Return a model with random weights, in float64, that divides J by `scale` squared if it is not 1."""
    ae = SparseAutoencoder(units, method, dtype="float64", input_scale=scale != 1, **options)
    ae.build((None, FEATURES))
    randomise(ae)
    if scale != 1:
        ae.centring.scale.assign(scale)
    ae.started = True
    return ae


def weights_of(ae):
    return dict(zip(NAMES, (np.asarray(v) for v in ae.trainable_variables), strict=True))


def forward(x, weights, scale=1.0):
    """Return (pre-activations, the dictionary with rows of length 1)."""
    lengths = np.linalg.norm(weights["dictionary"], axis=1, keepdims=True)
    pre = (scale * x - weights["pre_bias"]) @ weights["kernel"] + weights["bias"]
    return pre, weights["dictionary"] / lengths


def loss_and_gradients(x, weights, codes, slope, scale=1.0, d_codes=0.0, d_unit=0.0, d_pre=0.0, d_bias=0.0, more=0.0):
    """Return (J, the gradient of each weight), for codes = f(pre) of which `slope` is the derivative.

    d_codes, d_unit, d_pre, d_bias: the gradients of further terms with respect to the codes, the unit dictionary, the
    pre-activations and the decoder's bias, in units of scaled inputs.  more: the value of these terms.
    """
    _, unit = forward(x, weights, scale)
    error = codes @ unit + weights["pre_bias"] - scale * x
    value = 0.5 * (error**2).sum() / len(x) + more
    error /= len(x)
    d_pre = slope * (error @ unit.T + d_codes) + d_pre
    d_unit = codes.T @ error + d_unit
    lengths = np.linalg.norm(weights["dictionary"], axis=1, keepdims=True)
    gradients = {
        "pre_bias": error.sum(axis=0) - (d_pre @ weights["kernel"].T).sum(axis=0) + d_bias,
        "kernel": (scale * x - weights["pre_bias"]).T @ d_pre,
        "bias": d_pre.sum(axis=0),
        "dictionary": (d_unit - (d_unit * unit).sum(axis=1, keepdims=True) * unit) / lengths,
    }
    return value / scale**2, {name: gradient / scale**2 for name, gradient in gradients.items()}


def of_keras(ae, x, training=True):
    """Return (J with all terms, the gradient of each weight, the codes) of the model itself."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = ae(x, training=training)
        loss = tf.reduce_mean(tf.reduce_sum((outputs - x) ** 2, axis=1)) / 2
        loss += sum(tf.cast(term, "float64") for term in ae.losses)
    gradients = tape.gradient(loss, [v.value for v in ae.trainable_variables])
    return float(loss), dict(zip(NAMES, (np.asarray(g) for g in gradients), strict=True))
