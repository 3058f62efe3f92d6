"""The exact objective over the actors of a Ray cluster on this machine, beside the same without one.

    python -m benchmarks.cluster                      600,000 rows of 784-200, 0.5 GB on disk, deleted at the end
    python -m benchmarks.cluster --rows 60000 --repeats 3

Each measurement is a process of its own, on one thread a worker: one evaluation of J and its gradient, the median of
some; what it sends; and how long one takes whose actor was killed. Then a model of larger clusters on paper, from these
figures: --bandwidth and --latency say what network it has.
"""

import argparse
import json
import os
import pathlib
import pickle
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks.streaming import write_rows

FEATURES, UNITS = 784, 200
PARAMETERS = 2 * FEATURES * UNITS + FEATURES + UNITS
SHARDS = 16


def main():
    parser = argparse.ArgumentParser(prog="benchmarks.cluster", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=600_000)
    parser.add_argument("--repeats", type=int, default=5, help="evaluations, of which the median is shown (default: 5)")
    parser.add_argument("--data", help="folder with the IDX files of MNIST (default: the embedded digits)")
    parser.add_argument("--directory", help="folder for the files of rows (default: the system's temporary one)")
    parser.add_argument("--bandwidth", type=float, default=1.25e9, help="bytes a second of a link (default: 10 Gb/s)")
    parser.add_argument("--latency", type=float, default=1e-3, help="seconds of a call of an actor (default: 0.001)")
    parser.add_argument("--measure", nargs=3, metavar=("FOLDER", "ACTORS", "REPEATS"), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.measure:
        print(json.dumps(measure(a.measure[0], int(a.measure[1]), int(a.measure[2]))))
        return
    with tempfile.TemporaryDirectory(dir=a.directory) as folder:
        write_shards(pathlib.Path(folder), a.rows, a.data)
        found = {actors: in_its_own_process(folder, actors, a.repeats) for actors in (0, 1, 2)}
    print(f"\n{a.rows:,} x {FEATURES}-{UNITS}, {SHARDS} shards, load average {os.getloadavg()[0]:.1f}\n")
    print(*table(found), sep="\n")
    seconds_a_row = found[1]["seconds"] / a.rows
    print(f"\n1e9 rows, {1e6 * seconds_a_row:.2f} us a row and core, {a.bandwidth / 1e9:.3g} GB/s\n")
    print(*model(seconds_a_row, a.bandwidth, a.latency), sep="\n")


def write_shards(folder, rows, data):
    """Write files of rows, 0 to 255 as bytes."""
    write_rows(folder / "rows.npy", rows, data)
    x = np.load(folder / "rows.npy", mmap_mode="r")
    for number, part in enumerate(np.array_split(np.arange(rows), SHARDS)):
        np.save(folder / f"part-{number:05}.npy", x[part[0] : part[-1] + 1])


def in_its_own_process(folder, actors, repeats):
    command = [sys.executable, "-m", "benchmarks.cluster", "--measure", folder, str(actors), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder, actors, repeats):
    """Return seconds and J of an evaluation on so many actors, or on none; bytes sent; seconds with a killed actor."""
    import keras

    import keras_sae
    from keras_sae.backend import use_threads
    from keras_sae.training.full_batch import ObjectiveFunction

    use_threads(1)
    keras.utils.set_random_seed(0)
    scaling = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Rescaling(1 / 255)])
    stack = keras_sae.StackedAutoencoder(
        [keras_sae.SparseAutoencoder(UNITS, keras_sae.KLSparsity(0.1, 3.0), 3e-3)], scaling
    )
    stack.build((None, FEATURES))
    if not actors:
        function = ObjectiveFunction(stack, np.load(f"{folder}/rows.npy", mmap_mode="r"))
        return timed(function, repeats)
    engine = counting_engine(actors)
    with keras_sae.Cluster(actors=actors, engine=engine) as cluster:
        function = ObjectiveFunction(stack, cluster.rows(f"{folder}/part-*.npy"))
        found = timed(function, repeats)
        engine.bytes = 0
        function()
        found["bytes"] = engine.bytes
        os.kill(engine.pid(cluster), signal.SIGKILL)
        began = time.perf_counter()
        found["after_a_kill"] = function().value
        found["recovery"] = time.perf_counter() - began - found["seconds"]
    return found


def timed(function, repeats):
    """Return the median of the seconds of some evaluations, after one that compiles, and J."""
    seconds = []
    for _ in range(1 + repeats):
        began = time.perf_counter()
        value = function().value
        seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds[1:]), "value": value}


def counting_engine(actors):
    """Return an engine that counts the bytes of what is sent to actors, to each of them anew, and what they return."""
    from keras_sae.cluster.ray_engine import RayEngine

    class Counting(RayEngine):
        bytes = 0

        def call(self, worker, method, *arguments):
            self.bytes += len(pickle.dumps([a for a in arguments if not isinstance(a, self.ray.ObjectRef)]))
            return super().call(worker, method, *arguments)

        def result(self, reference):
            found = super().result(reference)
            self.bytes += len(pickle.dumps(found))
            return found

        def share(self, value):
            self.bytes += actors * len(pickle.dumps(value))
            return super().share(value)

        def pid(self, cluster):
            return self.ray.get(cluster._actors._workers[0].__ray_call__.remote(lambda self: os.getpid()))

    return Counting(None, actors, 1)


def table(found):
    """Yield the lines of the table of measurements."""
    yield "| | seconds | beside no cluster | MB sent | of the bound | seconds more, if an actor is killed | J |"
    yield "|---|---|---|---|---|---|---|"
    alone = found[0]["seconds"]
    for actors, result in found.items():
        name = f"{actors} actor{'s' * (actors > 1)}" if actors else "no cluster"
        sent = share = recovery = ""
        if actors:
            sent, share = f"{result['bytes'] / 1e6:.1f}", f"{result['bytes'] / (2 * 2 * 8 * PARAMETERS * actors):.2f}"
            recovery = f"{result['recovery']:.1f}"
        ratio = f"{result['seconds'] / alone:.3f}"
        yield f"| {name} | {result['seconds']:.2f} | {ratio} | {sent} | {share} | {recovery} | {result['value']:.10f} |"


def model(seconds_a_row, bandwidth, latency, rows=1e9):
    """Yield the lines of the table of larger clusters, of `cost` for one evaluation."""
    yield "| cores | actors | computing, s | sending to the driver, s | share lost | in a tree of actors, s |"
    yield "|---|---|---|---|---|---|"
    for cores, threads in [(100, 1), (1_000, 1), (1_000, 16), (10_000, 1), (10_000, 16), (10_000, 64)]:
        actors = -(-cores // threads)
        computing, star, tree = cost(rows, cores, actors, seconds_a_row, bandwidth, latency)
        lost = star / (computing + star)
        yield f"| {cores:,} | {actors:,} | {computing:.3g} | {star:.2g} | {lost:.0%} | {tree:.2g} |"


def cost(rows, cores, actors, seconds_a_row, bandwidth, latency):
    """Return (computing, sending all sums to the driver, adding them up in a tree of actors): seconds an evaluation.

    Weights go out in float32 to one machine after the other in a tree, log2(actors) times; sums come back in float64,
    to one link of the driver, or pairwise.
    """
    depth = np.ceil(np.log2(max(actors, 2)))
    out = depth * 4 * PARAMETERS / bandwidth
    star = actors * 8 * PARAMETERS / bandwidth + out + 2 * (latency + actors * latency / 10)
    tree = depth * (8 * PARAMETERS / bandwidth + 2 * latency) + out
    return rows * seconds_a_row / cores, star, tree


if __name__ == "__main__":
    main()
