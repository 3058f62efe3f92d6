"""Export the encoder of a training run for deployment, checked against Keras on real inputs.

RUN is the --out of a training command. Writes, all or nothing,
  DIR/saved_model/1/    SavedModel for TensorFlow Serving: inputs (batch, features) -> features (batch, units)
  DIR/encoder.tflite    the same for LiteRT (TFLite)
  DIR/README.md         how to call them, and the largest difference to Keras that was measured

  python -m export runs/mnist --out exports/mnist
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

LARGEST_ERROR = 5e-5  # of a feature of about 1: rounding in float32 gives 1e-5 at most, a wrong conversion much more


def main():
    parser = argparse.ArgumentParser(
        "export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.error = lambda message: fail(f"{message}. See --help.")
    parser.add_argument("run", metavar="RUN", type=pathlib.Path, help="folder of a finished training run")
    parser.add_argument("--out", metavar="DIR", type=pathlib.Path, help="new or empty folder (default: RUN/export)")
    arguments = parser.parse_args()
    out = arguments.out or arguments.run / "export"
    try:
        export(arguments.run, out)
    except KeyboardInterrupt:
        print("\nexport: interrupted. Nothing was written.", file=sys.stderr)
        sys.exit(130)


def fail(message):
    """One line on stderr, exit status 2."""
    print(f"export: error: {message}", file=sys.stderr)
    sys.exit(2)


def export(run, out):
    """Convert and check in processes of their own, then move everything into place at once."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        fail(
            f"Expected a new or empty folder to write to. Received: {out}, which holds something. Nothing was changed."
        )
    if not (run / "config.json").is_file():
        fail(f"Expected a run directory, the --out of a training command. Received: {run}, which has no config.json.")
    place = out.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-")
    except OSError as error:
        fail(f"Expected a place that can be written to. Received: {out} ({error.strerror}).")
    with folder as aside:
        finished = pathlib.Path(aside) / "finished"
        finished.mkdir()
        print(f"Converting the encoder of {run} ...", flush=True)
        quietly("export.convert", run, finished)
        print("Checking the files against Keras in a fresh process ...", flush=True)
        errors = json.loads(quietly("export.check", finished))
        if not all(error <= LARGEST_ERROR for error in errors.values()):  # NaN fails as well
            fail(f"The exported files differ from Keras by {errors}, more than {LARGEST_ERROR}. Nothing was written.")
        (finished / "README.md").write_text(card(run, errors))
        try:
            os.replace(finished, place)
        except OSError as error:
            fail(f"Expected a folder that can be put at {out}. Received: {error.strerror}. Nothing was written.")
    for name, error in errors.items():
        print(f"  {out / name}  largest difference to Keras: {error:.1e}")


def quietly(module, *arguments):
    """Run a module in a process of its own and return what it prints; TensorFlow's log lines appear if it fails."""
    done = subprocess.run([sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode == 2:  # bad input, in one line
        print(done.stderr.splitlines()[-1], file=sys.stderr)
        sys.exit(2)
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stderr}")
    return done.stdout.splitlines()[-1] if done.stdout else ""


def card(run, errors):
    """README.md of an export."""
    return f"""# Encoder of {run.name}

Signature `serving_default`: `inputs` (batch, features) float32 -> `features` (batch, units) float32.
Inputs are scaled as in training (images: pixels from 0 to 1, one row each).

| file | largest difference to Keras on held-out inputs |
|---|---|
{chr(10).join(f"| {name} | {error:.1e} |" for name, error in errors.items())}

With TensorFlow, where `x` is a float32 array (batch, features):

```python
import tensorflow as tf

encode = tf.saved_model.load("saved_model/1").signatures["serving_default"]
features = encode(inputs=tf.constant(x))["features"].numpy()
```

With LiteRT (`pip install ai-edge-litert`):

```python
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter("encoder.tflite")
features = interpreter.get_signature_runner("serving_default")(inputs=x)["features"]
```

`check.npz` holds inputs and the features that Keras gives for them, to test a deployment with.
"""


if __name__ == "__main__":
    main()
