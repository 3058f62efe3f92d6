"""python -m export.features beside its two parts alone, the runtime on rows in memory and the bare writer.

    python -m benchmarks.extraction exports/mnist                 SavedModel, LiteRT and ONNX, those that are there
    python -m benchmarks.extraction exports/mnist --rows 400000 --batch-size 1024 --rounds 5

The rows are random bytes, as many columns as the model takes. A round measures, one after the other: the runtime alone,
on float32 rows in memory; the bare writer alone, of features in memory, until they are on the disk; and the loop of the
command, from a .npy file of bytes to the finished output, by the rate that it prints. The ratio is that rate to
1 / (1 / runtime + 1 / writer), above 1 where they overlap. Medians of the rounds: other work comes and goes.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

GROUP_BYTES = 2**25  # a row group of Parquet, as large as a part of the command's output


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=pathlib.Path, help="the --out of python -m export")
    parser.add_argument("--rows", type=int, default=200_000, help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=4096, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--directory", help="folder for the files (default: the system's temporary one)")
    options = parser.parse_args()
    print(f"{options.rows:,} rows, batches of {options.batch_size:,}; {load()}; rows per second:")
    print(f"{'':20}  {'runtime':>9}  {'writer':>9}  {'command':>9}  ratio")
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        for kind, opened in RUNTIMES.items():
            path = options.export / FILES[kind]
            if path.exists():
                measure(options, kind, *opened(str(path)), pathlib.Path(folder))
    print(load())


def load():
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def measure(options, kind, run, width, folder):
    """Print a line for each format that the command writes."""
    data = np.random.default_rng(0).integers(0, 256, (options.rows, width), "uint8")
    np.save(folder / "rows.npy", data)
    x = data.astype("float32")
    features = np.concatenate([run(x[i : i + options.batch_size]) for i in range(0, len(x), options.batch_size)])
    for suffix, write in WRITERS.items():
        out, bare = folder / f"features{suffix}", folder / f"bare{suffix}"
        command = [sys.executable, "-m", "export.features", str(options.export), "--data", str(folder / "rows.npy")]
        command += ["--out", str(out), "--overwrite", "--model", kind, "--batch-size", str(options.batch_size)]
        rounds = []
        for _ in range(options.rounds):
            runtime = rate(
                lambda: [run(x[i : i + options.batch_size]) for i in range(0, len(x), options.batch_size)], x
            )
            writer = rate(lambda write=write, bare=bare: write(bare, features), x)
            rounds.append((runtime, writer, printed_rate(command)))
        runtime, writer, loop = map(statistics.median, zip(*rounds, strict=True))
        ratio = statistics.median(c * (1 / r + 1 / w) for r, w, c in rounds)
        print(f"{kind + ', ' + suffix:20}  {runtime:9,.0f}  {writer:9,.0f}  {loop:9,.0f}  {ratio:.2f}", flush=True)
        bare.unlink()


def rate(work, x):
    began = time.perf_counter()
    work()
    return len(x) / (time.perf_counter() - began)


def printed_rate(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(re.search(r"\(([\d,]+) rows/s\)", done.stdout)[1].replace(",", ""))


# The parts alone: (function, number of features) of a model, and a function that writes.


def saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    encode = loaded.signatures["encode"]
    width = encode.structured_input_signature[1]["inputs"].shape[1]
    return lambda x, _=loaded: encode(inputs=tf.constant(x))["features"].numpy(), width


def litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=os.cpu_count())
    encode = interpreter.get_signature_runner("encode")
    width = int(encode.get_input_details()["inputs"]["shape"][1])
    return lambda x, _=interpreter: encode(inputs=x)["features"], width


def onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: session.run(["features"], {"inputs": x})[0], session.get_inputs()[0].shape[1]


def write_parquet(path, features):
    import pyarrow
    import pyarrow.parquet

    names = [f"feature_{i}" for i in range(features.shape[1])]
    size = GROUP_BYTES // features[:1].nbytes
    schema = pyarrow.schema([(name, pyarrow.float32()) for name in names])
    with pyarrow.parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, len(features), size):
            columns = np.ascontiguousarray(features[start : start + size].T)
            writer.write_table(pyarrow.table(list(map(pyarrow.array, columns)), names), row_group_size=size)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_npy(path, features):
    with open(path, "wb") as file:
        np.save(file, features)
        os.fsync(file.fileno())


RUNTIMES = {"saved_model": saved_model, "litert": litert, "onnx": onnx}
FILES = {"saved_model": "saved_model/1", "litert": "encoder.tflite", "onnx": "encoder.onnx"}
WRITERS = {".parquet": write_parquet, ".npy": write_npy}


if __name__ == "__main__":
    main()
