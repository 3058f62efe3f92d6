"""A ladder network on images as rows of pixels: a denoising autoencoder and a classifier trained as one.

No knowledge of where pixels are, no further images, no ensemble. With --labels few rows keep their labels, as many of
each class; all others are learned from without. At the end the classifier is an ordinary network of dense layers, which
exports as such. Pezeshki et al. 2016 report 0.57 % of errors on MNIST with all labels, 1.0 % with 100.

  python -m train.ladder --data DIR                 the official digits, 150 epochs; 18 s each on one core
  python -m train.ladder --data DIR --epochs 40 --last-epochs 20    18 minutes: 0.62 % of errors, five seeds
  python -m train.ladder --data DIR --labels 100    ten labels a class, and 60,000 digits without
  python -m train.ladder --data DIR --labels 100 --pretrain 10       from weights learned layer by layer: less accurate
  python -m train.ladder --held-out 10000 --noise 0.2 --data DIR      to choose settings: accuracy on rows held out
"""

import dataclasses

from . import cli, methods

PROGRAM = "train.ladder"


@dataclasses.dataclass(frozen=True)
class Config(cli.RunConfig):
    data: str | None = cli.setting(None, cli.IMAGE_DATA)
    dataset: str = cli.setting("mnist", "what to learn", choices=("mnist", "fashion_mnist"))
    units: tuple[int, ...] = cli.setting((1000, 500, 250, 250, 250), "hidden units of each layer, from the input up")
    noise: float = cli.setting(0.3, "standard deviation of the noise, of pixels in [0, 1] and in deviations of units")
    reconstruction_weight: float = cli.setting(2000.0, "of the mean squared error of a pixel, beside the cross-entropy")
    labels: int | None = cli.setting(None, "training rows that keep their labels (default: all)")
    held_out: int = cli.setting(0, "training rows that are not learned from, but measured, to choose settings by")
    epochs: int = cli.setting(100, "passes over the training rows at the full learning rate")
    last_epochs: int = cli.setting(50, "passes after them, while the learning rate falls to 0")
    pretrain: int = cli.setting(
        0, "passes in which each layer learns, as a denoising autoencoder, what all begin with; 0: random weights"
    )
    learning_rate: float = cli.setting(0.002, "of Adam")
    batch_size: int = cli.setting(100, "rows of a minibatch, whose means and deviations layers are normalised by")
    seed: int = cli.setting(0, "of weights, noise, the order of rows and the choice of labels")

    def __post_init__(self):
        cli.check(self.units and min(self.units) >= 1, "--units", "numbers of 1 or more", self.units)
        cli.check(self.noise >= 0, "--noise", "0 or more", self.noise)
        cli.check(self.reconstruction_weight >= 0, "--reconstruction-weight", "0 or more", self.reconstruction_weight)
        cli.check(self.labels is None or self.labels >= 10, "--labels", "10 or more", self.labels)
        cli.check(self.held_out >= 0, "--held-out", "0 or more", self.held_out)
        cli.check(min(self.epochs, self.last_epochs) >= 1, "--epochs and --last-epochs", "1 or more", self.epochs)
        cli.check(self.pretrain >= 0, "--pretrain", "0 or more", self.pretrain)
        cli.check(self.learning_rate > 0, "--learning-rate", "more than 0", self.learning_rate)
        cli.check(self.batch_size >= 2, "--batch-size", "2 or more", self.batch_size)


cli.prepare(__name__, Config, PROGRAM, __doc__)

import keras
import numpy as np

import keras_sae
from keras_sae import visualization
from keras_sae.data import datasets
from keras_sae.data.batches import predict_in_chunks
from keras_sae.errors import InputError

from .experiment import Experiment, adam, falling_rate


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    out = cli.run_directory(config, f"ladder-{config.dataset}")
    images = datasets.load_images(config.dataset, config.data)
    learned, held = split(len(images.x_train), config)
    x, y = images.x_train[learned], images.y_train[learned]
    labels = y if config.labels is None else known(y, config, images.num_classes)
    number = int((labels >= 0).sum())
    data = f"{images.source}; {len(x):,} to train, {number:,} with labels, {len(images.x_test):,} to test"
    title = f"Ladder network on {config.dataset}"
    experiment = Experiment.on_images(config, PROGRAM, title, data, out, images, verbose)
    keras.utils.set_random_seed(config.seed)
    ladder = keras_sae.LadderClassifier(config.units, images.num_classes, config.noise, config.reconstruction_weight)
    if config.pretrain:
        ladder.start_from(pretrained(experiment, config, x), x)
    experiment.fit(
        ladder, "ladder", x, labels, keras.optimizers.Adam(config.learning_rate), config.epochs + config.last_epochs,
        [falling_rate(config.learning_rate, config.epochs, config.last_epochs)],
        tile_shape=images.image_shape, batch_size=config.batch_size,
    )  # fmt: skip
    classifier = ladder.classifier()
    experiment.accuracy(classifier, images.x_test, images.y_test, "accuracy", "trained with its reconstruction")
    if len(held):
        right = predict_in_chunks(classifier, images.x_train[held]).argmax(axis=1) == images.y_train[held]
        experiment.metrics["accuracy_held_out"] = float(right.mean())
        print(f"held out    {right.mean():.2%} of {len(held):,} training rows that were not learned from")
    kernel = classifier.get_layer("encoder").get_layer("hidden_1").kernel
    title = "What units of layer 1 look for (grey: nothing), each at its own contrast"
    visualization.save_features(experiment.directory / "features.png", kernel[:, :100], title, images.image_shape)
    numbers = {"num_train": len(x), "num_labels": number, "num_test": len(images.x_test)}
    return experiment.finish(classifier, images.x_test, images.x_train, images.y_test, "epoch", **numbers)


def pretrained(experiment, config, x):
    """Return a stack of denoising autoencoders, each of which learned to give back what the one below makes of x.

    A quarter of its inputs is set to 0, as Vincent et al. 2008 do: that suits units of every scale.
    """
    options = {"sparsity": None, "weight_decay": 0.0, "activation": "relu", "output_activation": "linear"}
    autoencoders = [
        keras_sae.SparseAutoencoder(units, corruption=0.25, name=f"layer_{number}", **options)
        for number, units in enumerate(config.units, 1)
    ]
    stack = keras_sae.StackedAutoencoder(autoencoders)
    size, number = cli.batches(len(x))
    for autoencoder, inputs in stack.stages(x, experiment.checkpoints):
        optimizer = adam(config.pretrain * number, methods.RATE)
        experiment.fit(autoencoder, autoencoder.name, inputs, None, optimizer, config.pretrain, batch_size=size)
    return stack


def split(rows, config):
    """Return the numbers of rows that are learned from, whole minibatches of them, and of those held out.

    In a smaller minibatch the normalisation would be of few rows, which costs accuracy.
    """
    if rows - config.held_out < config.batch_size:
        raise InputError(
            f"--held-out and --batch-size leave no minibatch. Expected {config.batch_size} rows or more to learn from. "
            f"Received: {rows:,} rows."
        )
    order = np.random.default_rng(0).permutation(rows)
    held, learned = np.sort(order[: config.held_out]), order[config.held_out :]
    return np.sort(learned[: len(learned) // config.batch_size * config.batch_size]), held


def known(y, config, num_classes):
    """Return the labels of as many rows of each class, and -1 for the other rows."""
    random, labels = np.random.default_rng(config.seed), np.full(len(y), -1)
    for label in range(num_classes):
        rows = random.permutation(np.flatnonzero(y == label))[: config.labels // num_classes]
        labels[rows] = label
    return labels


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
