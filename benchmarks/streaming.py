"""Memory and time of the exact objective over data that do not fit: 60,000, 600,000 and 6,000,000 rows of 784 bytes.

    python -m benchmarks.streaming                      4.7 GB on disk beside the results, deleted at the end
    python -m benchmarks.streaming --rows 60000 600000 --directory /var/tmp

The rows are the real digits, repeated and moved by a pixel or two, as uint8 in a memory-mapped .npy file. Each
measurement is a process of its own: one evaluation of J and its gradient (784-196-784), at two chunk sizes; one epoch
of minibatches; one evaluation for a second layer of 196 units, with its inputs on disk and computed anew. Peak memory
is the largest resident set, mapped pages included (Linux).
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
OTHERS = {
    "minibatches": "an epoch, batches of 256",
    "write": "writing layer 1's features",
    "disk": "layer 2, its inputs on disk",
    "anew": "layer 2, its inputs anew",
}


def main():
    parser = argparse.ArgumentParser(prog="benchmarks.streaming", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=(60_000, 600_000, 6_000_000))
    parser.add_argument("--data", help="folder with the IDX files of MNIST (default: the embedded digits)")
    parser.add_argument("--directory", help="folder for the file of rows (default: the system's temporary one)")
    parser.add_argument("--others-up-to", type=int, default=600_000, help="more than the objective up to so many rows")
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
            for what in (*map(str, CHUNKS), *(OTHERS if rows <= arguments.others_up_to else ())):
                report(rows, what, in_its_own_process(path, rows, what))


def report(rows, what, result):
    title = OTHERS.get(what) or f"objective, chunks of {int(what):,}"
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
    """Seconds, peak memory in MB and maybe the objective, of one evaluation, epoch or file over the first rows."""
    import keras

    import keras_sae

    x = np.load(path, mmap_mode="r")[:rows]
    keras.utils.set_random_seed(0)
    layers = [keras_sae.SparseAutoencoder(196, keras_sae.KLSparsity(0.1, 3.0), 3e-3) for _ in range(2)]
    scaling = keras.Sequential([keras.Input((x.shape[1],)), keras.layers.Rescaling(1 / 255)])
    stack = keras_sae.StackedAutoencoder(layers[:1], scaling)
    stack.build((None, x.shape[1]))
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        prepare, run = work(what, stack, layers[1], os.path.join(folder, "features.npy"))
        prepare(x)
        began = time.perf_counter()
        value = run(x)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "peak": peak_memory()} | ({} if value is None else {"value": value})


def work(what, stack, second, path):
    """(what is not timed, what is): functions of the rows; the second gives the objective or None."""
    import keras_sae
    from keras_sae.data.batches import predict_to_file
    from keras_sae.data.containers import RowSubset

    def epoch(x):
        keras_sae.fit_minibatches(stack, x, epochs=1, verbose=0)

    def write(x):
        predict_to_file(stack.encoder, x, path)

    def from_disk(x):
        return keras_sae.objective(second, np.load(path, mmap_mode="r")).value

    def anew(x):
        return keras_sae.objective(second, RowSubset(x, transform=stack.encoder)).value

    def objective(x):
        return keras_sae.objective(stack, x, chunk_size=int(what)).value

    def few(function):  # compiles
        return lambda x: function(x[:5000])

    return {
        "minibatches": (few(epoch), epoch),
        "write": (lambda x: None, write),
        "disk": (write, from_disk),
        "anew": (few(anew), anew),
    }.get(what, (few(objective), objective))


def peak_memory():
    """The largest resident set of this process so far, MB. (getrusage's counts the parent's, before exec, as well.)"""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1e3


def write_rows(path, rows, data):
    """An .npy file of real digits, repeated, each copy moved by up to 2 pixels and its brightness by a twentieth."""
    from keras_sae.data import datasets

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
