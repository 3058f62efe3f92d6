"""Autoencoders with methods of sparsity in NumPy: the loss, and gradients worked out by hand, of all their weights."""

import numpy as np
from keras import ops

from keras_sae import sparsity

# name: (activation, its derivative written in terms of the activation)
ACTIVATIONS = {
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda a: (a > 0).astype("float64")),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda a: a * (1 - a)),
    "tanh": (np.tanh, lambda a: 1 - a**2),
}


class Twin:
    """What a SparseAutoencoder with a method computes in training, in float64.

        c = s x - p b2     h = activation(c W1 + b1)     a = codes(h)     y = output_activation(a V + b2)
        loss = (1/m sum_i w_i 1/2 ||y_i - s x_i||^2 + terms) / s^2

    x (m, features), w weights of examples (m,) of mean 1; s the scale of inputs; p 1 with pre-bias, else 0; V is W2, or
    its rows divided by their lengths, or W1 transposed if tied. Values are {name: array}, with W1, b1, W2, b2 and what
    the method has. A subclass has the codes, the terms, and what both give for gradients.
    """

    def __init__(self, autoencoder, x, w=None):
        self.method, self.tied = autoencoder.sparsity, autoencoder.tied
        self.pre_bias, self.unit_norm = autoencoder.pre_bias, autoencoder.unit_norm
        self.activation_name = autoencoder.activation.__name__
        self.activation, self.slope = ACTIVATIONS[self.activation_name]
        self.output_activation, self.output_slope = ACTIVATIONS[autoencoder.output_activation.__name__]
        hidden, output = autoencoder.encoder.get_layer("hidden"), autoencoder.output_layer
        self.variables = {"W1": hidden.kernel, "b2": output.bias}
        self.variables |= {variable.name: variable for variable in self.method.trainable_variables}
        if hidden.use_bias:
            self.variables["b1"] = hidden.bias
        if not self.tied:
            self.variables["W2"] = output.own_kernel
        self.start = {name: as_float64(variable) for name, variable in self.variables.items()}
        self.scale = float(output.scale)
        self.x = self.scale * np.asarray(x, "float64")
        self.w = (np.ones(len(x)) if w is None else np.asarray(w, "float64"))[:, None] / len(x)

    # Of a subclass. h (m, units): what the method makes codes of. codes, d_codes (m, units): and the loss's gradient.

    def codes(self, values, h):
        return h

    def terms(self, values, h, frozen):
        """Return what the method adds to the loss; frozen: the values that are held fixed in it."""
        return []

    def through_codes(self, values, h, codes, d_codes):
        """Return gradients with those of terms: "h" of all, others of terms alone, of V as "V"; for codes h or 0."""
        return {"h": d_codes * (codes != 0)}

    # Of the whole.

    def kernel(self, values):
        if self.tied:
            return values["W1"].T
        w2 = values["W2"]
        return w2 / np.linalg.norm(w2, axis=1, keepdims=True) if self.unit_norm else w2

    def inputs(self, values):
        return self.x - values["b2"] if self.pre_bias else self.x

    def hidden(self, values):
        return self.activation(self.inputs(values) @ values["W1"] + values.get("b1", 0))

    def outputs(self, values, codes):
        return self.output_activation(codes @ self.kernel(values) + values["b2"])

    def mean_error(self, error):
        return (self.w * error**2).sum() / 2

    def loss(self, values, frozen=None):
        """frozen: the values that are held fixed in terms."""
        h = self.hidden(values)
        error = self.outputs(values, self.codes(values, h)) - self.x
        return self.mean_error(error) / self.scale**2 + self.term(values, frozen)

    def term(self, values, frozen=None):
        """Return the part of the loss that the method adds."""
        frozen = self.start if frozen is None else frozen
        return sum(self.terms(values, self.hidden(values), frozen)) / self.scale**2

    def gradients(self, values):
        h, v = self.hidden(values), self.kernel(values)
        codes = self.codes(values, h)
        outputs = self.outputs(values, codes)
        into = self.w * (outputs - self.x) * self.output_slope(outputs)
        found = {"W1": 0.0, "V": 0.0, "b2": 0.0, **self.through_codes(values, h, codes, into @ v.T)}
        d_z = found["h"] * self.slope(h)
        d_v = found["V"] + codes.T @ into
        found["W1"] = found["W1"] + self.inputs(values).T @ d_z + (d_v.T if self.tied else 0)
        found["b1"] = d_z.sum(axis=0)
        found["b2"] = found["b2"] + into.sum(axis=0) - (d_z.sum(axis=0) @ values["W1"].T if self.pre_bias else 0)
        if self.unit_norm:  # no part along a row
            d_v = (d_v - (d_v * v).sum(axis=1, keepdims=True) * v) / np.linalg.norm(values["W2"], axis=1, keepdims=True)
        found["W2"] = d_v
        return {name: found[name] / self.scale**2 for name in values}


class L1Twin(Twin):
    def lengths(self, values):
        kernel = self.kernel(values)
        return np.linalg.norm(kernel, axis=1) if self.method.decoder_norms else np.ones(len(kernel))

    def terms(self, values, h, frozen):
        return [self.method.weight * (self.w * np.abs(h) * self.lengths(values)).sum()]

    def through_codes(self, values, h, codes, d_codes):
        each = self.method.weight * self.w * np.ones_like(h)
        found = {"h": d_codes + each * np.sign(h) * self.lengths(values)}
        if self.method.decoder_norms:
            found["V"] = ((each * np.abs(h)).sum(axis=0) / self.lengths(values))[:, None] * self.kernel(values)
        return found


class ContractiveTwin(Twin):
    def terms(self, values, h, frozen):
        return [self.method.weight * (self.w * self.slope(h) ** 2 * (values["W1"] ** 2).sum(axis=0)).sum()]

    def through_codes(self, values, h, codes, d_codes):
        each = self.method.weight * self.w
        by_h = {
            "sigmoid": 2 * h * (1 - h) * (1 - 2 * h),
            "tanh": -4 * h * (1 - h**2),
            "relu": np.zeros_like(h),
        }[self.activation_name]
        squares = (values["W1"] ** 2).sum(axis=0)
        by_w1 = 2 * values["W1"] * (each * self.slope(h) ** 2).sum(axis=0)
        return {"h": d_codes + each * by_h * squares, "W1": by_w1}


class TopKTwin(Twin):
    def codes(self, values, h):
        h = np.maximum(h, 0) if self.method.relu else h
        return np.where(ranks(h) < self.method.k, h, 0)


class AuxKTwin(TopKTwin):
    """TopK with the auxiliary loss of dead units, which are those that are dead after this step."""

    def __init__(self, autoencoder, x, w=None):
        super().__init__(autoencoder, x, w)
        self.revive = autoencoder.revive
        silent = ops.convert_to_numpy(self.method.silent) + len(x)
        resting = ~self.codes(self.start, self.hidden(self.start)).any(axis=0)
        self.dead = resting & (silent > self.method.window)

    def parts(self, values, h, frozen):
        """Return the weight, the dead units' own pre-activations, and what they leave over of the error of others."""
        k = min(self.revive.k or max(1, self.x.shape[1] // 2), h.shape[1])
        alone = np.where(self.dead & (ranks(np.where(self.dead, h, -np.inf)) < k), h, 0)
        error = self.x - self.outputs(frozen, self.codes(frozen, self.hidden(frozen)))
        weight = self.revive.weight * min(self.dead.sum() / k, 1)
        return weight, alone, alone @ self.kernel(values) - error

    def terms(self, values, h, frozen):
        weight, _, left = self.parts(values, h, frozen)
        return [weight * self.mean_error(left)]

    def through_codes(self, values, h, codes, d_codes):
        weight, alone, left = self.parts(values, h, values)
        d_left = weight * self.w * left
        d_h = d_codes * (codes != 0) + (d_left @ self.kernel(values).T) * (alone != 0)
        return {"h": d_h, "V": alone.T @ d_left}


class BatchTopKTwin(Twin):
    def codes(self, values, h):
        h = np.maximum(h, 0)
        return np.where(h >= np.sort(h, axis=None)[-self.method.k * len(h)], h, 0)


class MatryoshkaTwin(BatchTopKTwin):
    def ends(self, units):
        usual = units // 8, units // 4, units // 2
        return usual if self.method.prefixes is None else self.method.prefixes

    def error(self, values, codes, end):
        """Return the error of the reconstruction from the first units, with codes of the whole."""
        return codes[:, :end] @ self.kernel(values)[:end] + values["b2"] - self.x

    def terms(self, values, h, frozen):
        codes = self.codes(values, h)
        return [self.mean_error(self.error(values, codes, end)) for end in self.ends(h.shape[1])]

    def through_codes(self, values, h, codes, d_codes):
        v = self.kernel(values)
        d_codes, d_v, d_b2 = d_codes.copy(), np.zeros_like(v), 0.0
        for end in self.ends(h.shape[1]):
            into = self.w * self.error(values, codes, end)
            d_codes[:, :end] += into @ v[:end].T
            d_v[:end] += codes[:, :end].T @ into
            d_b2 = d_b2 + into.sum(axis=0)
        return {"h": d_codes * (codes != 0), "V": d_v, "b2": d_b2}


class WinnerTakeAllTwin(Twin):
    def codes(self, values, h):
        h = np.maximum(h, 0)
        return np.where(h >= np.sort(h, axis=0)[-max(round(self.method.rate * len(h)), 1)], h, 0)


class JumpReLUTwin(Twin):
    def codes(self, values, h):
        return h * (h > values["theta"])

    def l0(self, values, h):
        return (self.w * (h > values["theta"])).sum()

    def terms(self, values, h, frozen):
        if self.method.target_l0 is None:
            return [self.method.weight * self.l0(values, h)]
        return [self.weight() * (self.l0(values, h) / self.method.target_l0 - 1) ** 2]

    def weight(self):
        return self.x.shape[1] / 2 if self.method.weight is None else self.method.weight

    def through_codes(self, values, h, codes, d_codes):
        width, target = self.method.bandwidth, self.method.target_l0
        near = np.abs((h - values["theta"]) / width) < 0.5
        slope = self.method.weight
        if target is not None:
            slope = 2 * self.weight() * (self.l0(values, h) / target - 1) / target
        d_theta = -(values["theta"] * d_codes + slope * self.w) / width * near
        return {"h": d_codes * (h > values["theta"]), "theta": d_theta.sum(axis=0)}


class GatedTwin(Twin):
    def magnitude(self, values, h):
        return h * np.exp(values["log_scale"]) + values["magnitude_bias"]

    def codes(self, values, h):
        return np.maximum(self.magnitude(values, h), 0) * (h + values["gate_bias"] > 0)

    def l1(self):
        return self.x.shape[1] ** 0.5 / 20 if self.method.l1 is None else self.method.l1

    def terms(self, values, h, frozen):
        gate = np.maximum(h + values["gate_bias"], 0)
        return [self.l1() * (self.w * gate).sum(), self.mean_error(self.outputs(frozen, gate) - self.x)]

    def through_codes(self, values, h, codes, d_codes):
        gate = h + values["gate_bias"]
        d_magnitude = d_codes * (gate > 0) * (self.magnitude(values, h) > 0)
        outputs = self.outputs(values, np.maximum(gate, 0))
        into = self.w * (outputs - self.x) * self.output_slope(outputs)
        d_gate = (self.w * self.l1() + into @ self.kernel(values).T) * (gate > 0)
        slope = np.exp(values["log_scale"])
        return {
            "h": d_magnitude * slope + d_gate,
            "gate_bias": d_gate.sum(axis=0),
            "log_scale": (d_magnitude * h * slope).sum(axis=0),
            "magnitude_bias": d_magnitude.sum(axis=0),
        }


TWINS = {
    sparsity.L1: L1Twin,
    sparsity.Contractive: ContractiveTwin,
    sparsity.TopK: TopKTwin,
    sparsity.BatchTopK: BatchTopKTwin,
    sparsity.MatryoshkaBatchTopK: MatryoshkaTwin,
    sparsity.WinnerTakeAll: WinnerTakeAllTwin,
    sparsity.JumpReLU: JumpReLUTwin,
    sparsity.Gated: GatedTwin,
}


def twin_of(autoencoder, x, w=None):
    """Return the twin of an autoencoder with any of the methods."""
    kind = TWINS[type(autoencoder.sparsity)] if autoencoder.revive is None else AuxKTwin
    return kind(autoencoder, x, w)


def ranks(rows):
    """Return the place of each number among those of its row, from the largest, 0."""
    return (-rows).argsort(axis=1).argsort(axis=1)


def as_float64(tensor):
    return ops.convert_to_numpy(ops.convert_to_tensor(tensor)).astype("float64")
