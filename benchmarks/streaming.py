"""Memory and time of the exact objective over data that do not fit: 60,000, 600,000 and 6,000,000 rows of 784 bytes.

    python -m benchmarks.streaming                      4.7 GB on disk beside the results, deleted at the end
    python -m benchmarks.streaming --rows 60000 600000 --directory /var/tmp

The rows are the real digits, repeated and moved by a pixel or two, as uint8 in a memory-mapped .npy file. Each
measurement is a process of its own: one evaluation of J and its gradient (784-196-784), at two chunk sizes; and one
epoch of minibatches. Peak memory is the largest resident set, mapped pages included (Linux).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

CHUNKS = (5_000, 20_000)


def main():
    parser = argparse.ArgumentParser(prog="benchmarks.streaming", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=(60_000, 600_000, 6_000_000))
    parser.add_argument("--data", help="folder with the IDX files of MNIST (default: the embedded digits)")
    parser.add_argument("--directory", help="folder for the file of rows (default: the system's temporary one)")
    parser.add_argument("--minibatch-rows", type=int, default=600_000, help="measure an epoch up to so many rows")
    parser.add_argument("--measure", nargs=3, metavar=("FILE", "ROWS", "WHAT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        path, rows, what = arguments.measure
        print(json.dumps(measure(path, int(rows), what)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        path = os.path.join(folder, "rows.npy")
        write_rows(path, max(arguments.rows), arguments.data)
        print(f"{'rows':>10}  {'what':28}  {'seconds':>8}  {'us a row':>8}  {'peak MB':>8}  J")
        for rows in arguments.rows:
            for what in (*map(str, CHUNKS), *(["minibatches"] if rows <= arguments.minibatch_rows else [])):
                report(rows, what, in_its_own_process(path, rows, what))


def report(rows, what, result):
    title = f"objective, chunks of {int(what):,}" if what.isdigit() else "an epoch, batches of 256"
    seconds, peak = result["seconds"], result["peak"]
    value = f"{result['value']:.10f}" if "value" in result else ""
    print(f"{rows:10,}  {title:28}  {seconds:8.2f}  {1e6 * seconds / rows:8.2f}  {peak:8.0f}  {value}", flush=True)


def in_its_own_process(path, rows, what):
    command = [sys.executable, "-m", "benchmarks.streaming", "--measure", path, str(rows), what]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(path, rows, what):
    """Seconds, peak memory in MB and the objective, of one evaluation or one epoch over the first rows of the file."""
    import keras

    import keras_sae

    x = np.load(path, mmap_mode="r")[:rows]
    keras.utils.set_random_seed(0)
    autoencoder = keras_sae.SparseAutoencoder(196, keras_sae.KLSparsity(0.1, 3.0), 3e-3)
    scaling = keras.Sequential([keras.Input((x.shape[1],)), keras.layers.Rescaling(1 / 255)])
    stack = keras_sae.StackedAutoencoder([autoencoder], scaling)
    stack.build((None, x.shape[1]))
    result = {}
    if what == "minibatches":
        keras_sae.fit_minibatches(stack, x[:2560], epochs=1, verbose=0)  # compiled now, not while time is taken
        began = time.perf_counter()
        keras_sae.fit_minibatches(stack, x, epochs=1, verbose=0)
    else:
        keras_sae.objective(stack, x[: CHUNKS[0]], chunk_size=CHUNKS[0])
        began = time.perf_counter()
        result["value"] = keras_sae.objective(stack, x, chunk_size=int(what)).value
    return {
        "seconds": time.perf_counter() - began,
        "peak": peak_memory(),
    } | result


def peak_memory():
    """The largest resident set of this process so far, MB. (getrusage's counts the parent's, before exec, as well.)"""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1e3


def write_rows(path, rows, data):
    """An .npy file of real digits, repeated, each copy moved by up to 2 pixels and its brightness by a twentieth."""
    from keras_sae import datasets

    digits = (datasets.load_images("mnist", data or "embedded").x_train * 255).round().astype("uint8")
    generator = np.random.default_rng(0)
    file = np.lib.format.open_memmap(path, "w+", "uint8", (rows, digits.shape[1]))
    for start in range(0, rows, len(digits)):
        number = min(len(digits), rows - start)
        images = digits[:number].reshape(-1, 28, 28)
        moved = np.roll(images, tuple(generator.integers(-2, 3, 2)), axis=(1, 2))
        file[start : start + number] = (moved * generator.uniform(0.95, 1)).astype("uint8").reshape(number, -1)
    file.flush()


if __name__ == "__main__":
    main()
