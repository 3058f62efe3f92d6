"""Hinton's encoder problem, 8-3-8: eight one-hot vectors must pass through three units, which invent a binary code.

Ackley, Hinton & Sejnowski 1985; Mitchell 1997, "Machine Learning", section 4.6.4. Sigmoid units, cross-entropy summed
over the outputs, SGD with learning rate 1 and momentum 0.8 on batches of 7, until the mean squared error is below 1e-3
and the codes, rounded to bits, are all different. The error alone gets there sooner, often with codes half-way between
0 and 1; a very small weight decay then drives the codes to the corners, where small weights tell them apart best.

  python -m train.encoder_problem
  python -m train.encoder_problem --bits 4          sixteen vectors through four units
"""

import dataclasses
import math

from . import cli

PROGRAM = "train.encoder_problem"
CHECK_EVERY = 250  # iterations between looks at the error


@dataclasses.dataclass(frozen=True)
class Config(cli.RunConfig):
    bits: int = cli.setting(3, "hidden units, for 2 to that power inputs")
    learning_rate: float = cli.setting(1.0, "of SGD")
    momentum: float = cli.setting(0.8, "of SGD")
    batch_size: int = cli.setting(7, "examples in a batch, drawn from an endless shuffled stream")
    weight_decay: float = cli.setting(2e-4, "lambda; 0 leaves some seeds with codes that round to the same bits")
    target_error: float = cli.setting(1e-3, "stop below this mean squared error, once all rounded codes differ")
    max_iterations: int = cli.setting(100_000, "batches at most")
    seed: int = cli.setting(0, "of the random initial weights and of the batches")

    def __post_init__(self):
        cli.check(1 <= self.bits <= 8, "--bits", "1 to 8", self.bits)
        cli.check(self.learning_rate > 0, "--learning-rate", "more than 0", self.learning_rate)
        cli.check(0 <= self.momentum < 1, "--momentum", "0 or more and below 1", self.momentum)
        cli.check(self.batch_size >= 1, "--batch-size", "1 or more", self.batch_size)
        cli.check(self.target_error > 0, "--target-error", "more than 0", self.target_error)
        cli.check_autoencoder(self)


cli.prepare(__name__, Config, PROGRAM, __doc__)

import keras
import numpy as np

import keras_sae
from keras_sae.data import batches

from . import figures
from .experiment import Experiment


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    out = cli.run_directory(config, "encoder_problem")
    x = np.eye(2**config.bits, dtype="float32")
    keras.utils.set_random_seed(config.seed)
    autoencoder = keras_sae.SparseAutoencoder(config.bits, None, config.weight_decay, name="encoder_problem")
    data = f"the {len(x)} one-hot vectors of length {len(x)}"
    experiment = Experiment(config, PROGRAM, "The encoder problem", data, out, None, verbose, fingerprint={})
    autoencoder.compile(loss=keras_sae.SummedBinaryCrossentropy())
    history = experiment.fit(
        autoencoder,
        "encoder",
        endless_batches(x, config.batch_size, config.seed),
        optimizer=keras.optimizers.SGD(config.learning_rate, config.momentum),
        iterations=math.ceil(config.max_iterations / CHECK_EVERY),
        monitors=[stop_when_solved(autoencoder, x, config.target_error)],
        steps_per_epoch=CHECK_EVERY,
        shuffle=False,  # the stream is shuffled
    )
    codes = batches.predict_in_chunks(autoencoder.encoder, x)
    experiment.metrics |= {
        "mse": history.history["mse"][-1],
        "distinct_codes": count_codes(codes),
        "iterations": CHECK_EVERY * len(history.history["mse"]),
    }
    print("\ninput     hidden code" + " " * (7 * config.bits - 8) + "rounded")
    for number, code in enumerate(codes):
        values, bits = (f"{value:.3f}" for value in code), (f"{value:.0f}" for value in code)
        print(f"{number:5}     {'  '.join(values)}     {''.join(bits)}")
    figures.save_codes(experiment.directory / "codes.png", codes)
    return experiment.finish(autoencoder, x, x, curves=f"{CHECK_EVERY} batches of SGD")


def endless_batches(x, batch_size, seed):
    """Return a shuffled stream of the rows, over and over, in batches, which may span two rounds."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(x).shuffle(len(x), seed=seed).repeat().batch(batch_size)


def count_codes(codes):
    """Return how many different codes there are when rounded to bits."""
    return len({tuple(row) for row in codes.round()})


def stop_when_solved(autoencoder, x, target):
    """Return a callback that logs the mean squared error over all inputs, and stops when the problem is solved."""

    def look(epoch, logs):
        logs["mse"] = float(((batches.predict_in_chunks(autoencoder, x) - x) ** 2).mean())
        codes = batches.predict_in_chunks(autoencoder.encoder, x)
        autoencoder.stop_training = logs["mse"] < target and count_codes(codes) == len(x)

    return keras.callbacks.LambdaCallback(on_epoch_end=look)


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
