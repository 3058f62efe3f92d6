"""How much labels are worth: accuracy against the number of labelled digits, with and without pretraining.

Self-taught learning (UFLDL, "Self-Taught Learning"; Raina et al. 2007): the stack learns its features from ALL training
images without their labels, once. Then, for 100, 1,000, 10,000 and 60,000 labels, three classifiers of the same shape:

  head         softmax alone on the pretrained features
  pretrained   the whole network, fine-tuned from the pretrained weights
  scratch      the whole network from random weights, with the same objective and number of iterations

  python -m train.labels                            with the embedded digits: 100, 1,000 and 4,000 labels
  python -m train.labels --data DIR                 with all of MNIST; takes many times as long
"""

import dataclasses

from . import cli

PROGRAM = "train.labels"


@dataclasses.dataclass(frozen=True)
class Config(cli.RunConfig):
    data: str | None = cli.setting(None, cli.IMAGE_DATA)
    dataset: str = cli.setting("mnist", "what to learn", choices=("mnist", "fashion_mnist"))
    labels: tuple[int, ...] = cli.setting((100, 1000, 10_000, 60_000), "numbers of labels; at most all are used")
    units: tuple[int, ...] = cli.setting((200, 200), "hidden units of each layer, from the input upwards")
    max_iterations: int = cli.setting(200, "L-BFGS iterations of each stage")
    seed: int = cli.setting(0, "of the random initial weights and of the choice of labelled images")

    def __post_init__(self):
        cli.check(min(self.labels) >= 1, "--labels", "1 or more", self.labels)
        cli.check_autoencoder(self)


cli.prepare(__name__, Config, PROGRAM, __doc__)

import keras
import numpy as np

from keras_sae.data import datasets

from . import figures, mnist
from .experiment import Experiment


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    out = cli.run_directory(config, "labels")
    images = datasets.load_images(config.dataset, config.data)
    numbers = sorted({min(number, len(images.x_train)) for number in config.labels})
    setup = mnist.Config(units=config.units, max_iterations=config.max_iterations)
    keras.utils.set_random_seed(config.seed)
    stack = mnist.build_stack(setup, *images.x_train.shape)
    data = f"{images.source}; {len(images.x_train):,} without labels, {', '.join(f'{n:,}' for n in numbers)} with"
    experiment = Experiment.on_images(config, PROGRAM, f"Labels of {config.dataset}", data, out, images, verbose)
    scratch = mnist.build_stack(setup, *images.x_train.shape)  # random weights, for the networks without pretraining
    experiment.pretrain(setup, stack, images.x_train, images.y_train)

    order = np.random.default_rng(config.seed).permutation(len(images.x_train))
    accuracies = {"pretrained": [], "head": [], "scratch": []}
    for number in numbers:
        x, y = images.x_train[order[:number]], images.y_train[order[:number]]
        pretrained = stack.classifier(images.num_classes, setup.weight_decay)
        experiment.train_head(setup, pretrained, x, y, f"head_{number}")
        accuracies["head"].append(accuracy(experiment, pretrained, images, f"head_{number}"))
        experiment.fit_labels(setup, pretrained, f"pretrained_{number}", x, y)
        accuracies["pretrained"].append(accuracy(experiment, pretrained, images, f"pretrained_{number}"))
        beginner = scratch.classifier(images.num_classes, setup.weight_decay)
        experiment.fit_labels(setup, beginner, f"scratch_{number}", x, y)
        accuracies["scratch"].append(accuracy(experiment, beginner, images, f"scratch_{number}"))
    figures.save_accuracies(experiment.directory / "accuracy.png", numbers, accuracies, len(images.x_train))
    return experiment.finish(
        pretrained,
        images.x_test,
        images.x_train,
        images.y_test,
        pretrained=stack,
        num_train=len(images.x_train),
        num_test=len(images.x_test),
    )


def accuracy(experiment, classifier, images, name):
    return experiment.accuracy(
        classifier, images.x_test, images.y_test, f"accuracy_{name}", name.replace("_", ", labels: ")
    )


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
