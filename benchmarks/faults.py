"""What training and its files do under attack, beside the goals: hostile data, other data, kills, signals, damage.

They are attacks of `python -m benchmarks.attacks`. Each runs commands in copies of a process that has loaded the
libraries.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_sae import records

from .hostile import INPUTS
from .hostile_arrays import ROWS
from .processes import SECONDS, Ended, end, made, run, start

TRAIN = "train.features"


def left(directory: pathlib.Path) -> list[str]:
    """Return what a command left in its temporary directory, and of temporary files anywhere below."""
    return [str(path) for path in directory.rglob("*") if path.parent.name == "temporary" or ".partial" in path.name]


def begun(directory: pathlib.Path, *words: object, stage: str = "layer_1") -> tuple[int, pathlib.Path]:
    """Start a training that takes long, and return its number and run once it has trained a while."""
    run = directory / "run"
    number = start(directory, TRAIN, "--out", run, "--max-iterations", 10**6, *words)
    began = time.monotonic()
    while not list((run / "logs" / stage).glob("*")) and time.monotonic() - began < SECONDS:
        time.sleep(0.02)
    time.sleep(0.5)
    return number, run


def stop(directory: pathlib.Path, number: int, by: int = signal.SIGINT) -> Ended:
    os.kill(number, by)
    return end(directory, number)


def table(path: pathlib.Path, rows: np.ndarray = ROWS, names: str = "a,b,c,d,e") -> pathlib.Path:
    """Write rows as csv, with labels."""
    classes = np.arange(len(rows)) % 2 if rows.shape[1] == 5 else rows[:, 5]
    np.savetxt(path, np.c_[rows[:, :5], classes], delimiter=",", header=f"{names},k", comments="", fmt="%.6f")
    return path


# The attacks. Each yields lines (what, figure, goal, whether it is met).

Lines = Iterator[tuple[str, object, object, bool]]


def inputs(folder: pathlib.Path, gigabytes: float) -> Lines:
    """Data that ask for far more memory than they have bytes, or never end."""
    at_rest = run(folder, "benchmarks.attacks", "--help").megabytes
    for name, make in INPUTS.items():
        directory = pathlib.Path(tempfile.mkdtemp(dir=folder))
        words = made(make, directory, gigabytes)
        before = sorted(directory.rglob("*"))
        ended = run(directory, TRAIN, *words, "--memory", gigabytes, "--out", "run", gigabytes=gigabytes)
        written = {path.name for path in directory.rglob("*")} - {path.name for path in before}
        more, most = ended.megabytes - at_rest, 1000 * gigabytes
        met = ended.in_one_line() and written == {"stdout", "stderr", "temporary"} and more <= most
        figure = f"status {ended.status}, {len(ended.errors)} line, {max(more, 0):,.0f} MB, {ended.seconds:.1f} s"
        yield name, figure, f"status 2, 1 line, {most:,.0f} MB", met
        shutil.rmtree(directory)


def changes() -> dict[str, Callable[[pathlib.Path], object]]:
    """Return what is done to the data of a run, by its name."""
    rng = np.random.default_rng(1)
    other = ROWS.copy()
    other[17, 2] += 0.001
    classes = rng.permutation(np.arange(60) % 2)
    return {
        "a value": lambda path: table(path, other),
        "the order of rows": lambda path: table(path, ROWS[rng.permutation(60)]),
        "labels": lambda path: table(path, np.c_[ROWS, classes]),
        "the name of a column": lambda path: table(path, names="a,b,c,d,f"),
        "two columns": lambda path: table(path, ROWS[:, [1, 0, 2, 3, 4]]),
        "a row more": lambda path: table(path, ROWS[[*range(60), 0]]),
        "all": lambda path: table(path, rng.normal(size=(60, 5))),
    }


def resume(folder: pathlib.Path, gigabytes: float) -> Lines:
    """A run that was stopped, on other data under the same name."""
    for optimizer in ("lbfgs", "adam"):
        directory = folder / optimizer
        directory.mkdir()
        path = table(directory / "x.csv")
        stop(directory, begun(directory, "--data", path, "--labels", "k", "--optimizer", optimizer)[0])
        refused = []
        for name, change in changes().items():
            change(path)
            ended = run(directory, TRAIN, "--resume", "run")
            refused += [name] * (ended.in_one_line() and "Expected the data that the run had" in ended.errors[0])
        yield f"other data, {optimizer}", f"{len(refused)} refused", len(changes()), len(refused) == len(changes())


def checkpoint(folder: pathlib.Path, gigabytes: float) -> Lines:
    """Checkpoints with a fault: read in this process, as many times as that is quick."""
    from keras_sae.errors import InputError
    from keras_sae.training import checkpoints

    path, rng, arrays = folder / "stage.npz", random.Random(1), {"weights": [ROWS, ROWS[:, 0]]}
    checkpoints.write(path, arrays, epoch=3)
    content, silent, traces = path.read_bytes(), 0, 0
    for _ in range(3000):
        at, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        kinds = [content[:at], content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :], content[at:]]
        path.write_bytes(rng.choice(kinds))
        try:
            found, record = checkpoints.read(path) or ({}, {})
            same = record == {"epoch": 3} and np.array_equal(found["weights"][0], ROWS)
            silent += not (same and np.array_equal(found["weights"][1], ROWS[:, 0]))
        except InputError:
            pass
        except Exception:
            traces += 1
    yield "damaged checkpoints, of 3,000", f"{silent} read as others, {traces} traces", "0, 0", not silent + traces


def links(folder: pathlib.Path, gigabytes: float) -> Lines:
    """Directories of images with links that go round, up and out."""
    from PIL import Image

    from keras_sae.data import readers

    (folder / "images" / "a").mkdir(parents=True)
    for i, rows in enumerate(np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype="uint8")):
        Image.fromarray(rows).save(folder / "images" / "a" / f"{i}.png")
    for name, target in {"again": ".", "once more": ".", "a/up": "..", "a/out": "/", "b.png": "a/1.png"}.items():
        (folder / "images" / name).symlink_to(target)
    for data in (folder / "images", folder / "images" / "**" / "*.png"):
        began = time.monotonic()
        found = len(readers.read_rows(data).x)
        seconds = time.monotonic() - began
        yield f"links in {data.name}", f"{found} rows of 40, {seconds:.1f} s", 40, found == 40


def signals(folder: pathlib.Path, gigabytes: float) -> Lines:
    """Signals that ask for an end, and a kill, after which the next start tidies up."""
    path = table(folder / "x.csv")
    for by in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        number, place = begun(folder, "--data", path)
        status = stop(folder, number, by).status
        if by == signal.SIGKILL:
            resumed = start(folder, TRAIN, "--resume", place)
            time.sleep(15)
            stop(folder, resumed)
        saved, kept = [*place.glob("checkpoints/*.npz")], left(folder)
        expected = -by if by == signal.SIGKILL else 128 + by
        figure = f"status {status}, {len(saved)} checkpoint, {len(kept)} temporary files"
        met = status == expected and bool(saved) and not kept
        yield by.name, figure, f"status {expected}, 1 checkpoint, 0 temporary files", met
        shutil.rmtree(place)


def lock(folder: pathlib.Path, gigabytes: float) -> Lines:
    """A second process on a run that is trained, and a run whose directory goes away."""
    number, place = begun(folder, "--data", table(folder / "x.csv"))
    second = folder / "second"
    second.mkdir()
    ended = run(second, TRAIN, "--resume", place)
    named = ended.in_one_line() and f"process {number} " in ended.errors[0]
    yield "a second --resume", f"names process: {named}, {ended.seconds:.1f} s", "names process: True", named
    shutil.rmtree(place)
    ended = end(folder, number, 60)
    yield "its directory removed", f"status {ended.status}", "status 2", ended.status == 2
    (place / "checkpoints").mkdir(parents=True)
    (place / ".run-killed.partial.json").write_text("{")
    words = [TRAIN, "--data", "x.csv", "--out", "run", "--max-iterations", 2]
    ended = run(folder, *words)
    met = ended.status == 0 and not left(folder)
    yield (
        "killed before its record is in place",
        f"status {ended.status}, {len(left(folder))} left",
        "status 0, 0 left",
        met,
    )


def damage(folder: pathlib.Path, gigabytes: float) -> Lines:
    """Records of runs that are no such records."""
    number, place = begun(folder, "--data", table(folder / "x.csv"))
    stop(folder, number)
    record = place / records.RECORD
    content = json.loads(record.read_text())
    odd: list[Any] = [[], {"settings": 3}, {"program": None}, {"fingerprint": []}, {"data": {}}, {"command": 1}]
    settings = [{"units": "a"}, {"units": ["a"]}, {"seed": "x"}, {"seed": -1}, {"data": 3}, {"optimizer": "sgd"}]
    settings += [{"max_iterations": "many"}, {"rho": None}, {"image_size": "a"}, {"memory": "a"}, {"out": 3}]
    odd += [{**content, "settings": content["settings"] | setting} for setting in settings]
    texts = [json.dumps({**content, **one} if isinstance(one, dict) else one) for one in odd]
    texts += ["", "[" * 10**5, record.read_text()[:100], "\0", json.dumps(content).replace("5", "NaN")]
    told = 0
    for text in texts:
        record.write_text(text)
        ended = run(folder, TRAIN, "--resume", "run")
        told += ended.in_one_line()
        if not ended.in_one_line():
            print(f"    {text[:300]}: status {ended.status}: {ended.errors[-1:]}")
    yield "damaged records", f"{told} of {len(texts)} in one line", len(texts), told == len(texts)


ATTACKS = {attack.__name__: attack for attack in (inputs, resume, checkpoint, links, signals, lock, damage)}


def attack(names: list[str], options: argparse.Namespace) -> bool:
    """Print what these of ATTACKS do beside their goals. Return whether all goals are met."""

    all_met = True
    print("| attack | figure | goal | met |\n|---|---|---|---|", flush=True)
    for name in names:
        folder = pathlib.Path(tempfile.mkdtemp())  # not one that a copy of this process removes at its end
        try:
            for what, figure, goal, met in ATTACKS[name](folder, options.gigabytes):
                all_met &= met
                print(f"| {what} | {figure} | {goal} | {'yes' if met else 'NO'} |", flush=True)
        finally:
            shutil.rmtree(folder)
    return all_met
