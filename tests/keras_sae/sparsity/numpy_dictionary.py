"""A sparse autoencoder of dictionary learning in NumPy, float64, with gradients by hand: what the tests compare with.

    c = s x - p b2        z = c W1 + b1        a = h(z)        y = g(a V + b2)        xhat = y / s
    loss = mean over rows of 1/2 ||xhat - x||^2 + term / s^2       V = W2, or its rows divided by their lengths

s: the scale of inputs.  p: 1 with pre-bias, else 0.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

# value and derivative, from z and the value
ACTIVATIONS = {
    "linear": (lambda z: z, lambda z, a: np.ones_like(z)),
    "relu": (lambda z: np.maximum(z, 0), lambda z, a: (z > 0).astype(float)),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z, a: a * (1 - a)),
    "tanh": (np.tanh, lambda z, a: 1 - a**2),
}


@dataclasses.dataclass
class Twin:
    """The forward pass and its gradient by hand, with weights in the order of Keras' `get_weights`, silent left out.

    term: (a, W1, V, weights of rows, of mean 1) -> (value, gradients of it by a, W1 and V).
    mask: z -> 1 for what is kept of a, else 0.
    """

    activation: str = "relu"
    output_activation: str = "linear"
    pre_bias: bool = True
    unit_norm: bool = True
    tied: bool = False
    scale: float = 1.0
    term: Callable = lambda a, w1, v, share: (0.0, 0 * a, 0 * w1, 0 * v)
    mask: Callable = np.ones_like

    def unpacked(self, weights):
        """(W1, b1, W2, b2): with a pre-bias b2 comes first, because the encoder has it."""
        weights = list(weights)
        b2 = weights.pop(0) if self.pre_bias else weights.pop(-1)
        w1, b1, *w2 = weights
        return w1, b1, w1.T if self.tied else w2[0], b2

    def packed(self, w1, b1, w2, b2):
        kernels = [w1 + w2.T, b1] if self.tied else [w1, b1, w2]
        return [b2, *kernels] if self.pre_bias else [*kernels, b2]

    def loss(self, weights, x, sample_weight=None):
        """Return (loss, its gradients, the term alone)."""
        w1, b1, w2, b2 = self.unpacked(weights)
        share = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight) / np.mean(sample_weight)
        (h, dh), (g, dg) = ACTIVATIONS[self.activation], ACTIVATIONS[self.output_activation]
        lengths = np.linalg.norm(w2, axis=1, keepdims=True) if self.unit_norm else 1.0
        v = w2 / lengths

        c = self.scale * x - self.pre_bias * b2
        z = c @ w1 + b1
        kept = self.mask(z)
        a = h(z) * kept
        out = a @ v + b2
        y = g(out)
        error = y / self.scale - x
        term, term_a, term_w1, term_v = self.term(a, w1, v, share)
        term, term_a, term_w1, term_v = (part / self.scale**2 for part in (term, term_a, term_w1, term_v))
        value = (share * 0.5 * (error**2).sum(axis=1)).mean() + term

        d_out = error * share[:, None] / len(x) / self.scale * dg(out, y)
        d_v = a.T @ d_out + term_v
        d_w2 = (d_v - v * (v * d_v).sum(axis=1, keepdims=True)) / lengths if self.unit_norm else d_v
        d_z = (d_out @ v.T + term_a) * kept * dh(z, h(z))
        d_b2 = d_out.sum(axis=0) - self.pre_bias * (d_z @ w1.T).sum(axis=0)
        return value, self.packed(c.T @ d_z + term_w1, d_z.sum(axis=0), d_w2, d_b2), term
