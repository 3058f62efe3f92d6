"""README.md of an export: its files as measured, what they take and give, and how to call them."""

from collections.abc import Mapping
from typing import Any

from keras_sae.runs.cards import SHOWN, code, column_ranges, escaped

# How to call a file, by what its name holds; of several the newest SavedModel, or the first file by name.
CALLS = {
    "saved_model": """With TensorFlow, where `x` is a float32 array (batch, features):

```python
import tensorflow as tf

encode = tf.saved_model.load("{file}").signatures["encode"]
features = encode(inputs=tf.constant(x))["features"].numpy()
```

""",
    ".tflite": """With LiteRT (`pip install ai-edge-litert`), where `x` is a float32 array (batch, features):

```python
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter("{file}")
features = interpreter.get_signature_runner("encode")(inputs=x)["features"]
```

Programs that know no signatures (`allocate_tensors`, `set_tensor`, `invoke`, `get_tensor`) run `encode`, of one row
unless they resize its input.

""",
    ".onnx": """With ONNX (`pip install onnxruntime`), where `x` is a float32 array (batch, features); with a head,
there are "probabilities" as well, and "features_finetuned" where there is `encode_finetuned`:

```python
import onnxruntime

session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
[features] = session.run(["features"], {{"inputs": x}})
```

""",
}

IN_8_BITS = """`encoder_int8_io.tflite` takes and gives int8, as microcontrollers do: a number is
scale (q - zero point), and q = number / scale + zero point, rounded and cut off at -128 and 127.

| tensor | scale | zero point |
|---|---|---|
"""
FINETUNED = (
    "| `encode_finetuned` | `inputs` | `features` of the network below the softmax, after the labels changed it |\n"
)
PRETRAINED_DECODER = """ `encode`, `reconstruct`, `decode`, `score` and `images` are of
the stack that learned without labels; `classify` and `encode_finetuned` of the network that learned from labels. LiteRT
files of a classifier have none of `reconstruct`, `decode` and `score`, and ONNX files never have."""
FORMER_DECODER = """ Of a fine-tuned classifier, `reconstruct`, `decode` and `score` are of
the stack as it was before fine-tuning."""


def card(
    name: str,
    config: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
    version: int | None,
    pretrained: bool = False,
    made_up: bool = False,
    left_out: int = 0,
) -> str:
    """Return the README.md of an export.

    Args:
        name: of the run that was exported last.
        config: the record of that run.
        files: what export.json says of each file.
        version: of the newest SavedModel, or None if there is none.
        pretrained: whether the run is of a classifier and kept the stack as it was before the labels.
        made_up: whether the files were checked on rows at random, as the run has none.
        left_out: how many of them were not compared, because rounding decides on their codes.
    """
    rows = [
        f"| {file} | {values['bytes'] / 1e3:,.0f} | {values['difference']:.1e} | {_percent(values['accuracy'])} | "
        f"{values['milliseconds']:.3f} | {values['root_mean_square']:.1e} |"
        for file, values in files.items()
    ]
    classes = [f"{label} {escaped(text)}" for label, text in enumerate(config.get("class_names", []))]
    named = f"\nClasses, by `label`: {', '.join(classes)}.\n" if classes else ""
    columns = [escaped(column) for column in config.get("feature_names", [])]
    scaled = [f"{escaped(name)} ({low:.6g} to {high:.6g})" for name, low, high in column_ranges(config)]
    of_all = "" if len(columns) <= SHOWN else f" and so on, {len(columns):,} in all: export.json"
    ranges = ", with the values that become 0 and 1 inside the model" if scaled else ""
    listed = ", ".join((scaled or columns)[:SHOWN])
    named += f"\nColumns of `inputs`, in this order{ranges}: {listed}{of_all}.\n" if columns else ""
    shown = f"`saved_model_cli show --dir saved_model/{version} --all` lists those that are here. " if version else ""
    called = {kind: min((file for file in files if kind in file), default=None) for kind in CALLS}
    called["saved_model"] = f"saved_model/{version}" if version else None
    calls = "".join(CALLS[kind].format(file=file) for kind, file in called.items() if file)
    scales = [values["quantization"] for values in files.values() if "quantization" in values]
    in_8_bits = "".join(IN_8_BITS + _tensors(found) for found in scales)
    older: dict[str, list[str]] = {}
    for file, values in files.items():
        if values["run"] != name:
            older.setdefault(values["run"], []).append(f"`{file}`")
    earlier = [f"Exported here earlier, from the run {code(run)}: {', '.join(n)}.\n\n" for run, n in older.items()]
    learned = ", learned without labels" if pretrained else ""
    finetuned = FINETUNED if pretrained else ""
    decoder = PRETRAINED_DECODER if pretrained else FORMER_DECODER
    checked_on = "rows at random in the range of inputs, as the run has no real ones" if made_up else "held-out inputs"
    checked_on += f" ({left_out:,} left out, as rounding decides which of their units are active)" if left_out else ""
    source = {name: code(value) for name, value in config.get("origin", {}).items()}
    data = escaped(config.get("data", "data unknown"))
    if source:
        data = f"weights of {source.get('address')}, format {source.get('format')}, sha256 {source.get('sha256')}"
    return f"""# {escaped(config.get("title", name))}: exported

Made from the run {code(name)}: {data}.

| file | kB | largest difference to Keras | accuracy | ms a row | root mean square difference |
|---|---|---|---|---|---|
{chr(10).join(rows)}

{"".join(earlier)}The differences are those of all outputs on {checked_on}, relative to the largest
value of a row if that is above 1 (of the output where they are largest); the accuracy that of `classify` on those
inputs with labels; the time the median of calls with one row on the machine that made the export.

| signature | input | outputs |
|---|---|---|
| `encode`, `serving_default` | `inputs` (batch, features) float32 | `features` (batch, units){learned} |
{finetuned}| `top` | `inputs` | `indices`, `values` of the units of the largest magnitude in each row, 100 at most |
| `reconstruct`, with a decoder | `inputs` | `features`, `outputs`, `error`: half the squared distance |
| `decode`, of the same | `features` as `reconstruct` gives them | `outputs` |
| `score`, of the same | `inputs` | `error`, and `column_errors`, its terms: export.json has those that are usual |
| `classify`, of runs with a head | `inputs` | `probabilities`, `label`, `score` |
| `images`, of runs on images | `images` (batch, height, width) uint8 | `features` |

{shown}`inputs` are rows as in training: raw if the run scales them itself (`train.features`), images of `train.mnist`
as pixels from 0 to 1, one row each.{decoder}
{named}
{calls}{in_8_bits}`check.npz` holds inputs and what Keras gives for them, to test a deployment with.
"""


def _tensors(quantization: Mapping[str, Any]) -> str:
    rows = (f"| `{name}` | {scale!r} | {zero:.0f} |\n" for name, (scale, zero) in quantization.items())
    return "".join(rows) + "\n"


def _percent(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{accuracy:.2%}"
