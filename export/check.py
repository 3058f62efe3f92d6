"""Whether exported files give what Keras gives: python -m export.check DIR, the second half of an export.

It imports nothing of keras_sae, so it also shows that the files need none of it. Prints JSON: for each file its size,
its largest and root mean square difference to Keras (absolute, or relative to values above 1), the time of one row, and
where the run has labels the accuracy.
"""

import json
import pathlib
import sys
import time

import numpy as np

SECONDS = 0.5  # of one-row calls, to take the median of


def check(directory):
    """What was measured of each file, a dict: name -> measurements."""
    with np.load(directory / "check.npz") as content:
        expected = dict(content)
    inputs, labels = expected.pop("inputs"), expected.pop("labels", None)
    others = {"decode": expected.get("reconstruct/features"), "images": expected.pop("images", None)}
    measured = {}
    for path in [*sorted(directory.glob("saved_model/*")), *sorted(directory.glob("encoder*"))]:
        run = RUNNERS[path.suffix](path)
        name = str(path.relative_to(directory))
        measured[name] = {**measure(run, inputs, labels, expected, others), "bytes": size(path)}
    return measured


def measure(run, inputs, labels, expected, others):
    """What is measured of a file.

    run: name of a signature, array -> outputs by name, or None where the file has no such signature.  expected:
    "signature/output" -> what Keras gives.  others: signature -> its input, where that is not `inputs`.
    """
    differences, accuracy = [], None  # arrays, of each output
    for name in sorted({key.split("/")[0] for key in expected}):
        outputs = run(name, others.get(name, inputs))
        for output, value in (outputs or {}).items():
            if output != "label":  # two nearly equal probabilities may change places
                wanted = expected[f"{name}/{output}"]
                differences.append(np.abs(value - wanted) / np.maximum(1, np.abs(wanted)))
        if labels is not None and outputs and "probabilities" in outputs:
            accuracy = float(np.mean(outputs["probabilities"].argmax(axis=1) == labels))
    differences = differences or [np.array(np.nan)]  # NaN stays NaN, and passes for no file
    return {
        "difference": float(np.max([d.max() for d in differences])),
        "root_mean_square": float(np.max([np.sqrt(np.mean(d**2)) for d in differences])),
        "accuracy": accuracy,
        "milliseconds": one_row(run, inputs[:1]),
    }


def one_row(run, row):
    """Median time of encoding one row."""
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        run("encode", row)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def size(path):
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def saved_model(directory):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(directory))

    def run(name, values):
        [input_name] = loaded.signatures[name].structured_input_signature[1]
        outputs = loaded.signatures[name](**{input_name: tf.constant(values)})
        return {output: value.numpy() for output, value in outputs.items()}

    return run


def litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))  # kept, because the outputs live in its memory
    known = interpreter.get_signature_list()

    def run(name, values):
        if name not in known:
            return None
        [input_name] = known[name]["inputs"]
        outputs = interpreter.get_signature_runner(name)(**{input_name: values})
        return {output: value.copy() for output, value in outputs.items()}

    return run


def onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = {output.name for output in session.get_outputs()}
    outputs_of = {"encode": ["features"], "classify": ["probabilities"]}

    def run(name, values):
        wanted = outputs_of.get(name, [])
        if not wanted or not names.issuperset(wanted):
            return None
        return dict(zip(wanted, session.run(wanted, {"inputs": values}), strict=True))

    return run


RUNNERS = {"": saved_model, ".tflite": litert, ".onnx": onnx}


if __name__ == "__main__":
    print(json.dumps(check(pathlib.Path(sys.argv[1]))))
