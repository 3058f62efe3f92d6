"""Pen strokes: one sparse layer on handwritten digits, 784-196-784.

UFLDL's exercise "Vectorization" (rho 0.1, lambda 3e-3, beta 3, the first 10,000 digits, 400 iterations of L-BFGS),
whose picture shows that the units have learned pen strokes.

  python -m train.strokes                           5,000 digits; without data of yours, the embedded ones
  python -m train.strokes --digits 10000 --data DIR
"""

import dataclasses

from . import cli

PROGRAM = "train.strokes"


@dataclasses.dataclass(frozen=True)
class Config(cli.RunConfig):
    data: str | None = cli.setting(None, cli.IMAGE_DATA)
    digits: int = cli.setting(5000, "how many digits to learn from")
    units: int = cli.setting(196, "hidden units")
    rho: float = cli.setting(0.1, "target mean activation of a hidden unit, between 0 and 1")
    beta: float = cli.setting(3.0, "weight of the sparsity penalty")
    weight_decay: float = cli.setting(3e-3, "lambda; the penalty is lambda/2 times the sum of squared weights")
    max_iterations: int = cli.setting(400, "L-BFGS iterations")
    seed: int = cli.setting(0, "of the random initial weights")

    def __post_init__(self):
        cli.check(self.digits >= 1, "--digits", "1 or more", self.digits)
        cli.check_autoencoder(self)


cli.prepare(__name__, Config, PROGRAM, __doc__)

import keras
import numpy as np

import keras_sae
from keras_sae import visualization
from keras_sae.data import datasets
from keras_sae.errors import InputError

from .experiment import Experiment


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    out = cli.run_directory(config, "strokes")
    images = datasets.load_images("mnist", config.data)
    digits = np.concatenate([images.x_train, images.x_test])  # no labels are used, so nothing need be held out
    if len(digits) < config.digits:
        raise InputError(f"Expected {config.digits:,} --digits. Received: {len(digits):,}, {images.source}.")
    x = digits[: config.digits]
    keras.utils.set_random_seed(config.seed)
    autoencoder = keras_sae.SparseAutoencoder(
        config.units, keras_sae.KLSparsity(config.rho, config.beta), config.weight_decay, name="strokes"
    )
    experiment = Experiment.on_images(
        config, PROGRAM, "Pen strokes", f"{images.source}; {len(x):,} digits", out, images, verbose
    )
    experiment.fit(autoencoder, "strokes", x, iterations=config.max_iterations, tile_shape=images.image_shape)
    rho_hat = experiment.measure(autoencoder, x)
    directory = experiment.directory
    title = f"The input of norm 1 that activates each of the {config.units} units most"
    visualization.save_features(directory / "features.png", autoencoder.kernel, title, images.image_shape)
    visualization.save_rho_hat(directory / "rho_hat.png", rho_hat, config.rho)
    return experiment.finish(autoencoder, images.x_test, x, curves="L-BFGS iteration", num_train=len(x))


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
