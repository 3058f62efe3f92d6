"""The sections of `python -m benchmarks`: what each has its contenders compute, and on how much."""

import dataclasses
import importlib.util
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

OURS = "benchmarks.contenders.keras_sae_form"
FORMS = {
    "NumPy": ("numpy_form", {}),
    "PyTorch": ("pytorch_form", {}),
    "PyTorch compiled": ("pytorch_form", {"compiled": True}),
    "JAX": ("jax_form", {}),
    "keras_sae": ("keras_sae_form", {}),
}
PATIENCE = 4  # times the iterations of L-BFGS: how many epochs or iterations others may take to reach its J
ADAM_EPOCHS = 5  # before L-BFGS
ROWS_ENCODED = (1, 1024)


@dataclasses.dataclass(frozen=True)
class Case:
    """A table: what `side_by_side.measure` takes.

    per_row: whether the seconds are of one row.  sizes: by the names of jobs, to which an exponent is fitted.  beside:
    names of jobs -> those of the jobs whose time theirs is compared with.
    """

    title: str
    jobs: dict
    per_row: bool = False
    sizes: dict = dataclasses.field(default_factory=dict)
    beside: dict = dataclasses.field(default_factory=dict)

    def exponent(self, found):
        """Return e of seconds ~ size^e by least squares of the logarithms, or None if fewer than two were measured."""
        points = [
            (math.log(size), math.log(found[name]["seconds"]))
            for name, size in self.sizes.items()
            if "error" not in found[name]
        ]
        return float(np.polyfit(*zip(*points, strict=True), 1)[0]) if len(points) > 1 else None


def objective(options, x):
    """Yield the jobs of one objective and gradient of all rows."""
    for units in options.units:
        jobs = {}
        for name, module, precision, more in contenders(options):
            arguments = {"x": x, "units": units, "precision": precision, **more}
            jobs[f"{name} {precision}"] = (module, "objective", arguments)
        for precision in options.precisions:
            sizes = {"rows": options.rows, "features": options.features, "units": units, "precision": precision}
            jobs[f"products alone, keras_sae {precision}"] = (OURS, "product", sizes)
            jobs[f"products alone, PyTorch {precision}"] = ("benchmarks.contenders.pytorch_form", "product", sizes)
        yield Case(f"one objective and gradient, {options.rows:,} x {options.features}-{units:,}", jobs)


def epoch(options, x):
    """Yield the jobs of one epoch of Adam on minibatches."""
    for units in options.units:
        for size in options.batch_sizes:
            jobs = {}
            for name, module, precision, more in contenders(options):
                if name != "NumPy":
                    more = {option: value for option, value in more.items() if option != "chunk_size"}
                    arguments = {"x": x, "units": units, "batch_size": size, "precision": precision, **more}
                    jobs[f"{name} {precision}"] = (module, "epoch", arguments)
            yield Case(f"an epoch, {options.rows:,} x {options.features}-{units:,}, batches of {size:,}", jobs)


def exactness(options, x):
    """Yield the jobs that compare gradients with NumPy's in float64."""
    for units in options.units:
        jobs = {}
        for precision in options.precisions:
            arguments = {"x": x, "units": units, "precision": precision}
            jobs[f"keras_sae {precision}"] = (OURS, "exactness", arguments)
        yield Case(f"largest relative error of a gradient, {options.rows:,} x {options.features}-{units:,}", jobs)


def training(options, x):
    """Yield the jobs of some iterations of L-BFGS."""
    for units in options.units:
        jobs = {}
        for name, module, precision, more in contenders(options):
            if name == "keras_sae":
                arguments = {"x": x, "units": units, "iterations": options.iterations, "precision": precision, **more}
                jobs[f"{name} {precision}"] = (module, "training", arguments)
        yield Case(f"{options.iterations} iterations of L-BFGS, {options.rows:,} x {options.features}-{units:,}", jobs)


def reach(options, x):
    """Yield the jobs of trainings until J is what L-BFGS has after some iterations."""
    patience = PATIENCE * options.iterations
    ways = {
        "L-BFGS": {"epochs": 0, "then": patience},
        "Adam, batches of 256": {"epochs": patience, "then": 0},
        f"{ADAM_EPOCHS} epochs of Adam, then L-BFGS": {"epochs": ADAM_EPOCHS, "then": patience},
    }
    for units in options.units:
        shared = {"x": x, "units": units, "iterations": options.iterations}
        jobs = {name: (OURS, "reach", {**shared, **way}) for name, way in ways.items()}
        size = f"{options.rows:,} x {options.features}-{units:,}"
        yield Case(f"until J is what {options.iterations} iterations of L-BFGS give, {size}", jobs)


def tensorboard(options, x):
    """Yield the jobs of trainings with and without what TensorBoard shows of them."""
    for units in options.units:
        jobs, beside = {}, {}
        for optimizer, name in {"lbfgs": "L-BFGS", "adam": "Adam, batches of 256"}.items():
            shared = {"x": x, "units": units, "optimizer": optimizer, "iterations": options.iterations}
            beside[f"{name}, TensorBoard"] = name
            jobs[name] = (OURS, "watched", {**shared, "board": False})
            jobs[f"{name}, TensorBoard"] = (OURS, "watched", {**shared, "board": True})
        size = f"{options.rows:,} x {options.features}-{units:,}"
        yield Case(f"{options.iterations} iterations or epochs, {size}", jobs, beside=beside)


def encode(options, x):
    """Yield the jobs of encoding rows by Keras and by the files that are made for other programs."""
    module = "benchmarks.contenders.encoders"
    for units in options.units:
        with tempfile.TemporaryDirectory() as folder:
            files = export(options.features, units, pathlib.Path(folder))
            for number in ROWS_ENCODED:
                arguments = {"x": x, "units": units, "number": number}
                jobs = {
                    "keras_sae, transform(x)": (module, "by_transform", arguments),
                    "Keras, encoder(x)": (module, "in_keras", arguments),
                }
                for kind, path in files.items():
                    jobs[kind] = (module, "exported", {**arguments, "kind": kind, "path": path})
                rows = f"{number:,} row{'s' if number > 1 else ''}"
                yield Case(f"encoding {rows} a call, {options.features}-{units:,}", jobs, per_row=True)


def export(features, units, folder):
    """Save an autoencoder and have `python -m export` write its files. Return their paths, by format."""
    import keras_sae
    from benchmarks.contenders.keras_sae_form import autoencoder
    from benchmarks.extraction import FILES

    keras_sae.save(autoencoder(features, units), folder / "run")
    formats = ["saved_model", "litert", *(["onnx"] if importlib.util.find_spec("tf2onnx") else [])]
    command = [sys.executable, "-m", "export", str(folder / "run"), "--out", str(folder / "export"), "--to", *formats]
    done = subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "tensorflow"}, capture_output=True, text=True)
    if done.returncode:  # without TensorFlow; the rows of these files then say that there are none
        print(done.stderr)
    return {kind: str(folder / "export" / name) for kind, name in FILES.items()}


def growth(options, x):
    """Yield the jobs of an objective of ours for three numbers of rows, of units and of layers."""
    few, many = min(options.units), max(options.units)
    cases = {
        "rows": [{"rows": options.rows // part, "units": few} for part in (4, 2, 1)],
        "units": [{"rows": options.rows, "units": many // part} for part in (4, 2, 1)],
        "layers": [{"rows": options.rows, "units": few, "layers": layers} for layers in (1, 2, 4)],
    }
    for what, sizes in cases.items():
        names = {f"{what}: {size[what]:,}": size for size in sizes}
        jobs = {name: (OURS, "objective", {"x": x, **size}) for name, size in names.items()}
        fixed = {"rows": options.rows, "units": few, **sizes[-1]}
        title = f"one objective and gradient, up to {fixed['rows']:,} x {options.features}-{fixed['units']:,}"
        yield Case(f"{title}, by {what}", jobs, sizes={name: size[what] for name, size in names.items()})


def contenders(options):
    """Yield (name, module, precision, other arguments) of each contender."""
    for name in options.forms:
        module, more = FORMS[name]
        if name == "keras_sae" and options.chunk_size:
            more = {"chunk_size": options.chunk_size}
        for precision in ["float64"] if name == "NumPy" else options.precisions:
            yield name, f"benchmarks.contenders.{module}", precision, more


SECTIONS = {
    "exactness": exactness, "objective": objective, "epoch": epoch, "training": training, "reach": reach,
    "tensorboard": tensorboard, "encode": encode, "growth": growth,
}  # fmt: skip
