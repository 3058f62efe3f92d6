"""The same autoencoder written in several ways, each a module with the same functions, which `side_by_side` times.

    objective(x, units, precision, **options) -> function() -> J, which also computes the gradient
    epoch(x, units, batch_size, precision)    -> function() -> Seconds of an epoch of Adam
    product(rows, features, units, precision) -> function() -> None: the matrix products of an objective, alone

keras_sae_form has more, of which there is nothing to compare with; encoders is the features alone.

All start from the same weights. x is (examples, features), float32. What a module lacks, it cannot do.
"""

import statistics
import time

import numpy as np

RHO, BETA, WEIGHT_DECAY = 0.1, 3.0, 3e-3
PRODUCTS = 6  # of 2 * rows * features * units operations: pass 1 takes one, pass 2 two forward and three backward


class Seconds(float):
    """What a function has measured itself, and what it has found, a number or None."""

    def __new__(cls, seconds, value=None):
        self = super().__new__(cls, seconds)
        self.value = value
        return self


def median_epoch(one):
    """Return the median seconds of three calls of `one`, after one that is not counted."""
    one()
    times = []
    for _ in range(3):
        began = time.perf_counter()
        one()
        times.append(time.perf_counter() - began)
    return Seconds(statistics.median(times))


def initial_weights(features, units):
    """Return W1, b1, W2, b2, float32."""
    rng, limit = np.random.default_rng(0), (6 / (features + units)) ** 0.5
    w1, w2 = rng.uniform(-limit, limit, (features, units)), rng.uniform(-limit, limit, (units, features))
    return [w.astype("float32") for w in (w1, np.zeros(units), w2, np.zeros(features))]


def batches(rows, batch_size):
    """Yield the row numbers of each minibatch of an epoch, in random order."""
    order = np.random.default_rng(0).permutation(rows)
    for start in range(0, rows, batch_size):
        yield order[start : start + batch_size]
