"""Edge detectors: one sparse layer on whitened patches of natural photographs.

UFLDL's exercise "Sparse Autoencoder" (64-25-64, rho 0.01, lambda 1e-4, beta 3, 10,000 patches of 8x8, 400 iterations of
L-BFGS) and the picture of 100 units on 10x10 patches in the CS294A notes: edges at different places and orientations.

  python -m train.patches
  python -m train.patches --patch-size 10 --units 100
  python -m train.patches --images IMAGES.mat       the notes' own images, where you have them
"""

import dataclasses

from . import cli

PROGRAM = "train.patches"


@dataclasses.dataclass(frozen=True)
class Config(cli.RunConfig):
    images: str | None = cli.setting(
        None,
        "IMAGES.mat (whitened by its makers) or a directory of photographs (default: scikit-learn's two)",
    )
    patches: int = cli.setting(10_000, "how many patches to learn from")
    patch_size: int = cli.setting(8, "height and width of a patch, in pixels")
    units: int = cli.setting(25, "hidden units")
    rho: float = cli.setting(0.01, "target mean activation of a hidden unit, between 0 and 1")
    beta: float = cli.setting(3.0, "weight of the sparsity penalty")
    weight_decay: float = cli.setting(1e-4, "lambda; the penalty is lambda/2 times the sum of squared weights")
    max_iterations: int = cli.setting(400, "L-BFGS iterations")
    seed: int = cli.setting(0, "of the random patches and initial weights")

    def __post_init__(self):
        cli.check_patches(self)
        cli.check_autoencoder(self)


cli.prepare(__name__, Config, PROGRAM, __doc__)

import keras

import keras_sae
from keras_sae import visualization
from keras_sae.data import fingerprints

from .data import gabor, patches
from .experiment import Experiment


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    out = cli.run_directory(config, "patches")
    images, source = patches.load_whitened(config.images)
    shape = (config.patch_size, config.patch_size)
    x = patches.sample_patches(images, config.patches, config.patch_size, config.seed)
    held_out = patches.sample_patches(images, 256, config.patch_size, config.seed + 1)
    keras.utils.set_random_seed(config.seed)
    autoencoder = keras_sae.SparseAutoencoder(
        config.units, keras_sae.KLSparsity(config.rho, config.beta), config.weight_decay, name="edges"
    )
    data = f"{source}; {len(x):,} patches of {config.patch_size}x{config.patch_size}"
    identity = fingerprints.of(patches=x, held_out=held_out)
    experiment = Experiment(
        config,
        PROGRAM,
        "Edge detectors",
        data,
        out,
        shape,
        verbose,
        fingerprint=identity,
    )
    experiment.fit(autoencoder, "edges", x, iterations=config.max_iterations, tile_shape=shape)
    experiment.measure(autoencoder, x)
    explained = gabor.gabor_fraction_explained(autoencoder.kernel, shape)
    experiment.metrics["fraction_gabor"] = float((explained > gabor.GABOR_LIKE).mean())
    experiment.metrics["gabor_explained_median"] = float(sorted(explained)[len(explained) // 2])
    title = f"The patch of norm 1 that activates each of the {config.units} units most"
    visualization.save_features(experiment.directory / "features.png", autoencoder.kernel, title, shape)
    return experiment.finish(autoencoder, held_out, x, curves="L-BFGS iteration", num_train=len(x))


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
