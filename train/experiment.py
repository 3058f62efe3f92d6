"""What the training commands do alike: begin a run, train models with bar, logs and numbers, finish the run.

Imported by each command once its flags are known to be right, because it loads Keras.
"""

import dataclasses
import pathlib
import time
import zlib

import keras
import numpy as np

import keras_sae
from keras_sae import callbacks, runs, visualization
from keras_sae.data import batches

from . import cli
from .meanings import MEANINGS

BATCH_SIZE = 256  # of minibatch training: the batch's mean activation is then within about 0.02 of rho_hat
EXAMPLES, CALIBRATION = 1000, 200  # rows kept for exports


def iterations(config):
    """The number of iterations of a config that leaves it to the optimizer's default, for the record."""
    return {"max_iterations": config.iterations} if isinstance(config, cli.TrainingConfig) else {}


def spread(rows, number):
    """At most so many of the rows, from the first to the last at even distances: files are often sorted by class."""
    return np.asarray(rows[:: -(-len(rows) // number)])


class Experiment:
    """One run: its directory, and the numbers and curves of what was trained so far."""

    def __init__(self, config, program, title, data, out, tile_shape=None, verbose=1, **facts):
        """Make the run directory, which says how to repeat the run, and print where and on what training happens.

        facts: more for run.json, which exports use: "pixel_range" (of the inputs, 1 or 255, of runs on images) and
            "class_names".
        """
        record = {
            "title": title,
            "program": program,
            "command": cli.command(program, config),
            "data": data,
            "settings": {**dataclasses.asdict(config), **iterations(config)},
            **facts,
        }
        del record["settings"]["resume"]
        if tile_shape:
            record["image_shape"] = tile_shape
        if config.resume:
            self.directory, changed = pathlib.Path(out), runs.resume(out, record)
        else:
            self.directory, changed = runs.start(out, record), []
        cli.Interrupted.cure = f"Resume it: python -m {program} --resume {self.directory}"
        self.tile_shape, self.verbose, self.seed = tile_shape, verbose, config.seed
        self.metrics, self.histories = {}, {}
        self.began = time.perf_counter()
        self.seconds_before = 0.0  # of training, before the run was stopped
        print(f"device      {cli.describe_device()}")
        print(f"data        {data}")
        print(f"run         {self.directory}", flush=True)
        if changed:
            print(
                f"note        not the versions that it began with: {', '.join(changed)}; numbers may differ", flush=True
            )

    def fit(self, model, stage, x, y=None, optimizer="lbfgs", iterations=200, monitors=(), tile_shape=None, **options):
        """Train a model in place, by `iterations` of L-BFGS or epochs of a Keras optimizer. Returns its History.

        A stage that an earlier process finished is not trained again, one that it began goes on where it was.

        tile_shape: of the model's features, for pictures of them in TensorBoard.
        options: of `fit_lbfgs` or of Keras' `fit`.
        """
        watching = [keras.callbacks.LambdaCallback(on_epoch_begin=cli.Interrupted.check), *monitors]
        watching += [callbacks.TensorBoard(self.directory / "logs" / stage, tile_shape)]
        watching += [callbacks.ProgressBar(f"{stage.replace('_', ' '):11}")] if self.verbose else []
        options |= {"callbacks": watching, "verbose": 0}
        checkpoint, began = self.directory / "checkpoints" / f"{stage}.npz", time.perf_counter()
        if optimizer == "lbfgs":
            history = keras_sae.fit_lbfgs(model, x, y, iterations, checkpoint=checkpoint, **options)
        else:
            model.compile(optimizer=optimizer, loss=model.loss)
            if hasattr(x, "shape"):
                options |= {"epochs": iterations, "seed": self.seed, "checkpoint": checkpoint}
                history = keras_sae.fit_minibatches(model, x, y, batch_size=BATCH_SIZE, **options)
            else:
                history = model.fit(x, epochs=iterations, **options)
        now = time.perf_counter() - began
        seconds = history.params.get("seconds", now)
        self.seconds_before += max(seconds - now, 0.0)
        self.histories[stage.replace("_", " ")] = history.history
        self.metrics[f"seconds_{stage}"] = round(seconds, 1)
        # What comes next must not depend on how much of this stage was trained in this process.
        keras.utils.set_random_seed(zlib.crc32(f"{self.seed} {stage}".encode()))
        return history

    def pretrain(self, config, stack, x):
        """Greedy layer-wise pretraining without labels, by the optimizer of `config`; writes the stack at the end."""

        def fit_layer(autoencoder, inputs):
            monitors = [callbacks.SparsityMonitor(inputs)] if config.optimizer != "lbfgs" else []
            shape = self.tile_shape if autoencoder is stack.autoencoders[0] else None
            options = {"monitors": monitors, "tile_shape": shape}
            self.fit(autoencoder, autoencoder.name, inputs, None, config.optimizer, config.iterations, **options)
            self.rho_hat = self.measure(autoencoder, inputs, autoencoder.name)

        stack.pretrain(x, fit=fit_layer, directory=self.directory / "checkpoints")
        runs.save_model(stack, self.directory / "checkpoints" / "stack.keras")

    def train_head(self, config, classifier, x, y, stage="head"):
        """Softmax regression on the pretrained features, which are computed once."""
        encoder, path = classifier.get_layer("encoder"), self.directory / "checkpoints" / f"{stage}_features.npy"
        features = (
            batches.predict_in_chunks(encoder, x) if batches.in_memory(x) else batches.predict_to_file(encoder, x, path)
        )
        head = keras.Sequential([keras.Input(features.shape[1:]), classifier.get_layer("head")])
        head.compile(loss=classifier.loss)
        self.fit_labels(config, head, stage, features, y)
        path.unlink(missing_ok=True)

    def fit_labels(self, config, model, stage, x, y):
        """A classifier by the optimizer of `config`, with its objective at the end."""
        self.fit(model, stage, x, y, config.optimizer, config.iterations)
        self.metrics[f"objective_{stage}"] = keras_sae.objective(model, x, y).value

    def measure(self, autoencoder, x, stage=""):
        """The objective and the sparsity over all of x, exactly, as metrics; returns rho_hat, (units,).

        stage: "layer_1", say, for several in one run: then objective_layer_1, rho_hat_mean_1 and so on.
        """
        suffix = stage.removeprefix("layer")
        rho_hat = callbacks.mean_activations(autoencoder, x)
        self.metrics["_".join(filter(None, ["objective", stage]))] = keras_sae.objective(autoencoder, x).value
        self.metrics[f"rho_hat_mean{suffix}"] = float(rho_hat.mean())
        if hasattr(autoencoder.sparsity, "rho"):
            self.metrics[f"rho_hat_max_deviation{suffix}"] = float(abs(rho_hat - autoencoder.sparsity.rho).max())
        self.metrics[f"dead_units{suffix}"] = dead = int((rho_hat < callbacks.DEAD).sum())
        print(f"sparsity    mean activation {rho_hat.mean():.4f}; {dead} of {len(rho_hat)} units dead", flush=True)
        return rho_hat

    def accuracy(self, classifier, x, y, name, words):
        """The share of test rows that the classifier labels right, printed and added to the metrics as `name`."""
        accuracy = float((batches.predict_in_chunks(classifier, x).argmax(axis=1) == y).mean())
        self.metrics[name] = accuracy
        print(f"accuracy    {accuracy:.2%} of {len(y):,} test examples ({words})", flush=True)
        return accuracy

    def finish(self, model, examples, calibration, labels=None, curves=None, **metrics):
        """Write the model, its numbers and its card; print where they are.

        examples: held-out inputs, which an export is checked on, with `labels` if there are any.
        calibration: training inputs, which an export measures the ranges of activations on.
        curves: label of the steps, to draw curves.png.
        """
        if curves:
            visualization.save_curves(self.directory / "curves.png", self.histories, curves)
        labels = None if labels is None else spread(labels, EXAMPLES)
        runs.save_examples(self.directory / "examples.npz", spread(examples, EXAMPLES).astype("float32"), labels)
        calibration = spread(calibration, CALIBRATION).astype("float32")
        runs.save_examples(self.directory / "calibration.npz", calibration)
        self.metrics |= metrics
        self.metrics["seconds_total"] = round(self.seconds_before + time.perf_counter() - self.began, 1)
        runs.save(model, self.directory, metrics=self.metrics, meanings=MEANINGS)
        for checkpoint in self.directory.glob("checkpoints/*.npz"):  # of stages: a finished run needs them no more
            checkpoint.unlink()
        pictures = sorted(path.name for path in self.directory.glob("*.png"))
        print(f"\nLook at {', '.join(pictures)} in {self.directory}, and at its card, README.md.")
        print(f"Curves as they went: tensorboard --logdir {self.directory / 'logs'}")
        return self.metrics
