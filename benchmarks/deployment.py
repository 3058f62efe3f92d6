"""A sparse autoencoder of another library's size as files to deploy: their bytes, and the time that encoding takes.

Weights at random, of 2,304 features and 16,384 units with thresholds as Gemma Scope has, are written as SAELens writes
them, and `python -m export` makes files of them, which it checks against Keras. Then all encode the same rows, each in
a process of its own, in rounds of ten calls: medians, and their ratio to Keras.

  python -m benchmarks.deployment
  python -m benchmarks.deployment --features 768 --units 4096 --rows 1 1024 --quantize none
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks.extraction import load
from benchmarks.side_by_side import measure

THRESHOLD = 2.6  # standard deviations of a pre-activation: five units in a thousand are above
SUFFIXES = {".tflite": "litert", ".onnx": "onnx"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=2304, help="(default: %(default)s)")
    parser.add_argument("--units", type=int, default=16_384, help="(default: %(default)s)")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 32, 512], help="of a call (default: 1 32 512)")
    parser.add_argument("--quantize", nargs="+", default=["none", "float16", "dynamic"], help="as of python -m export")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: %(default)s)")
    options = parser.parse_args()
    print(f"{options.features:,} features, {options.units:,} units; {load()}\n")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write(folder / "sae", options.features, options.units)
        files = export(folder, options.quantize)
        x = np.random.default_rng(1).standard_normal((max(options.rows), options.features), "float32")
        np.save(folder / "x.npy", x)
        found = {number: measure(jobs(folder, files, number), options.repeats) for number in options.rows}
    print("\n".join(table(files, found)))
    print(f"\n{load()} at the end")


def write(directory, features, units):
    """Write a JumpReLU autoencoder as SAELens does, with a decoder that is the encoder transposed."""
    from safetensors.numpy import save_file

    directory.mkdir()
    encoder = np.random.default_rng(0).standard_normal((features, units), "float32") / np.float32(features**0.5)
    tensors = {"W_enc": encoder, "W_dec": np.ascontiguousarray(encoder.T)}
    tensors |= {"b_enc": np.zeros(units, "float32"), "b_dec": np.zeros(features, "float32")}
    save_file(tensors | {"threshold": np.full(units, THRESHOLD, "float32")}, directory / "sae_weights.safetensors")
    config = {"architecture": "jumprelu", "d_in": features, "d_sae": units, "metadata": {"sae_lens_version": "6.0.0"}}
    (directory / "cfg.json").write_text(json.dumps(config))


def export(folder, quantize):
    """Have `python -m export` write the files. Return what it measured of each, by its name."""
    command = [sys.executable, "-m", "export", str(folder / "sae"), "--out", str(folder / "export")]
    command += ["--to", "saved_model", "litert", "onnx", "--quantize", *quantize]
    done = subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "tensorflow"}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads((folder / "export" / "export.json").read_text())["files"]


def jobs(folder, files, number):
    """Return the jobs of encoding so many rows a call, by the names of files, and "Keras"."""
    module, shared = "benchmarks.contenders.encoders", {"x": str(folder / "x.npy"), "number": number}
    found = {"Keras": (module, "of_dictionary", {**shared, "kind": "keras", "path": str(folder / "sae")})}
    for name in files:
        kind = SUFFIXES.get(pathlib.Path(name).suffix, "saved_model")
        found[name] = (module, "of_dictionary", {**shared, "kind": kind, "path": str(folder / "export" / name)})
    return found


def table(files, found):
    """Return the lines of the table, Markdown. found: number of rows -> what `measure` found of each job."""
    times = [f"ms a row, {number:,} a call (of Keras)" for number in found]
    heads = ["", "MB", "difference to Keras", "active units", "peak MB", *times]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, *results in zip(found[min(found)], *(of_all.values() for of_all in found.values()), strict=True):
        errors = [result["error"] for result in results if "error" in result]
        if errors:
            lines.append(f"| {name} | {errors[0]} |")
            continue
        file = files.get(name)
        cells = [f"{file['bytes'] / 1e6:.3g}", f"{file['root_mean_square']:.0e}"] if file else ["", ""]
        cells += [f"{results[-1]['value']:.1f}", f"{max(result['peak_bytes'] for result in results) / 1e6:,.0f}"]
        for result, of_all in zip(results, found.values(), strict=True):
            cells.append(f"{1e3 * result['seconds']:.3g} ({result['seconds'] / of_all['Keras']['seconds']:.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
