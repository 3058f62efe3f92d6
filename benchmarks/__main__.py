"""keras_sae beside what else one would write: the classic NumPy form, PyTorch, JAX. A table for each section.

  python -m benchmarks                                    all sections: 60,000 digits, 200 and 1,000 units
  python -m benchmarks objective --units 200              one section
  KERAS_BACKEND=jax python -m benchmarks objective epoch --units 4096 --precisions float32 tensorfloat32 bfloat16
                                                          on a GPU, if JAX and PyTorch find one

Sections: exactness of gradients; one objective; an epoch; a training by L-BFGS; what reaches its J; trainings with and
without the TensorBoard callback; encoding a row, by Keras and by exported files; the growth of an objective's time with
rows, units and layers. `result` is the error of the gradient, J, or the largest error of a feature.

Contenders compute in processes of their own, in rounds of one call each, so that the drift of the machine's speed
meets all of them. One whose package is missing says so in its row. Other benchmarks are commands of their own:
python -m benchmarks.NAME --help.
"""

import argparse
import json
import os
import pathlib
import platform
import tempfile
import time

import numpy as np

from benchmarks.sections import FORMS, SECTIONS
from benchmarks.side_by_side import measure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help="what to measure (default: all)")
    parser.add_argument("--data", default="embedded", help="folder with IDX files (default: the 5,000 embedded digits)")
    parser.add_argument("--rows", type=int, default=60_000, help="examples (default: %(default)s)")
    parser.add_argument("--features", type=int, default=784, help="other than 784: random numbers (default: 784)")
    parser.add_argument("--units", type=int, nargs="+", default=[200, 1000], help="hidden units (default: 200 1000)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 256, 2048], help="(default: 128 256 2048)")
    parser.add_argument("--iterations", type=int, default=50, help="of L-BFGS (default: %(default)s)")
    parser.add_argument("--chunk-size", type=int, help="rows at a time in keras_sae's objective (default: 10,000)")
    parser.add_argument(
        "--precisions", nargs="+", default=["float32"], help="of products: float32, tensorfloat32, bfloat16"
    )
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS), help="contenders (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; the median is shown (default: %(default)s)")
    parser.add_argument("--json", type=pathlib.Path, help="a file for all figures")
    options = parser.parse_args()
    for section in set(options.sections) - set(SECTIONS):
        parser.error(f"sections: expected of {', '.join(SECTIONS)}; received: {section}")
    # The contenders of one card share its memory; on the CPU TensorFlow says what it found in each process.
    os.environ |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
    results = []
    with tempfile.TemporaryDirectory() as folder:
        x = pathlib.Path(folder) / "x.npy"
        np.save(x, rows(options.data, options.rows, options.features))
        for section in options.sections or SECTIONS:
            for case in SECTIONS[section](options, str(x)):
                found = measure(case.jobs, options.repeats)
                results.append({"section": section, "case": case.title, "found": found})
                if case.sizes:
                    results[-1]["exponent"] = case.exponent(found)
                print(table(case, found), flush=True)
    if options.json:
        where = {"date": time.strftime("%Y-%m-%d"), "machine": platform.processor(), "cores": os.cpu_count()}
        options.json.write_text(json.dumps({**where, "results": results}, indent=1))


def rows(data, number, features):
    """Return so many rows of digits, repeated if need be; of other than 784 features uniform random numbers."""
    from keras_sae.data import datasets

    if features != 784:
        return np.random.default_rng(0).random((number, features), dtype="float32")
    return np.resize(datasets.load_images("mnist", data).x_train, (number, 784)).astype("float32")


def table(case, found):
    """Return the lines of the table of a case, Markdown."""
    unit, factor = ("microseconds a row", 1e6) if case.per_row else ("seconds", 1)
    lines = [f"\n{case.title}\n", f"| | {unit} | least to most | peak MB | result |", "|---|---|---|---|---|"]
    for name, result in found.items():
        if "error" in result:
            lines.append(f"| {name} | {result['error']} |")
            continue
        middle, least, most = (factor * seconds for seconds in (result["seconds"], *result["spread"]))
        value = "" if result["value"] is None else f"{result['value']:.6g}"
        lines.append(
            f"| {name} | {middle:.4g} | {least:.4g} to {most:.4g} | {result['peak_bytes'] / 1e6:,.0f} | {value} |"
        )
    for name, other in case.beside.items():
        if "error" not in found[name] | found[other]:
            ratio = found[name]["seconds"] / found[other]["seconds"]
            lines.append(f"\n{name}: {ratio:.3f} of the time of {other}.")
    if case.sizes:
        exponent = case.exponent(found)
        lines.append("" if exponent is None else f"\nThe time grows with the power {exponent:.2f} of the size.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
