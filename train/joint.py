"""A classifier that is trained together with a reconstruction of the inputs, also on rows whose label is not known."""

import math

import keras
import numpy as np

import keras_sae
from keras_sae.data.containers import RowSubset

from .experiment import falling_rate

RATE, BATCH, STEPS = 0.002, 100, 6000
DEVIATION = 0.26  # of MNIST's pixels, to whose variance the noise and the weight of the reconstruction are chosen


def train(experiment, units, num_classes, preprocessing, half_variance, x, y):
    """Train a ladder network; return it as an ordinary classifier of raw inputs.

    preprocessing: takes inputs to [0, 1].  half_variance: half the sum of the variances of what it gives.
    x: rows, (examples, features).  y: class numbers, (examples,), -1 where they are not known.
    """
    deviation = math.sqrt(2 * half_variance / x.shape[1])
    scaling = keras.Sequential(
        [keras.Input((x.shape[1],)), preprocessing, keras.layers.Rescaling(DEVIATION / deviation)]
    )
    rows, batch_size = whole_minibatches(y)
    ladder = keras_sae.LadderClassifier(units, num_classes)
    epochs = max(30, -(-STEPS * batch_size // len(rows)))
    last_epochs = epochs // 3
    experiment.fit(
        ladder, "joint", RowSubset(x, rows, scaling), y[rows], keras.optimizers.Adam(RATE), epochs,
        [falling_rate(RATE, epochs - last_epochs, last_epochs)], batch_size=batch_size,
    )  # fmt: skip
    return ladder.classifier(scaling)


def whole_minibatches(y):
    """Return the numbers of rows that make whole minibatches, of about BATCH, and the size of those.

    A smaller one would be normalised by too few rows. Left out, less than one of each minibatch, are the last rows
    without labels, then with labels.
    """
    number = max(1, round(len(y) / BATCH))
    size = len(y) // number
    order = np.concatenate([np.flatnonzero(y >= 0), np.flatnonzero(y < 0)])
    return np.sort(order[: number * size]), size
