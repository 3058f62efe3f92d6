"""Softmax regression on pixels: what every number of learned features is compared with.

UFLDL's exercise "Softmax Regression" (lambda 1e-4, 100 iterations of L-BFGS, all 60,000 digits), which reports a test
accuracy of 92.6 %. http://ufldl.stanford.edu/wiki/index.php/Exercise:Softmax_Regression

    J = mean cross-entropy + lambda/2 ||theta||^2             theta: 784 x 10 weights

  python -m train.softmax                           the 5,000 embedded digits, a few seconds
  python -m train.softmax --data DIR                the official digits, half a minute
  python -m train.softmax --dataset fashion_mnist --data DIR
"""

import dataclasses

from . import cli

PROGRAM = "train.softmax"


@dataclasses.dataclass(frozen=True)
class Config(cli.RunConfig):
    data: str | None = cli.setting(None, cli.IMAGE_DATA)
    dataset: str = cli.setting("mnist", "what to learn", choices=("mnist", "fashion_mnist"))
    weight_decay: float = cli.setting(1e-4, "lambda; the penalty is lambda/2 times the sum of squared weights")
    max_iterations: int = cli.setting(100, "L-BFGS iterations")
    seed: int = cli.setting(0, "of the random initial weights")

    def __post_init__(self):
        cli.check_autoencoder(self)


cli.prepare(__name__, Config, PROGRAM, __doc__)

import keras

import keras_sae
from keras_sae import visualization
from keras_sae.data import datasets
from keras_sae.evaluation.evaluate import softmax_on

from .experiment import Experiment


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    out = cli.run_directory(config, "softmax")
    images = datasets.load_images(config.dataset, config.data)
    keras.utils.set_random_seed(config.seed)
    classifier = softmax_on([], images.x_train.shape[1], images.num_classes, config.weight_decay)
    data = f"{images.source}; {len(images.x_train):,} to train, {len(images.x_test):,} to test"
    title = f"Softmax regression on {config.dataset}"
    experiment = Experiment.on_images(config, PROGRAM, title, data, out, images, verbose)
    experiment.fit(classifier, "softmax", images.x_train, images.y_train, iterations=config.max_iterations)
    experiment.metrics["objective"] = keras_sae.objective(classifier, images.x_train, images.y_train).value
    experiment.accuracy(classifier, images.x_test, images.y_test, "accuracy", "pixels, softmax")
    title = "The weights of each class: white pixels speak for it, black ones against it"
    kernel = classifier.get_layer("head").kernel
    visualization.save_features(experiment.directory / "features.png", kernel, title, images.image_shape)
    numbers = {"num_train": len(images.x_train), "num_test": len(images.x_test)}
    return experiment.finish(classifier, images.x_test, images.x_train, images.y_test, "L-BFGS iteration", **numbers)


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
