"""Export the model of a training run for deployment, checked against Keras on real held-out inputs.

RUN is the --out of a training command. Writes, each only if it gives what Keras gives,
  DIR/saved_model/1/    for TensorFlow Serving, with signatures encode, decode, reconstruct, classify, images as the run
                        has them; a later export to the same DIR adds version 2, which a running server takes up
  DIR/encoder.tflite    for LiteRT (TFLite); with --quantize also encoder_float16.tflite and so on
  DIR/encoder.onnx      for ONNX runtimes
  DIR/README.md         how to call them, with size, error, accuracy and time of each as measured

  python -m export runs/mnist --out exports/mnist
  python -m export runs/mnist --out exports/mnist --to saved_model litert onnx --quantize none float16 dynamic int8
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from keras_sae import cli, runs
from keras_sae.cli import Parser

from .card import card, newest

PROGRAM = "export"
fail = functools.partial(cli.fail, PROGRAM)

FORMATS = ("saved_model", "litert", "onnx")
# How far a file may be from Keras, of values of about 1. Rounding in float32 gives differences of 1e-5 at most. Fewer
# bits give many small ones and a few large ones, where a unit is about to change sides, so their root mean square is
# bounded (0.0001, 0.003 and 0.016 of the zoo's digit encoder). A wrong conversion gives much more.
BOUNDS = {"none": 5e-5, "float16": 1e-3, "dynamic": 2e-2, "int8": 5e-2}

KEYS = {"run", "bytes", "difference", "root_mean_square", "accuracy", "milliseconds"}  # of each file in export.json


def main():
    parser = Parser(PROGRAM, __doc__)
    parser.add_argument("run", metavar="RUN", type=pathlib.Path, help="folder of a finished training run")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=pathlib.Path,
        help="new or empty folder, or an earlier export (default: RUN/export)",
    )
    parser.add_argument(
        "--to",
        nargs="+",
        choices=FORMATS,
        default=["saved_model", "litert"],
        help="formats (default: saved_model litert)",
    )
    parser.add_argument(
        "--quantize", nargs="+", choices=tuple(BOUNDS), default=["none"], help="LiteRT files to write (default: none)"
    )
    arguments = parser.parse_args()
    out = arguments.out or arguments.run / "export"
    try:
        export(arguments.run, out, arguments.to, arguments.quantize)
    except KeyboardInterrupt:
        print("\nexport: interrupted. Nothing was written.", file=sys.stderr)
        sys.exit(130)


def export(run, out, formats=("saved_model", "litert"), quantize=("none",)):
    """Convert and check in processes of their own, then move everything into place."""
    again = (out / "export.json").is_file()
    if out.exists() and not again and (not out.is_dir() or any(out.iterdir())):
        fail(
            f"Expected a new or empty folder to write to, or an earlier export. Received: {out}, which holds something "
            "else. Nothing was changed.",
        )
    if not runs.is_run(run):
        fail(f"Expected a run directory, the --out of a training command. Received: {run}, which has no {runs.RECORD}.")
    earlier = read_files(out / "export.json") if again else {}
    place = out.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-")
    except OSError as error:
        fail(f"Expected a place that can be written to. Received: {out} ({error.strerror}).")
    with folder as aside:
        finished = pathlib.Path(aside) / "finished"
        finished.mkdir()
        version = 1 + max((int(path.name) for path in out.glob("saved_model/*") if path.name.isdigit()), default=0)
        print(f"Converting the model of {run} ...", flush=True)
        wanted = {"formats": list(formats), "quantize": list(quantize), "version": version}
        quietly(f"{__package__}.convert", run, finished, json.dumps(wanted))
        print("Checking the files against Keras in a fresh process ...", flush=True)
        measured = json.loads(quietly(f"{__package__}.check", finished))
        check_bounds(measured)
        finish(finished, run, earlier | {name: {"run": run.name} | values for name, values in measured.items()}, wanted)
        try:
            publish(finished, place, again)
        except OSError as error:
            fail(f"Expected a folder that can be put at {out}. Received: {error.strerror}.")
    for name, values in measured.items():
        print(f"  {out / name}  largest difference to Keras: {values['difference']:.1e}")


def read_files(path):
    """What the export.json of an earlier export says of its files."""
    try:
        files = json.loads(path.read_text())["files"]
        if all(values.keys() >= KEYS for values in files.values()):
            return files
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    fail(
        f"Expected the export.json of an earlier export. Received: {path}, which is damaged. Name a new folder: --out",
    )


def check_bounds(measured):
    """End the program unless every file gives what Keras gives."""
    for name, values in measured.items():
        method = pathlib.Path(name).stem.removeprefix("encoder_")
        quantised = method in BOUNDS
        bound = BOUNDS[method if quantised else "none"]
        words, found = "a root mean square", values["root_mean_square"]
        if not quantised:
            words, found = "a", values["difference"]
        if not found <= bound:  # NaN fails as well
            fail(
                f"Expected {name} within {bound} of Keras. Received: {words} difference of {found:.1e}. Nothing was "
                "written.",
            )


def finish(finished, run, measured, wanted):
    """The card, and export.json with the same for programs."""
    record = {"run": run.name, "files": measured, **wanted, "version": newest(measured)}
    (finished / "export.json").write_text(json.dumps(record, indent=2) + "\n")
    (finished / "README.md").write_text(card(run, measured))


def publish(finished, place, again):
    """Move a finished export into place: a new one at once, a later one version by version and file by file."""
    if not again:
        os.replace(finished, place)
        return
    for version in finished.glob("saved_model/*"):
        (place / "saved_model").mkdir(exist_ok=True)
        os.rename(version, place / "saved_model" / version.name)  # whole at once: a server may be watching
    for file in sorted(path for path in finished.iterdir() if path.is_file()):
        os.replace(file, place / file.name)


def quietly(module, *arguments):
    """Run a module in a process of its own and return what it prints; TensorFlow's log lines appear if it fails."""
    done = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode == 2:  # bad input, in one line
        print(done.stderr.splitlines()[-1], file=sys.stderr)
        sys.exit(2)
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stderr}")
    return done.stdout.splitlines()[-1] if done.stdout else ""


if __name__ == "__main__":
    main()
