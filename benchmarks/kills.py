"""Kill a training run at random moments, resume it each time, and compare its weights with an undisturbed run's.

    python -m benchmarks.kills                    25 kills, for L-BFGS and for Adam, on the embedded digits
    python -m benchmarks.kills --kills 5 --seconds-between-checkpoints 1

SIGKILL, so nothing is tidied up. Exits with 1 unless every weight of the pretrained stack and of the classifier and
every number of metrics.json (times aside) is the same, bit for bit.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile

import numpy as np

from keras_sae import runs

TRAIN = "import sys; from keras_sae.training import checkpoints; checkpoints.SECONDS = float(sys.argv.pop(1)); "
TRAIN += "from train import cli, mnist; cli.main(mnist.Config, mnist.run, mnist.PROGRAM, mnist.__doc__)"
SETTINGS = {
    "lbfgs": ["--units", "64", "36", "--max-iterations", "80"],
    "adam": ["--units", "64", "36", "--max-iterations", "40", "--optimizer", "adam"],
    "lbfgs, denoising": ["--units", "64", "36", "--max-iterations", "80", "--corruption", "0.25", "--beta", "0"],
    "adam, denoising": [
        *("--units", "64", "36", "--max-iterations", "40", "--optimizer", "adam"),
        *("--corruption", "0.25", "--noise", "gaussian", "--beta", "0"),
    ],
}


def main():
    parser = argparse.ArgumentParser(prog="benchmarks.kills", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=25, help="in all, shared among the variants (default: 25)")
    parser.add_argument("--seconds-between-checkpoints", type=float, default=1.0, help="20 in normal use (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    left, differing = arguments.kills, []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, settings) in enumerate(SETTINGS.items()):
            kills = left // (len(SETTINGS) - number)
            left -= kills
            settings = [str(arguments.seconds_between_checkpoints), *settings]
            undisturbed = pathlib.Path(folder, f"{number}-undisturbed")
            train(undisturbed, settings)
            seconds = json.loads((undisturbed / "metrics.json").read_text())["seconds_total"]
            stages, different = kill_again_and_again(undisturbed, settings, kills, seconds, moments)
            differing += different
            verdict = "the same weights and numbers" if not different else f"DIFFERENT: {', '.join(different)}"
            print(f"{name}: {kills} kills, in {', '.join(stages)}: {verdict}", flush=True)
    sys.exit(bool(differing))


def kill_again_and_again(undisturbed, settings, kills, seconds, moments):
    """Runs killed and resumed, `kills` times in all; returns where the kills fell, and what differed at the end."""
    stages, different, run = [], [], 0
    while len(stages) < kills:
        out = undisturbed.with_name(f"{undisturbed.name}-killed-{run}")
        # On average the kills come at even distances, so that they fall in every stage.
        stage = train(out, settings, moments.uniform(0, 2 * seconds / kills))
        if stage is not None:
            stages.append(stage)
        if stage is None or len(stages) == kills:
            train(out, settings)
            different += differences(undisturbed, out)
            run += 1
    return stages, different


def train(out, settings, kill_after=None):
    """Start or resume the run; returns the stage in which it was killed, or None if it has ended by itself."""
    if (out / "model.keras").exists():
        return None
    every, *flags = settings
    flags = ["--resume", str(out)] if runs.is_run(out) else ["--data", "embedded", "--out", str(out), *flags]
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, every, *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    while (line := process.stdout.readline()) and not line.startswith("run"):  # printed when training is to begin
        pass
    try:
        process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        written = sorted(out.glob("checkpoints/*.npz"), key=lambda path: path.stat().st_mtime)
        return written[-1].stem if written else "the start"
    if process.returncode:
        raise SystemExit(f"training failed: see {sys.executable} -m train.mnist {' '.join(flags)}")
    return None


def differences(one, other):
    """Names of the weights and numbers in which two finished runs differ."""
    import keras_sae

    found = []
    for name, load in {"classifier": keras_sae.load, "stack": keras_sae.runs.load_pretrained}.items():
        weights = [model.get_weights() for model in (load(one), load(other))]
        found += [f"{name} {i}" for i, pair in enumerate(zip(*weights, strict=True)) if not np.array_equal(*pair)]
    numbers = [json.loads((run / "metrics.json").read_text()) for run in (one, other)]
    names = {name for record in numbers for name in record if not name.startswith("seconds")}
    return found + sorted(name for name in names if numbers[0].get(name) != numbers[1].get(name))


if __name__ == "__main__":
    main()
