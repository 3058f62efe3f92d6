"""Run directories: where a training run lives, what the zoo holds, what export reads.

RUN/config.json   how the model was made: enough to repeat the run
RUN/metrics.json  measured numbers, flat names -> numbers
RUN/model.keras   the trained model
RUN/README.md     the card, rendered from the two JSON files
RUN/*.png, RUN/logs/ (TensorBoard), RUN/checkpoints/ (finished stages), RUN/examples.npz (held-out inputs) and
RUN/calibration.npz (training inputs), which exports need, if any
"""

import contextlib
import importlib.metadata
import json
import pathlib
import platform
import zipfile

import keras
import numpy as np

from . import stack  # noqa: F401, registers with Keras every class that the model of a run is made of
from .errors import InputError
from .files import check_space, write_aside, write_json

NEEDED = 100 * 10**6  # bytes of free disk for a run's checkpoints and pictures


def start(directory, config):
    """Create a run directory and write its config.json. Returns its path.

    Raises:
        InputError: the directory holds another run or other files, or cannot be written to, or its disk is full.
    """
    directory = pathlib.Path(directory)
    check_free(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        check_space(directory, NEEDED)  # before anything is written, so that the folder can be used later
        (directory / "checkpoints").mkdir()
        write_json(directory / "config.json", {**config, "versions": versions()})
    except OSError as error:
        raise InputError(
            f"Expected a folder that can be written to. Received: {directory} ({error.strerror})."
        ) from error
    return directory


def unfinished(directory):
    """config.json of a run that was stopped before its end, a dict. Raises InputError if there is no such run."""
    directory = pathlib.Path(directory)
    if (directory / "model.keras").exists():
        raise InputError(
            f"Expected a run that was stopped. Received: {directory}, which is finished: see its README.md."
        )
    try:
        recorded = read_config(directory)
        if not isinstance(recorded, dict):
            raise ValueError("it is not as runs write it")
        return recorded
    except FileNotFoundError:
        raise InputError(
            f"Expected the folder of a run that was stopped. Received: {directory}, which has no config.json: nothing "
            "was trained there. Start it with --out instead."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"Expected a run to go on with. Received: {directory}, whose config.json: {error}") from error


def go_on(directory, config):
    """What has changed since a run was stopped that is to go on with this `config`: names of packages, by version.

    Raises:
        InputError: there is no such run, or it has other data.
    """
    recorded = unfinished(directory)
    if recorded.get("data") != config.get("data"):
        raise InputError(
            f"Expected the data that the run had: {recorded.get('data')}. Received: {config.get('data')}. Give it the "
            "same, or start a new run."
        )
    return [name for name, version in versions().items() if recorded.get("versions", {}).get(name) != version]


def check_free(directory):
    """Raise InputError unless the directory can take a new run: it does not exist yet, or is an empty folder."""
    directory = pathlib.Path(directory)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"Expected a folder for the run. Received: {directory}, which is a file.")
    if directory.is_dir() and any(directory.iterdir()):
        what = "holds another run" if (directory / "config.json").exists() else "is not empty"
        raise InputError(
            f"Expected a new or empty folder for the run. Received: {directory}, which {what}. Nothing was changed. "
            "Choose another --out, or remove that folder."
        )


def save(model, directory, config=None, metrics=None):
    """Write a trained model as a run directory: model.keras, config.json, metrics.json and the card README.md.

    Args:
        model: an autoencoder, a stack or a classifier.
        directory: a new or empty folder, or a run that `start` began and that has no model yet.
        config: dict of what is needed to repeat the run; by default what `start` wrote, or the model's own config.
        metrics: dict of measured numbers.

    Raises:
        InputError: the directory holds another finished run or other files.
    """
    directory = pathlib.Path(directory)
    if (directory / "model.keras").exists() or not (directory / "config.json").exists():
        check_free(directory)
    if config is not None or not (directory / "config.json").exists():
        start(directory, config or {"model": keras.saving.serialize_keras_object(model)})
    write_json(directory / "metrics.json", metrics or {})
    with write_aside(directory / "README.md") as path:
        path.write_text(card(directory))
    save_model(model, directory / "model.keras")  # last: a run with a model is a finished run


def load(directory):
    """The trained model of a run directory: an autoencoder, a stack or a classifier, a keras.Model.

    Raises:
        InputError: not a run directory, or an unfinished one.
    """
    directory = pathlib.Path(directory)
    path = directory / "model.keras"
    if not path.is_file() or not (directory / "config.json").is_file():
        raise InputError(
            f"Expected a run directory, with config.json and model.keras. Received: {_described(directory)}"
        )
    try:
        model = keras.saving.load_model(path, compile=False)
        with zipfile.ZipFile(path) as archive:
            compile_config = json.loads(archive.read("config.json")).get("compile_config")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"Expected a model that Keras can read. Received: {path}, which it cannot: {error}") from error
    if compile_config:
        model.compile_from_config(compile_config)  # the loss and metrics; the optimizer begins anew
    return model


def load_encoder(directory):
    """The encoder of a run directory alone, a keras.Model: (examples, features) -> (examples, units).

    Of a classifier's run it is the network below the softmax, fine-tuned if the run was.
    """
    return encoder_of(load(directory))


def encoder_of(model: "keras.Model") -> "keras.Model":
    """Return the encoder of a model as runs hold it: of a classifier, the network below its softmax."""
    return model.encoder if hasattr(model, "encoder") else model.get_layer("encoder")


def read_config(directory):
    """config.json of a run directory, a dict."""
    return json.loads((pathlib.Path(directory) / "config.json").read_text())


def save_model(model, path):
    """Write a .keras file so that the path holds a whole file or none."""
    with write_aside(path) as aside:
        model.save(aside)


def save_examples(path, x, labels=None):
    """Write inputs, (examples, features), with labels (examples,) if there are any: exports are checked on them."""
    with write_aside(path) as aside:
        np.savez_compressed(aside, x=x, **({} if labels is None else {"labels": labels}))


def load_examples(directory, name="examples.npz"):
    """Inputs of a run, (examples, features), and their labels (examples,) or None.

    name: "examples.npz", held out, to check results on; "calibration.npz", of the training set, to measure ranges on.
    """
    path = pathlib.Path(directory) / name
    if not path.is_file():
        raise InputError(
            f"Expected {path} with inputs to {'check results' if name == 'examples.npz' else 'measure ranges'} on. "
            "Received a run without it. Write one: keras_sae.runs.save_examples(path, x)."
        )
    try:
        with open(path, "rb") as file, np.load(file) as content:
            return content["x"], content.get("labels")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"Expected inputs that NumPy can read. Received: {path}, which it cannot: {error}") from error


def versions():
    """Versions of what a result depends on, name -> version."""
    names = ("keras_sae", "keras", "tensorflow", "numpy", "scipy")
    found = {"python": platform.python_version(), "backend": keras.backend.backend()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def card(directory):
    """The README.md of a run directory, Markdown, rendered from config.json and metrics.json."""
    directory = pathlib.Path(directory)
    config, metrics = read_config(directory), json.loads((directory / "metrics.json").read_text())
    lines = [f"# {config.get('title', directory.name)}", ""]
    if "command" in config:
        lines += ["Made by:", "", f"    {config['command']}", ""]
    if "data" in config:
        lines += [f"Data: {config['data']}.", ""]
    lines += ["## Use", "", "```python", "import keras_sae", ""]
    lines += [
        'model = keras_sae.load("RUN")  # this directory',
        'encoder = keras_sae.load_encoder("RUN")  # x -> features',
    ]
    lines += [
        "```",
        "",
        f"`python -m export {directory} --out DIR` writes the encoder as SavedModel and LiteRT file.",
        "",
    ]
    if metrics:
        lines += ["## Measured", "", "| number | value | what it is |", "|---|---|---|"]
        lines += [f"| {name} | {_number(value)} | {_meaning(name)} |" for name, value in metrics.items()] + [""]
    for picture in ("features", "reconstructions", "curves"):
        if (directory / f"{picture}.png").exists():
            lines += [f"![{picture}]({picture}.png)", ""]
    lines += ["## Settings", "", "| setting | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in config.get("settings", {}).items()]
    lines += [f"| version of {name} | {value} |" for name, value in config.get("versions", {}).items()]
    return "\n".join(lines) + "\n"


# What the numbers of metrics.json are, by the beginning of their names.
MEANINGS = {
    "objective": "J at the end of this stage, over the whole training set",
    "seconds": "wall-clock time",
    "rho_hat_mean": "mean activation over all units and the whole training set",
    "rho_hat_max_deviation": "distance from rho of the unit that is farthest from it",
    "dead_units": "units with a mean activation below 0.001",
    "accuracy_greedy": "test accuracy with a softmax on the pretrained features",
    "accuracy_finetuned": "test accuracy after fine-tuning the whole network",
    "accuracy_raw": "the same on raw inputs, for comparison",
    "fraction_gabor": "filters of whose variance a Gabor function explains more than 0.8",
    "gabor_explained_median": "share of a filter's variance that a Gabor function explains",
    "accuracy_commonest": "of always naming the commonest class",
    "accuracy": "of the labels of held-out examples",
    "error_mean": "half the squared error of an example, of the mean as its reconstruction",
    "error": "half the squared error of an example, of the pretrained stack",
    "mse": "mean squared error over inputs and outputs",
    "distinct_codes": "different codes when rounded to bits",
    "iterations": "batches of SGD",
    "largest_principal_angle": "between the subspaces of autoencoder and PCA, in radians",
    "reconstruction_error": "mean over examples of half the squared error",
    "pca_reconstruction_error": "the same, by as many principal components",
    "num_": "number of examples",
}


def _meaning(name):
    return next((meaning for start, meaning in MEANINGS.items() if name.startswith(start)), "")


def _number(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def _described(directory):
    if not directory.exists():
        return f"{directory}, which does not exist. Train one: python -m train.mnist --out {directory}"
    if not directory.is_dir():
        return f"{directory}, which is a file. Name the folder it is in."
    if (directory / "config.json").is_file():
        return f"{directory}, a run that did not finish. Go on with it: --resume {directory}"
    found = ", ".join(sorted(p.name for p in directory.iterdir())[:6]) or "nothing"
    return f"{directory}, a folder with: {found}. Name the --out of a training command."
