"""Seconds until the library answers: its import beside that of Keras, every --help, and the first step of a training.

Each is a process of its own; imports are measured in turns, so that the drift of the machine's speed meets both.

  python -m benchmarks.startup --data DIR        DIR holds the four IDX files of MNIST; four minutes where Keras takes
                                                 ten seconds to load
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

FIRST_STEP = "layer 1"  # of python -m train.mnist, whose bar is full after one iteration


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded", help="folder with IDX files (default: the 5,000 embedded digits)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; the median is shown (default: %(default)s)")
    options = parser.parse_args()
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    print("| what | seconds | least to most | goal |\n|---|---|---|---|")
    code = {name: [sys.executable, "-c", f"import {name}"] for name in ("keras", "keras_sae", "keras, keras_sae")}
    rounds = [{name: seconds(command) for name, command in code.items()} for _ in range(options.repeats)]
    for name in code:
        row(f"import {name}", [found[name] for found in rounds])
    added = [found["keras, keras_sae"] - found["keras"] for found in rounds]
    row("what keras_sae adds to import keras", added, 0.2)
    helps = {" ".join(words): [seconds([*words, "--help"]) for _ in range(options.repeats)] for words in commands()}
    slowest = max(helps, key=lambda name: statistics.median(helps[name]))
    row(f"the slowest --help of {len(helps)}: {slowest.replace(sys.executable, 'python')}", helps[slowest], 0.3)
    row("first step of train.mnist", [first_step(options.data) for _ in range(options.repeats)], 8)


def row(what, found, goal=""):
    print(f"| {what} | {statistics.median(found):.2f} | {min(found):.2f} to {max(found):.2f} | {goal} |", flush=True)


def commands():
    """Return the words of every command that has a --help."""
    from keras_sae.__main__ import MODULES, list_experiments

    modules = [*(f"train.{name}" for name in list_experiments()), *MODULES.values()]
    groups = [[], ["train"], ["compare"], ["models"], ["models", "publish"]]
    python = [sys.executable, "-m"]
    return [[*python, module] for module in modules] + [[*python, "keras_sae", *words] for words in groups]


def seconds(command):
    """Return how long a command takes."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def first_step(data):
    """Return the seconds from the start of the command to the end of its first iteration."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "train.mnist", "--data", data, "--out", f"{folder}/run"]
        began = time.perf_counter()
        with subprocess.Popen(
            [*command, "--max-iterations", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            for line in process.stderr:
                if line.startswith(FIRST_STEP) and "100%" in line:
                    found = time.perf_counter() - began
                    process.kill()
                    return found
    raise SystemExit(f"benchmarks.startup: expected a line of the bar of {FIRST_STEP}. Received: none.")


if __name__ == "__main__":
    main()
