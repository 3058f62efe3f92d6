"""Features of your own data: a stack of sparse autoencoders, with or without labels, that takes raw inputs.

Reads npy (memory-mapped), npz (also scipy's sparse matrices), csv and tsv, Parquet (also lists and images), TFRecord,
HDF5 (.h5), MATLAB (.mat), safetensors, images that Pillow reads (png, jpg, webp, tif, ...), or tfds:NAME of
tensorflow-datasets.
These may be one file, several, directories or patterns, all of one kind. What is left out, changed or doubtful is said.
Not read: Excel, JSON, SQL, text, sound, video, HEIC.
Inputs are scaled to [0, 1] inside the model, fitted on the training part, so that the encoder, and every export of it,
takes data as they are. A tenth of the rows is held out: it measures, and nothing is learned from it.

  python -m train.features --data table.csv --units 64 32
  python -m train.features --data table.csv --labels species        features, then a classifier of this column
  python -m train.features --data table.csv --labels species --joint    few labels: the others' cells are empty
  python -m train.features --data photos/ --image-size 32 --labels folders --contrast
  python -m train.features --data 'parts/*.parquet' --feature embedding
  python -m train.features --data huge.npy --optimizer adam         any size: memory stays flat
  python -m train.features --resume runs/features                   resume a run that was interrupted
  python -m train.features --resume runs/features --max-iterations 400     go on from a finished one
"""

import dataclasses
import math

from . import cli, methods

PROGRAM = "train.features"
MOST_UNITS = 200  # by default: see train/README.md


@dataclasses.dataclass(frozen=True)
class Config(cli.TrainingConfig):
    data: tuple[str, ...] = cli.setting((), "files, directories or patterns of data, or tfds:NAME; required")
    labels: str | None = cli.setting(
        None,
        "where the classes are: a column, an array of an npz, h5, mat or safetensors, a feature, another .npy, or "
        "'folders': the first directories below that of the images",
    )
    joint: bool = cli.setting(
        False, "learn classes and reconstruction as one, a ladder network: better with few labels; takes minutes"
    )
    feature: str | None = cli.setting(
        None,
        "name of what to learn from: an array of an npz, h5, mat or safetensors, a column of Parquet, a feature of "
        "TFRecord",
    )
    no_header: bool = cli.setting(False, "csv files begin with data, not with names: columns are called 1, 2, ...")
    columns: tuple[str, ...] = cli.setting((), "names of the columns of a table to learn from, others are left out")
    ignore: tuple[str, ...] = cli.setting((), "names of columns of a table to leave out, whatever they hold")
    drop: str | None = cli.setting(
        None, "columns of a table to leave out: those of one value in all training rows", choices=("constant",)
    )
    one_hot: bool = cli.setting(False, "columns of texts become columns of 0 and 1, named column=text")
    image_size: tuple[int, ...] | None = cli.setting(None, "side, or height and width, to resize images to")
    image_shape: tuple[int, ...] | None = cli.setting(
        None, "height and width, and 3 for colour, of images that are rows of an array or table, to draw them"
    )
    color: bool = cli.setting(False, "images with red, green and blue, not grey")
    contrast: bool = cli.setting(False, "normalise the contrast of each example, as suits images and spectra")
    whiten: bool = cli.setting(False, "ZCA: make inputs less correlated, as suits images")
    units: tuple[int, ...] | None = cli.setting(
        None,
        "hidden units of each layer, from the input upwards (default: one layer, of twice as many as the data have "
        f"columns, {MOST_UNITS} at most; with a method of so many --active units four times these at least)",
    )
    sparsity: str = cli.setting(
        "kl", f"the penalty: KL divergence to rho{methods.HELP}", choices=("kl", *methods.BY_ACTIVE)
    )
    active: int = cli.setting(25, "active units of an example; kl has --rho and --beta instead")
    rho: float = cli.setting(0.1, "target mean activation of a hidden unit, between 0 and 1")
    beta: float | None = cli.setting(
        None, "weight of the sparsity penalty (default: 0.1 of half the variance of a layer's inputs)"
    )
    weight_decay: float | None = cli.setting(
        None, "lambda of lambda/2 times the sum of squared weights (default: 0.0001 of the same)"
    )
    seed: int = cli.setting(0, "of the initial weights, the rows held out and the order of minibatches")
    memory: float | None = cli.setting(
        None, "GB of memory that reading, and then training, may take at once (default: 4, and then what is free)"
    )

    def __post_init__(self):
        cli.check(self.data or self.resume, "--data", "files or directories of data, or tfds:NAME", "nothing")
        size = self.image_size
        cli.check(
            size is None or (len(size) <= 2 and min(size) >= 1), "--image-size", "one or two numbers from 1", size
        )
        cli.check(not (self.columns and self.ignore), "--ignore", "no --columns beside it", " ".join(self.columns))
        cli.check(self.labels or self.resume or not self.joint, "--joint", "--labels beside it", "none")
        cli.check(self.labels not in self.columns, "--columns", "others than --labels", self.labels)
        shape = self.image_shape
        right = shape is None or (len(shape) in (2, 3) and min(shape) >= 1 and shape[2:] in ((), (1,), (3,)))
        cli.check(right, "--image-shape", "height and width, and 3 for colour", shape)
        cli.check(not (shape and self.drop), "--drop", "no --image-shape beside it", " ".join(map(str, shape or ())))
        cli.check_autoencoder(self)
        methods.check(self, ("kl",), ("rho", "beta", "weight_decay"))
        cli.check(0 < (self.memory or 1) < math.inf, "--memory", "a finite number of GB above 0", self.memory)


cli.prepare(__name__, Config, PROGRAM, __doc__)

import keras
import numpy as np

import keras_sae
from keras_sae import visualization
from keras_sae.anomalies import UsualErrors
from keras_sae.data import readers
from keras_sae.data.containers import spread
from keras_sae.data.preprocessing import fit_preprocessing
from keras_sae.errors import InputError
from keras_sae.stack import build_stack

from . import baselines, figures, joint, memory, schema
from .experiment import Experiment
from .parts import labelled, pick, split


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    out = cli.run_directory(config, "features")
    rows, notes = read(config)
    notes += schema.check_classes(rows, config.labels)
    fingerprint = rows.fingerprint()
    train, held_out = split(len(rows.x), config.seed, rows.y)
    notes += schema.equal_rows(rows.x, train, held_out)
    dropped = []
    if config.drop:
        rows, dropped = schema.without_constant(rows, pick(rows.x, train))
        notes += [f"left out, as they have one value in all training rows: {schema.some(dropped)}"] if dropped else []
    x = pick(rows.x, train)
    config = dataclasses.replace(config, units=config.units or (default_units(config, x.shape[1]),)).for_rows(len(x))
    notes += memory.check(memory.needed_bytes(len(x), x.shape[1], config.units, config.optimizer), config.memory)
    keras.utils.set_random_seed(config.seed)
    data = f"{rows.source}; {len(train):,} rows to train, {len(held_out):,} held out, {x.shape[1]:,} features"
    preprocessing = fit_preprocessing(x, config.contrast, config.whiten, rows.value_range)
    scaled = schema.measure(preprocessing, x)
    if not (config.contrast or config.whiten):  # which have a few values cut off in any data
        notes += schema.cut_off(scaled, len(x), rows.feature_names)
    facts = {"notes": notes, "dropped": dropped, "fingerprint": fingerprint, **schema.facts(rows, preprocessing)}
    experiment = Experiment(config, PROGRAM, "Features of your data", data, out, rows.image_shape, verbose, **facts)
    for note in notes:
        print(f"note        {note}")
    stack = untrained(config, preprocessing, scaled.half_variance, len(x))
    experiment.metrics["error_mean"] = scaled.half_variance
    known = None if rows.y is None or (rows.y < 0).any() else rows.y[train]
    rho_hat = experiment.pretrain(config, stack, x, known)
    x_held_out = pick(rows.x, held_out)
    model = stack
    measure(experiment, stack, x, x_held_out)
    examples, labels = x_held_out, None
    if rows.y is not None:
        model = stack.classifier(len(rows.class_names))
        with_labels = labelled(rows, train), labelled(rows, held_out)
        classify(experiment, config, model, *with_labels)
        random = untrained(config, preprocessing, scaled.half_variance, len(x))
        random.build((None, x.shape[1]))
        baselines.measure(experiment, config, stack, random, *with_labels)
        examples, labels = with_labels[1]
    if config.joint:
        options = config.units, len(rows.class_names), preprocessing, scaled.half_variance
        model = joint.train(experiment, *options, x, rows.y[train])
        experiment.accuracy(model, examples, labels, "accuracy_joint", "trained with the reconstruction of all rows")
    experiment.metrics["error_mean_held_out"] = schema.distance(preprocessing, x_held_out, scaled.mean)
    cautions = baselines.verdicts(experiment.metrics)
    for sentence in cautions:
        print(f"caution     {sentence}", flush=True)
    draw(experiment.directory, stack, rows, x, examples[shown(len(examples), labels)])
    steps = "L-BFGS iteration" if config.optimizer == "lbfgs" else "epoch of Adam"
    if config.sparsity == "kl":
        visualization.save_rho_hat(experiment.directory / "rho_hat.png", rho_hat, config.rho)
    pretrained = None if model is stack else stack
    facts = {"usual_errors": UsualErrors.measure(stack, x_held_out).record()}
    numbers = {"num_train": len(train), "num_held_out": len(held_out), "num_features": x.shape[1]}
    if labels is not None:
        numbers["num_labels"] = int((rows.y[train] >= 0).sum())
    return experiment.finish(model, examples, x, labels, steps, pretrained, cautions, facts, **numbers)


def read(config):
    """Return the data as Rows, and a list of notes: what was read and left out, and what may not be meant."""
    size = config.image_size
    size = size[0] if size and len(size) == 1 else size
    options = {"labels": config.labels, "feature": config.feature, "image_size": size, "color": config.color}
    options |= {"no_header": config.no_header, "names": config.columns or None, "ignore": config.ignore or None}
    options |= {"one_hot": config.one_hot, "memory": config.memory or readers.GIGABYTES}
    try:
        rows = readers.read_rows(config.data, **options)
    except InputError as error:
        raise type(error)(in_flags(str(error), options)) from error
    if len(rows.x) < 2:
        raise InputError(f"Expected two rows or more to learn from. Received: one in {rows.source}.")
    if config.image_shape:
        rows = dataclasses.replace(rows, image_shape=as_images(rows, config.image_shape))
    notes = [in_flags(note, options) for note in rows.notes]
    if rows.y is not None:
        counts = np.bincount(rows.y[rows.y >= 0])
        counts = [f"{name} {count:,}" for name, count in zip(rows.class_names, counts, strict=True)]
        notes.append(f"{len(counts):,} classes: {schema.some(counts, 20)}")
        if (rows.y < 0).any() and not config.joint:
            notes.append("--joint learns the classes from rows without labels as well")
    names = rows.feature_names or [f"number {i}" for i in range(rows.x.shape[1])]
    constant = [names[i] for i in readers.constant_columns(rows.x)]
    if len(constant) == len(names):
        lost = "".join(f" {note}" for note in notes if note.startswith("float32"))
        raise InputError(f"Expected rows that differ. Received: {rows.source}, whose rows are all the same.{lost}")
    if constant and not config.drop:
        which = f": {schema.some(constant)}" if rows.feature_names else ""
        cure = "; --drop constant leaves them out" if rows.feature_names else ""
        notes.append(f"{len(constant):,} of {len(names):,} features have one value in all rows{which}{cure}")
    counting = [names[i] for i in readers.counting_columns(rows.x)]
    if counting:
        notes.append(f"{schema.some(counting)} counts the rows, as an identifier does: --ignore it unless it is meant")
    return rows, notes


def in_flags(text, options):
    """Return a message of the readers with these options of theirs as flags of this command."""
    return cli.with_flags(text, list(options)).replace("--names", "--columns")


def as_images(rows, shape):
    """Return the shape of the images that the rows are, (height, width) or (height, width, 3)."""
    pixels, words = math.prod(shape), " ".join(map(str, shape))
    if pixels != rows.x.shape[1]:
        raise InputError(
            f"Expected rows of {pixels:,} numbers (--image-shape {words}). Received: {rows.x.shape[1]:,} in "
            f"{rows.source}. Give the height and width that they have, and 3 for colour."
        )
    return tuple(shape) if shape[2:] == (3,) else tuple(shape[:2])


def default_units(config, columns):
    usual = min(2 * columns, MOST_UNITS)
    return max(usual, 4 * config.active) if config.sparsity in methods.BY_ACTIVE else usual


def untrained(config, preprocessing, half_variance, rows):
    """Return the stack with random weights, for so many rows, on inputs that `preprocessing` takes to [0, 1]."""
    if config.sparsity != "kl":
        return keras_sae.StackedAutoencoder(methods.autoencoders(config, rows), preprocessing)
    return build_stack(config.units, half_variance, config.rho, config.beta, config.weight_decay, preprocessing)


def classify(experiment, config, classifier, train, held_out):
    """Train a softmax on the features, then the whole network; measure accuracies on the rows held out."""
    experiment.metrics["accuracy_commonest"] = float(np.mean(held_out[1] == np.bincount(train[1]).argmax()))
    experiment.train_head(config, classifier, *train)
    experiment.accuracy(classifier, *held_out, "accuracy_greedy", "pretrained features, softmax")
    experiment.fit_labels(config, classifier, "finetuned", *train)
    experiment.accuracy(classifier, *held_out, "accuracy_finetuned", "the whole network fine-tuned")


def measure(experiment, stack, x, held_out):
    """Measure half the squared error of the pretrained stack, on the training rows and on those held out."""
    for name, rows in {"train": x, "held_out": held_out}.items():
        experiment.metrics[f"error_{name}"] = keras_sae.evaluate_features(stack, rows).reconstruction_error


def shown(number, labels=None):
    """Return the indices of SHOWN of so many rows, sorted by class, in which every class has its turn.

    Without labels they are evenly spread, because files are often sorted by class.
    """
    if labels is None:
        return np.arange(number)[:: -(-number // SHOWN)]
    turn = np.zeros(number, int)  # the how manieth of its class a row is
    for name in np.unique(labels):
        turn[labels == name] = np.arange((labels == name).sum())
    first = np.lexsort((labels, turn))[:SHOWN]
    return first[np.lexsort((first, labels[first]))]


SHOWN = 16  # reconstructions


def draw(directory, stack, rows, x, held_out):
    """Write features.png, tiles of images or columns of a table by their weights, and reconstructions.png of images.

    x: training rows.  held_out: those to reconstruct.
    """
    first = stack.autoencoders[0]
    if rows.image_shape is None:
        activations = first.encode(stack.targets(spread(x, 1000).astype("float32")))
        use = figures.use_of_units(activations, first.output_layer.kernel)
        figures.save_columns(directory / "features.png", first.kernel, use, rows.feature_names)
        return
    title = f"What each of the {first.units} units of layer 1 looks for"
    visualization.save_features(directory / "features.png", first.kernel, title, rows.image_shape)
    held_out = held_out.astype("float32")
    pictures = {"input": stack.targets(held_out), "stack": stack(held_out)}
    title = "Rows held out, as preprocessed, and as the stack gives them back"
    visualization.save_reconstructions(directory / "reconstructions.png", pictures, title, rows.image_shape)


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
