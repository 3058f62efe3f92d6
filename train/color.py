"""Colour features: a sparse autoencoder with linear outputs on whitened (ZCA) patches of photographs in colour.

UFLDL's exercise "Learning color features with Sparse Autoencoders", section "Linear Decoders" (192-400-192, rho 0.035,
lambda 3e-3, beta 5, epsilon 0.1, 100,000 patches of 8x8, 400 iterations of L-BFGS), whose picture shows edges, grey
ones and such between opponent colours.
http://ufldl.stanford.edu/wiki/index.php/Exercise:Learning_color_features_with_Sparse_Autoencoders
The exercise has patches of STL-10; here they are of scikit-learn's two photographs, or of yours.

What is counted: units like a Gabor function, by the first singular vector of their 64 x 3 weights, the pattern that
the three colours have in common; and units of colour, of whose squared weights more than 0.8 remain when each pixel's
mean over red, green and blue is taken away. Random weights have 2/3, an edge in grey 0, one from blue to yellow 1.

  python -m train.color                             a minute or two on two cores
  python -m train.color --patches 100000            as many patches as the exercise has
  python -m train.color --images DIR                a directory of your photographs
"""

import dataclasses

from . import cli

PROGRAM = "train.color"


@dataclasses.dataclass(frozen=True)
class Config(cli.RunConfig):
    images: str | None = cli.setting(None, "a directory of photographs (default: scikit-learn's two)")
    patches: int = cli.setting(20_000, "how many patches to learn from")
    patch_size: int = cli.setting(8, "height and width of a patch, in pixels")
    units: int = cli.setting(400, "hidden units")
    rho: float = cli.setting(0.035, "target mean activation of a hidden unit, between 0 and 1")
    beta: float = cli.setting(5.0, "weight of the sparsity penalty")
    weight_decay: float = cli.setting(3e-3, "lambda; the penalty is lambda/2 times the sum of squared weights")
    epsilon: float = cli.setting(0.1, "added to the variances before whitening, for pixels from 0 to 1")
    max_iterations: int = cli.setting(400, "L-BFGS iterations")
    seed: int = cli.setting(0, "of the random patches and initial weights")

    def __post_init__(self):
        cli.check_patches(self)
        cli.check_autoencoder(self)


cli.prepare(__name__, Config, PROGRAM, __doc__)

import keras
import numpy as np

import keras_sae
from keras_sae import visualization
from keras_sae.data import fingerprints
from keras_sae.data.preprocessing import fit_zca
from keras_sae.visualization import as_float64

from .data import gabor, patches
from .experiment import Experiment

COLOR = 0.8  # share of its squared weights above which a unit is one of colour; grey is below 1 - COLOR


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    out = cli.run_directory(config, "color")
    photographs, source = patches.load_photographs(config.images)
    shape = (config.patch_size, config.patch_size, 3)
    x = patches.cut_patches(photographs, config.patches, config.patch_size, config.seed).astype("float32") / 255
    held_out = patches.cut_patches(photographs, 1000, config.patch_size, config.seed + 1).astype("float32") / 255
    keras.utils.set_random_seed(config.seed)
    stack = build_stack(config, x)
    data = f"{source}; {len(x):,} patches of {config.patch_size}x{config.patch_size} in colour"
    identity = fingerprints.of(patches=x, held_out=held_out)
    experiment = Experiment(
        config,
        PROGRAM,
        "Colour features",
        data,
        out,
        shape,
        verbose,
        pixel_range=1,
        fingerprint=identity,
    )
    rho_hat = learn(experiment, config, stack, x, shape)
    measure(experiment, stack, held_out)
    title = f"What each of the {config.units} units looks for in a patch, whitening included"
    visualization.save_features(experiment.directory / "features.png", filters(stack), title, shape)
    visualization.save_rho_hat(experiment.directory / "rho_hat.png", rho_hat, config.rho)
    return experiment.finish(stack, held_out, x, curves="L-BFGS iteration", num_train=len(x))


def build_stack(config, x):
    """Return an untrained autoencoder with linear outputs, as a stack that whitens, for patches such as x."""
    penalty = keras_sae.KLSparsity(config.rho, config.beta)
    autoencoder = keras_sae.SparseAutoencoder(
        config.units, penalty, config.weight_decay, output_activation="linear", name="patches"
    )
    stack = keras_sae.StackedAutoencoder([autoencoder], preprocessing=fit_zca(x, config.epsilon))
    stack.build((None, x.shape[1]))
    return stack


def learn(experiment, config, stack, x, shape):
    """Train the autoencoder on patches x of this shape, which its stack whitens once. Return rho_hat."""
    ((autoencoder, whitened),) = stack.stages(x)
    experiment.fit(autoencoder, "patches", whitened, iterations=config.max_iterations, tile_shape=shape)
    return experiment.measure(autoencoder, whitened)


def filters(stack):
    """Return the weights of each unit on patches as they are before whitening, (features, units) float64."""
    return as_float64(stack.preprocessing.kernel) @ as_float64(stack.autoencoders[0].kernel)


def measure(experiment, stack, held_out):
    """Measure what the units look for, and what they keep of patches that they were not trained on.

    These are other windows of the same photographs, which may overlap with those trained on.
    """
    spatial, shares = patterns(filters(stack)), color_shares(filters(stack))
    size = experiment.tile_shape[:2]
    report = keras_sae.evaluate_features(stack, held_out)
    experiment.metrics |= {
        "fraction_gabor": float((gabor.gabor_fraction_explained(spatial, size) > gabor.GABOR_LIKE).mean()),
        "fraction_color": float((shares > COLOR).mean()),
        "fraction_grey": float((shares < 1 - COLOR).mean()),
        "explained_variance_held_out": report.explained_variance,
        "error_held_out": report.reconstruction_error,
    }
    words = {name: f"{experiment.metrics[f'fraction_{name}']:.0%}" for name in ("gabor", "color", "grey")}
    print(f"units       {words['gabor']} like a Gabor function; {words['color']} of colour, {words['grey']} grey")
    print(
        f"held out    {report.explained_variance:.1%} of the variance of other whitened patches explained", flush=True
    )


def patterns(weights):
    """Return the pattern that a unit's three colours have in common, (3 pixels, units) -> (pixels, units).

    It is the first left singular vector of the unit's weights as a matrix (pixels, 3).
    """
    of_units = weights.T.reshape(weights.shape[1], -1, 3)
    return np.linalg.svd(of_units, full_matrices=False)[0][:, :, 0].T


def color_shares(weights):
    """Return which share of each unit's squared weights is colour, (3 pixels, units) -> (units,).

    1 - sum_pixels 3 (mean of red, green, blue)^2 / sum of all squares
    """
    of_units = weights.T.reshape(weights.shape[1], -1, 3)
    return 1 - 3 * (of_units.mean(axis=2) ** 2).sum(axis=1) / (of_units**2).sum(axis=(1, 2))


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
