"""A linear autoencoder finds the principal subspace: its hidden units span what PCA's first components span.

Bourlard & Kamp 1988, Baldi & Hornik 1989; CS294A notes, section 3: with linear units and squared error an undercomplete
autoencoder "ends up learning a low-dimensional representation very similar to PCA's". Measured as the largest angle
between the two subspaces, on the embedded digits.

  python -m train.pca
  python -m train.pca --units 40 --data DIR
"""

import dataclasses

from . import cli

PROGRAM = "train.pca"


@dataclasses.dataclass(frozen=True)
class Config(cli.RunConfig):
    data: str | None = cli.setting("embedded", "directory with the four IDX files of MNIST, or 'embedded'")
    units: int = cli.setting(10, "hidden units, and principal components")
    max_iterations: int = cli.setting(1000, "L-BFGS iterations")
    seed: int = cli.setting(0, "of the random initial weights")

    def __post_init__(self):
        cli.check_autoencoder(self)


cli.prepare(__name__, Config, PROGRAM, __doc__)

import keras
import numpy as np
import scipy.linalg

import keras_sae
from keras_sae import visualization
from keras_sae.data import batches, datasets, fingerprints
from keras_sae.errors import InputError

from .experiment import Experiment


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    out = cli.run_directory(config, "pca")
    images = datasets.load_images("mnist", config.data)
    x = images.x_train.astype("float64")
    if config.units >= min(x.shape):
        raise InputError(f"Expected fewer --units than the {min(x.shape)} dimensions. Received: {config.units}.")
    mean = x.mean(axis=0)
    x -= mean
    components = np.linalg.svd(x, full_matrices=False)[2][: config.units].T
    keras.utils.set_random_seed(config.seed)
    autoencoder = keras_sae.SparseAutoencoder(
        config.units,
        sparsity=None,
        weight_decay=0.0,
        activation="linear",
        output_activation="linear",
        dtype="float64",  # the angle is measured to 1e-3 rad: errors add up along directions of very different size
        name="linear",
    )
    data = f"{images.source}; {len(x):,} digits, less their mean"
    identity = fingerprints.of_images(images)
    experiment = Experiment(
        config,
        PROGRAM,
        "Linear autoencoder and PCA",
        data,
        out,
        images.image_shape,
        verbose,
        fingerprint=identity,
    )
    experiment.fit(autoencoder, "linear", x, iterations=config.max_iterations, tolerance=0.0)
    decoder = keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(autoencoder.output_layer.kernel)).T
    experiment.metrics |= {
        "largest_principal_angle": float(scipy.linalg.subspace_angles(decoder, components).max()),
        "reconstruction_error": squared_error(x, batches.predict_in_chunks(autoencoder, x)),
        "pca_reconstruction_error": squared_error(x, x @ components @ components.T),
    }
    print(f"\nlargest principal angle  {experiment.metrics['largest_principal_angle']:.2e} rad")
    draw(experiment.directory, decoder, components, images.image_shape)
    return experiment.finish(autoencoder, (images.x_test - mean).astype("float32"), x, curves="L-BFGS iteration")


def squared_error(x, reconstructed):
    """Return the mean over examples of 1/2 ||xhat - x||^2."""
    return float(0.5 * ((reconstructed - x) ** 2).sum(axis=1).mean())


def draw(directory, decoder, components, shape):
    """Write features.png: the decoder's directions, PCA's, and the decoder's turned onto PCA's."""
    turned = decoder @ np.linalg.lstsq(decoder, components, rcond=None)[0]
    rows = np.concatenate([decoder, components, turned], axis=1)
    title = "Rows: what the hidden units write; principal components; the components as combinations of hidden units"
    visualization.save_features(directory / "features.png", rows, title, shape, columns=components.shape[1])


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
