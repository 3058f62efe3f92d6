"""What the training commands do alike: begin a run, train models with bar, logs and numbers, finish the run.

Imported by each command once its flags are known to be right, because it loads Keras.
"""

import contextlib
import dataclasses
import pathlib
import time
import zlib

import keras

import keras_sae
from keras_sae import callbacks, extras, interruption, locks, metrics, runs, visualization
from keras_sae.data import containers, fingerprints
from keras_sae.data.batches import predict_in_chunks
from keras_sae.errors import MissingPackageError
from keras_sae.evaluation.evaluate import wilson_interval
from keras_sae.monitoring.event_files import EventFile
from keras_sae.reports.report import write_report
from keras_sae.sparsity import SparsityMethod
from keras_sae.training import checkpoints

from . import cli, longer, methods
from .meanings import MEANINGS

LOGS = "logs"  # of TensorBoard, in a run: a directory for each stage
LEARNING_RATE = 0.01  # of Adam at first; a tenth of it for the last fifth of the steps


def adam(steps, rate=LEARNING_RATE):
    """Return Adam with a schedule for so many steps."""
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay
    return keras.optimizers.Adam(schedule([round(0.8 * steps)], [rate, rate / 10]))


def falling_rate(rate, epochs, last_epochs):
    """Return a callback that keeps a learning rate for so many epochs, then lets it fall in a line that ends at 0."""

    def rate_of(epoch):
        return rate * min(1.0, (epochs + last_epochs - epoch) / last_epochs)

    return keras.callbacks.LearningRateScheduler(lambda epoch, _: rate_of(epoch))


class Experiment:
    """One run: its directory, and the numbers and curves of what was trained so far."""

    def __init__(self, config, program, title, data, out, tile_shape=None, verbose=1, *, fingerprint, **facts):
        """Make the run directory, which says how to repeat the run, and print where and on what training happens.

        No other process can train there until this one has finished the run, or ends.

        fingerprint: of the data, as of `fingerprints.of`: a run is resumed on the same data alone.
        facts: more for run.json, which exports use: "pixel_range" (of the inputs, 1 or 255, of runs on images) and
            "class_names".
        """
        record = {
            "title": title,
            "program": program,
            "command": cli.command(program, config),
            "data": data,
            "fingerprint": fingerprint,
            "settings": {k: v for k, v in dataclasses.asdict(config).items() if k not in cli.NO_SETTINGS},
            "device": cli.describe_device(),
            **facts,
        }
        address = getattr(config, "cluster", None)  # which not all programs have
        self.cluster = keras_sae.Cluster(None if address == "local" else address) if address else None
        self.held = contextlib.ExitStack()
        self.held.enter_context(locks.held(pathlib.Path(out), out, again=True))
        self.before = longer.finished_run(out)
        if self.before:
            record |= longer.lengthened(self.before, record)
        if tile_shape:
            record["image_shape"] = tile_shape
        if config.resume:
            self.directory, changed = pathlib.Path(out), runs.resume(out, record)
        else:
            self.directory, changed = runs.start(out, record), []
        cli.Interrupted.hint = f"Resume it: python -m {program} --resume {self.before or self.directory}"
        self.checkpoints = self.directory / "checkpoints"
        self.tile_shape, self.class_names = tile_shape, facts.get("class_names")
        self.fingerprint = fingerprint
        self.settings, self.verbose, self.seed = record["settings"], verbose, config.seed
        self.rate = methods.RATE if self.settings.get("sparsity") in methods.BY_ACTIVE else LEARNING_RATE
        self.metrics, self.histories, self.rho_hats = {}, {}, []
        self.stages = []  # rows of the table that is printed at the end
        self.began = time.perf_counter()
        self.seconds_before = 0.0  # of training, before the run was stopped
        print(f"device      {record['device']}")
        print(f"data        {data}")
        print(f"run         {self.directory}", flush=True)
        if changed:
            print(
                f"note        not the versions that it began with: {', '.join(changed)}; numbers may differ", flush=True
            )

    @classmethod
    def on_images(cls, config, program, title, data, out, images, verbose=1):
        """Return a run on `datasets.LabelledImages`, whose pixels are from 0 to 1."""
        facts = {"pixel_range": 1, "fingerprint": fingerprints.of_images(images)}
        return cls(config, program, title, data, out, images.image_shape, verbose, **facts)

    def fit(
        self, model, stage, x, y=None, optimizer="lbfgs", iterations=200, monitors=(), tile_shape=None, labels=None,
        train=keras_sae.fit, **options,
    ):  # fmt: skip
        """Train a model in place, by `iterations` of L-BFGS or epochs of a Keras optimizer. Return its History.

        A stage that an earlier process finished is not trained again, one that it began is resumed.

        tile_shape: of the rows, if they are pictures.
        labels: of rows that are trained on without, for TensorBoard.
        train: `keras_sae.fit` or `keras_sae.fit_head`, which takes the options.
        """
        watching = [keras.callbacks.LambdaCallback(on_epoch_begin=interruption.check), *monitors]
        rows = x if containers.is_array(x) else None  # a stream may have no end
        labels = labels if y is None else y
        watching += [callbacks.TensorBoard(self.directory / LOGS / stage, rows, labels, tile_shape, self.class_names)]
        watching += [callbacks.ProgressBar(f"{stage.replace('_', ' '):11}")] if self.verbose else []
        options |= {} if optimizer == "lbfgs" else {"seed": self.seed}
        # A stream of minibatches cannot be taken up where it was: such a stage starts again, to the same end.
        on_cluster = containers.is_distributed(x)
        resumable = optimizer == "lbfgs" or containers.is_array(x) or on_cluster
        if optimizer == "adam":
            options["batch_size"], number = cli.batches(x.num_rows() if on_cluster else len(x))
            optimizer = adam(iterations * number, self.rate)
        began = time.perf_counter()
        with checkpoints.of(self.fingerprint):
            history = train(
                model, x, y, optimizer, iterations, callbacks=watching, verbose=0,
                checkpoint=self.checkpoints / f"{stage}.npz" if resumable else None, **options,
            )  # fmt: skip
        seconds = history.result["seconds"]
        self.seconds_before += max(seconds - (time.perf_counter() - began), 0.0)
        name = stage.replace("_", " ")
        self.histories[name] = history.history
        numbers = {number: values[-1] for number, values in history.history.items() if values}
        self.stages.append({**numbers, "stage": name, "seconds": seconds, "accuracy": None})
        self.metrics[f"seconds_{stage}"] = round(seconds, 1)
        # What comes next must not depend on how much of this stage was trained in this process.
        keras.utils.set_random_seed(zlib.crc32(f"{self.seed} {stage}".encode()))
        return history

    def pretrain(self, config, stack, x, labels=None):
        """Train layer by layer without labels, as `config` says. Return the top rho_hat.

        labels: of x, which only TensorBoard shows.
        """
        rho_hat, iterations, weights = None, config.max_iterations, None
        if self.before:
            before, done = longer.pretrained_stack(self.before)
            iterations -= done
            weights = [autoencoder.get_weights() for autoencoder in before.autoencoders]
        for number, (autoencoder, inputs) in enumerate(stack.stages(self.rows(x), self.checkpoints)):
            if weights:
                autoencoder.set_weights(weights[number])
                if isinstance(autoencoder.sparsity, SparsityMethod):
                    autoencoder.sparsity.settle()  # what it had as the shorter training ended
            # On a cluster each minibatch knows its rho_hat.
            monitored = config.optimizer != "lbfgs" and self.cluster is None
            monitors = [callbacks.SparsityMonitor(inputs)] if monitored else []
            shape = self.tile_shape if autoencoder is stack.autoencoders[0] else None
            shown = {"tile_shape": shape, "labels": labels}
            self.fit(autoencoder, autoencoder.name, inputs, None, config.optimizer, iterations, monitors, **shown)
            rho_hat = self.measure(autoencoder, inputs, autoencoder.name)
        return rho_hat

    def rows(self, x, y=None):
        """Return x, or its rows on the cluster, if there is one, with labels y."""
        return x if self.cluster is None else self.cluster.rows(x, y)

    def train_head(self, config, classifier, x, y, stage="head"):
        """Train the softmax head on the pretrained features, which are computed once."""
        options = {"train": keras_sae.fit_head, "directory": self.checkpoints}
        self.fit_labels(config, classifier, stage, x, y, **options)

    def fit_labels(self, config, model, stage, x, y, **options):
        """Train a classifier by the optimizer of `config`; its objective at the end is a metric."""
        options |= {"tile_shape": self.tile_shape}
        x, y = (x, y) if self.cluster is None else (self.rows(x, y), None)
        self.fit(model, stage, x, y, config.optimizer, config.max_iterations, **options)
        self.metrics[f"objective_{stage}"] = keras_sae.objective(model, x, y).value

    def measure(self, autoencoder, x, stage=""):
        """Add the objective and the sparsity over all of x, exactly, to the metrics. Return rho_hat, (units,).

        stage: "layer_1", say, for several in one run: then objective_layer_1, rho_hat_mean_1 and so on.
        """
        suffix = stage.removeprefix("layer")
        if isinstance(autoencoder.sparsity, keras_sae.sparsity.SparsityMethod):
            return self._measure_codes(autoencoder, x, suffix)
        found = keras_sae.objective(autoencoder, x)
        rho_hat = found.rho_hat[0] if found.rho_hat else metrics.mean_activations(autoencoder, x)
        self.metrics["_".join(filter(None, ["objective", stage]))] = found.value
        self.metrics[f"rho_hat_mean{suffix}"] = float(rho_hat.mean())
        if isinstance(autoencoder.sparsity, keras_sae.KLSparsity):
            self.metrics[f"rho_hat_max_deviation{suffix}"] = float(abs(rho_hat - autoencoder.sparsity.rho).max())
        self.metrics[f"dead_units{suffix}"] = dead = int((rho_hat < metrics.DEAD).sum())
        print(f"sparsity    mean activation {rho_hat.mean():.4f}; {dead} of {len(rho_hat)} units dead", flush=True)
        self.rho_hats.append(rho_hat)
        self.stages[-1] |= {"loss": found.value, "rho_hat": float(rho_hat.mean())}
        return rho_hat

    def _measure_codes(self, autoencoder, x, suffix):
        """The same for a method that sets units to 0, whose objective may have no exact value."""
        report = keras_sae.evaluate_features(autoencoder, x)
        for name in ("l0", "explained_variance", "dead_units"):
            self.metrics[f"{name}{suffix}"] = getattr(report, name)
        dead = f"{report.dead_units} of {len(report.rho_hat)} units dead"
        kept = f"{report.explained_variance:.1%} of the variance explained"
        print(f"sparsity    {report.l0:.1f} units of an example active; {dead}; {kept}", flush=True)
        self.rho_hats.append(report.rho_hat)
        self.stages[-1] |= {"l0": report.l0}
        return report.rho_hat

    def accuracy(self, classifier, x, y, name, words):
        """Print the share of test rows that the classifier labels right, add it to the metrics as `name`, return it.

        Its interval becomes NAME_low and NAME_high.
        """
        accuracy = float((predict_in_chunks(classifier, x).argmax(axis=1) == y).mean())
        low, high = wilson_interval(accuracy, len(y))
        self.metrics |= {name: accuracy, f"{name}_low": low, f"{name}_high": high}
        self.stages[-1]["accuracy"] = accuracy
        interval = f"95% interval {low:.1%} to {high:.1%}"
        print(f"accuracy    {accuracy:.2%} of {len(y):,} test examples ({words}); {interval}", flush=True)
        return accuracy

    def finish(
        self, model, examples, calibration, labels=None, curves=None, pretrained=None, cautions=(), facts=None,
        **metrics,
    ):  # fmt: skip
        """Write the model, its numbers and its card; print where they are.

        examples: held-out inputs, which an export is checked on, with `labels` if there are any.
        calibration: training inputs, which an export measures the ranges of activations on.
        curves: label of the steps, to draw curves.png.
        pretrained: of a classifier, the stack as it was before the labels.
        cautions: what the numbers say against the run, sentences.
        facts: more for run.json, known once the model is trained.
        """
        if curves:
            visualization.save_curves(self.directory / "curves.png", self.histories, curves)
        self.metrics |= metrics
        self.metrics["seconds_total"] = round(self.seconds_before + time.perf_counter() - self.began, 1)
        words = {"meanings": MEANINGS, "cautions": cautions, "facts": facts}
        rows = {"examples": examples, "labels": labels, "calibration": calibration}
        runs.save(model, self.directory, metrics=self.metrics, pretrained=pretrained, **words, **rows)
        for checkpoint in self.checkpoints.glob("*.npz"):  # of stages: a finished run needs them no more
            checkpoint.unlink()
        page = self.report(model, examples, labels, curves, pretrained)
        self.held.close()
        if self.before:
            self.directory = longer.publish(self.directory)
        if self.cluster:
            self.cluster.close()
        self.compare()
        print("", *table(self.stages), sep="\n")
        pictures = sorted(path.name for path in self.directory.glob("*.png"))
        print(f"\nLook at {', '.join([*page, *pictures])} in {self.directory}, and at its card, README.md.")
        print(f"Curves as they went: tensorboard --logdir {self.directory / LOGS}")
        return self.metrics

    def compare(self):
        """Write the settings and the numbers of the run for TensorBoard's comparison of runs, HParams."""
        file = EventFile(self.directory / LOGS)
        file.hparams({k: v for k, v in self.settings.items() if k != "out" and v is not None})
        file.scalars({f"run/{name}": value for name, value in self.metrics.items()}, 0)
        file.close()

    def report(self, model, examples, labels, step, pretrained):
        """Write report.html if its packages are installed, else print how to get them. Return a list of its name."""
        try:
            extras.check_for_reports()
        except MissingPackageError as error:
            print(f"note        no report.html: {error}")
            return []
        learned = model if pretrained is None else pretrained
        classifier = None if labels is None or model is learned else model
        options = {"histories": self.histories, "rho_hats": self.rho_hats, "step": step or "iteration"}
        return [write_report(self.directory, learned, examples, labels, classifier, **options).name]


def table(stages):
    """Return the lines of a table of stages: the objective, rho_hat or L0, the accuracy and the seconds of each."""
    rows = [("stage", "objective", "sparsity", "accuracy", "seconds")] if stages else []
    for stage in stages:
        names = [("l0", "L0 {:.4g}"), ("rho_hat", "rho_hat {:.4f}")]
        sparsity = next((text.format(stage[name]) for name, text in names if name in stage), "-")
        accuracy = "-" if stage["accuracy"] is None else f"{stage['accuracy']:.2%}"
        rows.append((stage["stage"], f"{stage['loss']:.4g}", sparsity, accuracy, f"{stage['seconds']:.1f}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = (map(str.rjust, row, widths) for row in rows)
    return ["  ".join([row[0].ljust(widths[0]), *list(cells)[1:]]) for row, cells in zip(rows, aligned, strict=True)]
