"""Methods of sparsity side by side: what codes of so many active units keep of the data, and of its classes.

Each method of `keras_sae.sparsity` trains at several strengths and widths, which share each minibatch, and from several
seeds, all on the same rows for as many steps, by Adam at one learning rate, the last fifth at a tenth of it. A sixth of
the training rows, drawn at random, is held out. Measured on them are: active units of an example (L0), the variance
that is explained, dead units, and the accuracy of a softmax on the codes, whose weight decay they choose. That accuracy
is measured on the test rows too, by which nothing is chosen.

  python -m train.compare_sparsity                  the embedded digits, some minutes
  python -m train.compare_sparsity --data DIR --dataset mnist --seeds 0 1 2
  python -m train.compare_sparsity --methods top_k l1 --active 16 --data DIR
"""

import dataclasses

from . import cli
from .methods import METHODS, RATE, autoencoder_of

PROGRAM = "train.compare_sparsity"


@dataclasses.dataclass(frozen=True)
class Config(cli.RunConfig):
    data: str | None = cli.setting(None, cli.IMAGE_DATA)
    dataset: str = cli.setting("mnist", "what to learn", choices=("mnist", "fashion_mnist"))
    methods: tuple[str, ...] = cli.setting(METHODS, f"of {', '.join(METHODS)}")
    active: tuple[int, ...] = cli.setting(
        (8, 16, 32), "active units of an example, which methods without such a setting are set to roughly"
    )
    units: tuple[int, ...] = cli.setting((512,), "hidden units, one number or more")
    epochs: int = cli.setting(10, "passes over the training rows")
    seeds: tuple[int, ...] = cli.setting((0,), "of the random initial weights and of the order of rows, one or more")

    @property
    def seed(self):
        """The first of the seeds."""
        return self.seeds[0]

    def __post_init__(self):
        unknown = sorted(set(self.methods) - set(METHODS))
        cli.check(not unknown, "--methods", f"some of {', '.join(METHODS)}", unknown)
        most = max(self.active)
        cli.check(1 <= min(self.active) <= most < min(self.units), "--active", "1 to --units", self.active)
        cli.check(self.epochs >= 1, "--epochs", "1 or more", self.epochs)


cli.prepare(__name__, Config, PROGRAM, __doc__)

import itertools
import json
import time
import warnings

import keras
import numpy as np

import keras_sae
from keras_sae import interruption, visualization
from keras_sae.data import datasets
from keras_sae.data.batches import predict_in_chunks
from keras_sae.evaluation.evaluate import softmax_on
from keras_sae.files import write_json
from keras_sae.monitoring.progress import progress_bar
from keras_sae.runs import model_files

from . import figures
from .experiment import Experiment

BATCH = 256
DECAYS = (1e-4, 1e-3, 1e-2)  # of the softmax
NUMBERS = ("l0", "explained_variance", "dead_units", "accuracy_held_out", "accuracy")


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    out = cli.run_directory(config, "compare_sparsity")
    images = shuffled(datasets.load_images(config.dataset, config.data))
    held_out = len(images.x_train) // 6
    numbers = {"num_train": len(images.x_train) - held_out, "num_held_out": held_out, "num_test": len(images.x_test)}
    data = f"{images.source}; {numbers['num_train']:,} to train, {held_out:,} held out, {numbers['num_test']:,} to test"
    title = f"Methods of sparsity on {config.dataset}"
    experiment = Experiment.on_images(config, PROGRAM, title, data, out, images, 0)
    results = Results(experiment.directory)
    sweeps = list(itertools.product(config.seeds, config.methods))
    bar = progress_bar("sweeps", len(sweeps), disable=not verbose)
    for seed, method in sweeps:
        interruption.check()
        bar.set_postfix_str(f"{method}, seed {seed}")
        settings = {f"{method}_{u}_{a}_{seed}": (method, u, a, seed) for u in config.units for a in config.active}
        missing = {name: setting for name, setting in settings.items() if name not in results.found}
        if missing:
            checkpoint = experiment.checkpoints / f"{method}_{seed}.npz"
            began = time.perf_counter()
            sweep = train(config, images.x_train[:-held_out], checkpoint, settings)
            seconds = round((time.perf_counter() - began) / len(settings), 1)
            for autoencoder in sweep.autoencoders:
                if autoencoder.name in missing:
                    found = {**measure(autoencoder, images, held_out), "seconds": seconds}
                    results.add(autoencoder.name, missing[autoencoder.name], found, autoencoder)
            checkpoint.unlink()
        bar.update()
    bar.close()
    rows = results.means()
    (experiment.directory / "comparison.md").write_text(table(rows))
    print(table(rows))
    widths, seeds = (", ".join(map(str, numbers)) for numbers in (config.units, config.seeds))
    subject = f"{title}, {widths} units, seeds {seeds} (bars: standard deviations)"
    figures.save_comparison(experiment.directory / "comparison.png", rows, subject)
    best = results.best_model()
    visualization.save_features(
        experiment.directory / "features.png", best.kernel, f"Features of {results.best()}", images.image_shape
    )
    metrics = {
        f"{name}_{key}": value for name, found in results.found.items() for key, value in found["numbers"].items()
    }
    experiment.metrics |= metrics
    return experiment.finish(best, images.x_test, images.x_train, images.y_test, **numbers)


def shuffled(images):
    """Return the images with their training rows in random order: the last ones may be of one class."""
    order = np.random.default_rng(0).permutation(len(images.x_train))
    return dataclasses.replace(images, x_train=images.x_train[order], y_train=images.y_train[order])


def train(config, x, checkpoint, settings):
    """Return the trained sweep of autoencoders; `settings` are (method, units, active, seed) by name."""
    autoencoders = []
    for name, (kind, units, active, seed) in settings.items():
        keras.utils.set_random_seed(seed)
        autoencoders.append(autoencoder_of(kind, active, units, name, config.epochs * len(x)))
        autoencoders[-1].build((None, x.shape[1]))
    steps = config.epochs * -(-len(x) // BATCH)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([round(0.8 * steps)], [RATE, RATE / 10])
    options = {"batch_size": BATCH, "seed": seed, "checkpoint": checkpoint, "verbose": 0}
    watching = [keras.callbacks.LambdaCallback(on_epoch_begin=interruption.check)]
    sweep = keras_sae.Sweep(autoencoders)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "After training .* active units")  # L0 is measured and shown
        keras_sae.fit(sweep, x, None, keras.optimizers.Adam(schedule), config.epochs, callbacks=watching, **options)
    return sweep


def measure(autoencoder, images, held_out):
    """Return NUMBERS of an autoencoder, by name; the last of the training rows are those held out."""
    x, y = images.x_train, images.y_train
    report = keras_sae.evaluate_features(autoencoder, x[-held_out:])
    found = {name: float(getattr(report, name)) for name in ("l0", "explained_variance", "dead_units")}
    codes, held, test = (autoencoder.transform(rows) for rows in (x[:-held_out], x[-held_out:], images.x_test))
    accuracies = []
    for decay in DECAYS:
        softmax = softmax_on([], codes.shape[1], images.num_classes, decay)
        keras_sae.fit(softmax, codes, y[:-held_out], iterations=100, verbose=0)
        accuracies.append([right(softmax, held, y[-held_out:]), right(softmax, test, images.y_test)])
    return found | dict(zip(("accuracy_held_out", "accuracy"), max(accuracies), strict=True))


def right(softmax, x, y):
    return float((predict_in_chunks(softmax, x).argmax(axis=1) == y).mean())


class Results:
    """What was measured, in results.json, and the model whose codes tell held-out rows apart best, in best.keras."""

    def __init__(self, directory):
        self.path, self.model = directory / "results.json", directory / "checkpoints" / "best.keras"
        self.found = json.loads(self.path.read_text()) if self.path.exists() else {}

    def add(self, name, setting, numbers, autoencoder):
        """Keep the numbers of a training; of the best one its model as well, which is written first."""
        if not self.found or numbers["accuracy_held_out"] > self.found[self.best()]["numbers"]["accuracy_held_out"]:
            model_files.save_model(autoencoder, self.model)
        setting = dict(zip(("method", "units", "active", "seed"), setting, strict=True))
        self.found[name] = {**setting, "numbers": numbers}
        write_json(self.path, self.found)

    def best(self):
        """Return the name of the training with the highest accuracy on held-out rows."""
        return max(self.found, key=lambda name: self.found[name]["numbers"]["accuracy_held_out"])

    def best_model(self):
        return model_files.load_model(self.model)

    def means(self):
        """Return rows (method, units, active, means by name, spreads by name) over seeds, method by method."""
        groups = {}
        for found in self.found.values():
            groups.setdefault((found["method"], found["units"], found["active"]), []).append(found["numbers"])
        rows = []
        for setting, numbers in sorted(groups.items(), key=lambda item: (METHODS.index(item[0][0]), *item[0][1:])):
            values = {name: [number[name] for number in numbers] for name in NUMBERS}
            means = {name: float(np.mean(value)) for name, value in values.items()}
            rows.append((*setting, means, {name: float(np.std(value)) for name, value in values.items()}))
        return rows


def table(rows):
    """Return the means and their spreads over seeds as a table in Markdown."""
    lines = ["| method | units | set to | L0 | variance explained | dead units | accuracy, held out | accuracy, test |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for method, units, active, means, spreads in rows:
        cells = [f"{means['l0']:.1f}"]
        cells += [
            f"{means['explained_variance']:.4f} ± {spreads['explained_variance']:.4f}",
            f"{means['dead_units']:.0f}",
        ]
        cells += [f"{means[name]:.2%} ± {spreads[name]:.2%}" for name in ("accuracy_held_out", "accuracy")]
        lines.append(f"| {' | '.join([method, str(units), str(active), *cells])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
