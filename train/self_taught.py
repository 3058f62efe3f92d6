"""Self-taught learning: features from digits that are not among the classes, which help to tell the classes apart.

UFLDL's exercise "Self-Taught Learning" (784-200-784, rho 0.1, lambda 3e-3, beta 3, 400 iterations of L-BFGS, on the
digits 5 to 9 without their labels; then a softmax, lambda 1e-4, on the features of the digits 0 to 4, of which one half
trains and the other tests), which reports 98.3 % on features, and 96 % on pixels.
http://ufldl.stanford.edu/wiki/index.php/Exercise:Self-Taught_Learning

All images are training images, as in the exercise: of each of the digits 0 to 4 the first half of the file trains.

  python -m train.self_taught                       the 4,000 embedded training digits, half a minute
  python -m train.self_taught --data DIR            all 60,000, three minutes on two cores
"""

import dataclasses

from . import cli

PROGRAM = "train.self_taught"


@dataclasses.dataclass(frozen=True)
class Config(cli.RunConfig):
    data: str | None = cli.setting(None, cli.IMAGE_DATA)
    units: int = cli.setting(200, "hidden units")
    rho: float = cli.setting(0.1, "target mean activation of a hidden unit, between 0 and 1")
    beta: float = cli.setting(3.0, "weight of the sparsity penalty")
    weight_decay: float = cli.setting(3e-3, "lambda; the penalty is lambda/2 times the sum of squared weights")
    max_iterations: int = cli.setting(400, "L-BFGS iterations of the features")
    seed: int = cli.setting(0, "of the random initial weights")

    def __post_init__(self):
        cli.check_autoencoder(self)


cli.prepare(__name__, Config, PROGRAM, __doc__)

import keras
import numpy as np

import keras_sae
from keras_sae import visualization
from keras_sae.data import datasets
from keras_sae.errors import InputError

from . import baselines
from .experiment import Experiment

CLASSES = 5  # the digits 0 to 4 have labels, those from 5 on do not
SOFTMAX = cli.TrainingConfig(max_iterations=100)


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    out = cli.run_directory(config, "self_taught")
    images = datasets.load_images("mnist", config.data)
    unlabelled = images.x_train[images.y_train >= CLASSES]
    train, test = ((images.x_train[rows], images.y_train[rows]) for rows in halves(images.y_train))
    if not len(unlabelled) or not len(train[0]):
        raise InputError(f"Expected digits from 0 to 9, two or more of each. Received: {images.source}, without some.")
    keras.utils.set_random_seed(config.seed)
    stack, untrained = (build_stack(config, images.x_train.shape[1]) for _ in range(2))
    data = (
        f"{images.source}; {len(unlabelled):,} digits 5 to 9 without labels, {len(train[0]):,} digits 0 to 4 to train, "
        f"{len(test[0]):,} to test"
    )
    experiment = Experiment.on_images(config, PROGRAM, "Self-taught learning", data, out, images, verbose)
    pretraining = cli.TrainingConfig(max_iterations=config.max_iterations)
    experiment.pretrain(pretraining, stack, unlabelled)
    classifier = stack.classifier(CLASSES)
    experiment.train_head(SOFTMAX, classifier, *train)
    experiment.accuracy(classifier, *test, "accuracy_greedy", "features of digits 5 to 9, softmax")
    baselines.measure(experiment, SOFTMAX, stack, untrained, train, test)
    title = f"What each of the {config.units} units has learned to look for in digits 5 to 9"
    kernel = stack.autoencoders[0].kernel
    visualization.save_features(experiment.directory / "features.png", kernel, title, images.image_shape)
    numbers = {"num_unlabelled": len(unlabelled), "num_train": len(train[0]), "num_test": len(test[0])}
    return experiment.finish(classifier, test[0], train[0], test[1], "L-BFGS iteration", stack, **numbers)


def build_stack(config, features):
    """Return an untrained stack of the one layer."""
    penalty = keras_sae.KLSparsity(config.rho, config.beta)
    stack = keras_sae.StackedAutoencoder(
        [keras_sae.SparseAutoencoder(config.units, penalty, config.weight_decay, name="layer_1")]
    )
    stack.build((None, features))
    return stack


def halves(y):
    """Return the rows of the first half of each digit with labels, and those of the second, in their order."""
    first, second = np.zeros(len(y), bool), np.zeros(len(y), bool)
    for digit in range(CLASSES):
        rows = np.flatnonzero(y == digit)
        first[rows[: len(rows) // 2]] = second[rows[len(rows) // 2 :]] = True
    return np.flatnonzero(first), np.flatnonzero(second)


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
