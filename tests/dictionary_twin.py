"""An autoencoder with JumpReLU or Gated in NumPy: its loss, and gradients worked out by hand, of all its weights."""

import numpy as np
from keras import ops

from keras_sae import backend
from keras_sae.example_weights import weighted_examples


class Twin:
    """What a SparseAutoencoder with such a method computes in training, in float64.

    x (m, features), w weights of examples (m,) of mean 1; everything is in units of scaled inputs, and the loss is
    divided by scale^2 at the end. A subclass has the codes, the terms, and what both give for gradients.
    """

    def __init__(self, autoencoder, x, w=None):
        self.method, self.tied = autoencoder.sparsity, autoencoder.tied
        self.pre_bias, self.unit_norm = autoencoder.pre_bias, autoencoder.unit_norm
        hidden, output = autoencoder.encoder.get_layer("hidden"), autoencoder.output_layer
        self.variables = {"W1": hidden.kernel, "b2": output.bias, **self.own_variables()}
        if hidden.use_bias:
            self.variables["b1"] = hidden.bias
        if not self.tied:
            self.variables["W2"] = output.own_kernel
        self.start = {name: as_float64(variable) for name, variable in self.variables.items()}
        self.scale = float(output.scale)
        self.x = self.scale * np.asarray(x, "float64")
        self.w = (np.ones(len(x)) if w is None else np.asarray(w, "float64"))[:, None] / len(x)

    def kernel(self, values):
        if self.tied:
            return values["W1"].T
        w2 = values["W2"]
        return w2 / np.linalg.norm(w2, axis=1, keepdims=True) if self.unit_norm else w2

    def inputs(self, values):
        return self.x - values["b2"] if self.pre_bias else self.x

    def pre(self, values):
        return self.inputs(values) @ values["W1"] + values.get("b1", 0)

    def loss(self, values, frozen=None):
        """frozen: the values that are held fixed in terms."""
        codes = self.codes(values, self.pre(values))
        error = codes @ self.kernel(values) + values["b2"] - self.x
        terms = self.terms(values, self.pre(values), self.start if frozen is None else frozen)
        return ((self.w * error**2 / 2).sum() + sum(terms)) / self.scale**2

    def gradients(self, values):
        pre, w2 = self.pre(values), self.kernel(values)
        codes = self.codes(values, pre)
        into = self.w * (codes @ w2 + values["b2"] - self.x)
        found, d_pre = self.through_codes(values, pre, into @ w2.T)
        d_w2 = codes.T @ into
        found["W1"] = self.inputs(values).T @ d_pre + (d_w2.T if self.tied else 0)
        found["b1"] = d_pre.sum(axis=0)
        found["b2"] = into.sum(axis=0) - (d_pre.sum(axis=0) @ values["W1"].T if self.pre_bias else 0)
        if self.unit_norm:  # no part along a row
            along = (d_w2 * w2).sum(axis=1, keepdims=True) * w2
            d_w2 = (d_w2 - along) / np.linalg.norm(values["W2"], axis=1, keepdims=True)
        found["W2"] = d_w2
        return {name: found[name] / self.scale**2 for name in values}


class JumpReLUTwin(Twin):
    def own_variables(self):
        return {"theta": self.method.theta}

    def codes(self, values, pre):
        return pre * (pre > values["theta"])

    def l0(self, values, pre):
        return (self.w * (pre > values["theta"])).sum()

    def terms(self, values, pre, frozen):
        if self.method.target_l0 is None:
            return [self.method.weight * self.l0(values, pre)]
        return [self.weight() * (self.l0(values, pre) / self.method.target_l0 - 1) ** 2]

    def weight(self):
        return self.x.shape[1] / 2 if self.method.weight is None else self.method.weight

    def through_codes(self, values, pre, d_codes):
        width, target = self.method.bandwidth, self.method.target_l0
        near = np.abs((pre - values["theta"]) / width) < 0.5
        slope = self.method.weight
        if target is not None:
            slope = 2 * self.weight() * (self.l0(values, pre) / target - 1) / target
        d_theta = -(values["theta"] * d_codes + slope * self.w) / width * near
        return {"theta": d_theta.sum(axis=0)}, d_codes * (pre > values["theta"])


class GatedTwin(Twin):
    def own_variables(self):
        return {name: getattr(self.method, name) for name in ("gate_bias", "log_scale", "magnitude_bias")}

    def magnitude(self, values, pre):
        return pre * np.exp(values["log_scale"]) + values["magnitude_bias"]

    def codes(self, values, pre):
        return np.maximum(self.magnitude(values, pre), 0) * (pre + values["gate_bias"] > 0)

    def l1(self):
        return self.x.shape[1] ** 0.5 / 20 if self.method.l1 is None else self.method.l1

    def terms(self, values, pre, frozen):
        gate = np.maximum(pre + values["gate_bias"], 0)
        error = gate @ self.kernel(frozen) + frozen["b2"] - self.x
        return [self.l1() * (self.w * gate).sum(), (self.w * error**2).sum() / 2]

    def through_codes(self, values, pre, d_codes):
        gate = pre + values["gate_bias"]
        d_magnitude = d_codes * (gate > 0) * (self.magnitude(values, pre) > 0)
        error = np.maximum(gate, 0) @ self.kernel(values) + values["b2"] - self.x
        d_gate = (self.w * self.l1() + self.w * error @ self.kernel(values).T) * (gate > 0)
        slope = np.exp(values["log_scale"])
        found = {
            "gate_bias": d_gate.sum(axis=0),
            "log_scale": (d_magnitude * pre * slope).sum(axis=0),
            "magnitude_bias": d_magnitude.sum(axis=0),
        }
        return found, d_magnitude * slope + d_gate


def as_float64(tensor):
    return ops.convert_to_numpy(ops.convert_to_tensor(tensor)).astype("float64")


def loss_and_gradients(autoencoder, x, w=None):
    """Return what Keras gives in training for the loss and {path of a weight: gradient}, float64."""
    variables, rows = autoencoder.trainable_variables, len(x)

    def total(values, x):
        with backend.at(variables, values) as scope, weighted_examples(w):
            errors = ops.sum(ops.square(autoencoder(x, training=True) - x), axis=-1) / 2
            weights = ops.ones_like(errors) if w is None else ops.convert_to_tensor(w, errors.dtype)
            loss = ops.sum(weights * errors) / rows + sum(scope.losses)
        return loss, loss

    tensors = [ops.convert_to_tensor(variable) for variable in variables]
    loss, gradients = backend.compile_gradients(total)(tensors, ops.convert_to_tensor(x))
    return float(loss), {v.path: as_float64(g) for v, g in zip(variables, gradients, strict=True)}


def compare(twin_class, autoencoder, x, w=None, tolerance=1e-10):
    """Raise AssertionError unless the loss and every gradient are those of the twin."""
    twin = twin_class(autoencoder, x, w)
    loss, gradients = loss_and_gradients(autoencoder, x, w)
    np.testing.assert_allclose(loss, twin.loss(twin.start), rtol=tolerance)
    expected = twin.gradients(twin.start)
    assert {variable.path for variable in twin.variables.values()} == set(gradients)
    for name, variable in twin.variables.items():
        assert np.abs(expected[name]).max() > 0, name
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(gradients[variable.path], expected[name], atol=tolerance * scale, err_msg=name)


def differences(twin, name, step=1e-6):
    """Return central differences of the twin's loss for one of its weights, what is fixed in its terms held fixed."""
    found = np.empty_like(twin.start[name])
    for place in np.ndindex(found.shape):
        ends = []
        for sign in (1, -1):
            moved = twin.start[name].copy()
            moved[place] += sign * step
            ends.append(twin.loss({**twin.start, name: moved}))
        found[place] = (ends[0] - ends[1]) / (2 * step)
    return found
