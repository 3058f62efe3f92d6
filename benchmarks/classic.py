"""The classic NumPy/SciPy exercise, float64, gradients by hand: what tests compare with and benchmarks run against.

It shares no line with `keras_sae`. Row-major: x is (examples, features), kernels are (inputs, outputs).
Reference: UFLDL tutorial, "Sparse Autoencoder", "Stacked Autoencoders"; CS294A lecture notes, sections 2 and 3.
"""

import dataclasses
import time

import numpy as np
import scipy.optimize


def _logistic(z):
    return 1.0 / (1.0 + np.exp(-z))


# name: (activation, its derivative written in terms of the activation, value of a unit at rest)
ACTIVATIONS = {
    "sigmoid": (_logistic, lambda a: a * (1 - a), 0.0),
    "tanh": (np.tanh, lambda a: 1 - a * a, -1.0),
    "linear": (lambda z: z, np.ones_like, 0.0),
}


@dataclasses.dataclass
class Autoencoder:
    """One hidden layer: J = loss + lambda/2 (||W1||^2 + ||W2||^2) + beta sum_j KL(rho || rho_hat_j)."""

    rho: float = 0.1
    beta: float = 3.0
    weight_decay: float = 3e-3
    activation: str = "sigmoid"
    output_activation: str = "sigmoid"
    loss: str = "squared"  # "squared": 1/2 ||xhat - x||^2;  "cross-entropy": summed over features
    tied: bool = False

    def unpack(self, weights):
        if self.tied:
            w1, b1, b2 = weights
            return w1, b1, w1.T, b2
        return weights

    def cost(self, weights, x, target=None, sample_weight=None):
        """J and its gradient, a list like `weights`: [W1, b1, W2, b2], or [W, b1, b2] when tied.

        With weights of the examples all means over examples are weighted means.
        """
        w1, b1, w2, b2 = self.unpack(weights)
        f, df, rest = ACTIVATIONS[self.activation]
        g, dg, _ = ACTIVATIONS[self.output_activation]
        target = x if target is None else target
        share = np.full(len(x), 1 / len(x)) if sample_weight is None else sample_weight / np.sum(sample_weight)
        column = share[:, None]
        a = f(x @ w1 + b1)
        xhat = g(a @ w2 + b2)
        r = (share @ a - rest) / (1 - rest)

        if self.loss == "squared":
            data = 0.5 * np.sum(column * (xhat - target) ** 2)
            delta2 = column * (xhat - target) * dg(xhat)
        else:
            data = -np.sum(column * (target * np.log(xhat) + (1 - target) * np.log(1 - xhat)))
            delta2 = column * (xhat - target) / (xhat * (1 - xhat)) * dg(xhat)
        kernels = [w1] if self.tied else [w1, w2]
        decay = self.weight_decay / 2 * sum(np.sum(w * w) for w in kernels)
        rho = self.rho
        sparsity = self.beta * np.sum(rho * np.log(rho / r) + (1 - rho) * np.log((1 - rho) / (1 - r)))

        slope = self.beta * (-rho / r + (1 - rho) / (1 - r)) / (1 - rest)
        delta1 = (delta2 @ w2.T + column * slope) * df(a)
        dw1, dw2 = x.T @ delta1, a.T @ delta2
        db1, db2 = delta1.sum(axis=0), delta2.sum(axis=0)
        if self.tied:
            gradients = [dw1 + dw2.T + self.weight_decay * w1, db1, db2]
        else:
            gradients = [dw1 + self.weight_decay * w1, db1, dw2 + self.weight_decay * w2, db2]
        return data + decay + sparsity, gradients

    def encode(self, weights, x):
        return ACTIVATIONS[self.activation][0](x @ weights[0] + weights[1])


def classifier_cost(weights, x, labels, weight_decay):
    """Mean cross-entropy + lambda/2 ||theta||^2 of sigmoid layers under a softmax: weights = [W, b, ..., theta, c]."""
    m, activations = len(x), [x]
    for w, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        activations.append(_logistic(activations[-1] @ w + b))
    theta, c = weights[-2:]
    logits = activations[-1] @ theta + c
    logits -= logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    cost = -log_p[np.arange(m), labels].mean() + weight_decay / 2 * np.sum(theta * theta)

    delta = np.exp(log_p)
    delta[np.arange(m), labels] -= 1
    delta /= m
    gradients = [delta.sum(axis=0), activations[-1].T @ delta + weight_decay * theta]
    back = delta @ theta.T
    for layer in reversed(range(len(activations) - 1)):
        a = activations[layer + 1]
        delta = back * a * (1 - a)
        gradients += [delta.sum(axis=0), activations[layer].T @ delta]
        if layer:
            back = delta @ weights[2 * layer].T
    return cost, gradients[::-1]


def predict(weights, x):
    """The most probable class of each row."""
    for w, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        x = _logistic(x @ w + b)
    return (x @ weights[-2] + weights[-1]).argmax(axis=1)


def minimize(cost, weights, iterations):
    """SciPy's L-BFGS-B over a list of arrays. Returns the weights, the final cost and (iterations, evaluations)."""
    shapes = [w.shape for w in weights]
    ends = np.cumsum([w.size for w in weights])

    def split(theta):
        return [part.reshape(shape) for part, shape in zip(np.split(theta, ends[:-1]), shapes, strict=True)]

    def flat_cost(theta):
        value, gradients = cost(split(theta))
        return value, np.concatenate([g.ravel() for g in gradients])

    options = {"maxiter": iterations, "maxfun": 10 * iterations}
    start = np.concatenate([w.ravel() for w in weights])
    found = scipy.optimize.minimize(flat_cost, start, jac=True, method="L-BFGS-B", options=options)
    return split(found.x), found.fun, (found.nit, found.nfev)


def initial_kernel(rng, inputs, outputs):
    """Uniform in +-sqrt(6 / (inputs + outputs + 1)), as the exercise starts."""
    limit = np.sqrt(6 / (inputs + outputs + 1))
    return rng.uniform(-limit, limit, (inputs, outputs))


def stacked_exercise(x, y, x_test, y_test, units=(200, 200), iterations=200, weight_decay=3e-3, seed=0):
    """Pretrain, fit the softmax, fine-tune: yields (stage, cost, iterations, evaluations, seconds, test accuracy)."""
    rng = np.random.default_rng(seed)
    x, x_test = x.astype("float64"), x_test.astype("float64")
    features, encoders = x, []
    for number, hidden in enumerate(units, 1):
        began = time.perf_counter()
        autoencoder, inputs = Autoencoder(weight_decay=weight_decay), features.shape[1]
        weights = [initial_kernel(rng, inputs, hidden), np.zeros(hidden)]
        weights += [initial_kernel(rng, hidden, inputs), np.zeros(inputs)]
        weights, cost, counts = minimize(lambda w: autoencoder.cost(w, features), weights, iterations)  # noqa: B023
        encoders += weights[:2]
        features = autoencoder.encode(weights, features)
        yield f"autoencoder {number}", cost, *counts, time.perf_counter() - began, None

    began, classes = time.perf_counter(), int(y.max()) + 1
    head = [0.005 * rng.standard_normal((features.shape[1], classes)), np.zeros(classes)]
    head, cost, counts = minimize(lambda w: classifier_cost(w, features, y, weight_decay), head, iterations)
    network = encoders + head
    yield "softmax", cost, *counts, time.perf_counter() - began, np.mean(predict(network, x_test) == y_test)

    began = time.perf_counter()
    network, cost, counts = minimize(lambda w: classifier_cost(w, x, y, weight_decay), network, iterations)
    yield "fine-tuning", cost, *counts, time.perf_counter() - began, np.mean(predict(network, x_test) == y_test)
