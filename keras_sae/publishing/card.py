"""The card of a preset, Markdown for people with front matter for the Hugging Face Hub, and the index of presets."""

import json
import pathlib
import statistics
import textwrap
from collections.abc import Mapping
from typing import Any

from ..runs.cards import escaped, formatted, numbers_lines
from ..runs.records import PRESET, read_config, read_metrics, read_preset
from ..runs.run_directories import PRETRAINED

SHARES = ("accuracy", "fraction", "explained", "gabor_explained")  # how the names of numbers begin that are shown as %
ACTIVE = " (above 0.5 with a KL penalty, else above 0)"
SAELENS = "saelens"  # the directory of its files in a repository: it reads none at the root


def render(directory: pathlib.Path, address: str | None = None) -> str:
    """Return the card of a preset as its records have it.

    address: "hf://user/repository", if the card is for a repository on the Hub.
    """
    preset, config, metrics = read_preset(directory), read_config(directory), read_metrics(directory)
    lines = [
        *_front_matter(preset, metrics),
        f"# {escaped(preset['title'])}",
        "",
        *_usage(directory, preset, address),
        *_summary(directory, preset, config, metrics),
        *_exports(preset, address),
        *numbers_lines(directory, config, metrics, _pictures(directory)),
    ]
    return "\n".join(lines) + "\n"


def headline(preset: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """Return the number of a preset that tells most, with its name: the mean over seeds, if there are several."""
    name = preset["headline"]
    values = preset["seeds"].get(name, [])
    number, seeds = (statistics.fmean(values), f", mean of {len(values)} seeds") if values else (metrics[name], "")
    return f"{name.replace('_', ' ')} {_number(name, number)}{seeds}"


def size(directory: pathlib.Path) -> str:
    """Return the size of the model's file."""
    return f"{(directory / 'model.keras').stat().st_size / 1e3:,.0f} kB"


def rows(place: pathlib.Path, root: str = "") -> list[str]:
    """Return the rows of a table of the presets in a directory. root: how its path begins in links."""
    found = []
    for directory in sorted(path.parent for path in place.glob(f"*/{PRESET}")):
        preset, metrics = read_preset(directory), read_metrics(directory)
        cells = [preset["use"], preset["data"], headline(preset, metrics), size(directory)]
        link = f"[{directory.name}]({root}{directory.name}/README.md)"
        found.append(f"| {' | '.join([link, *map(escaped, cells)])} |")
    return found


HEADER = ["| preset | for | data | measured | size |", "|---|---|---|---|---|"]


def index(place: pathlib.Path) -> str:
    """Return the README.md of the directory of presets."""
    lines = [
        *("# The zoo", "", "```python", "import keras_sae", ""),
        *("print(keras_sae.list_presets())", 'model = keras_sae.from_preset("mnist_stacked")', "```", ""),
        "A preset is the run directory of a training command, without logs. Its card says how it was made, what it is",
        "good for and what was measured; `preset.json` has the sha256 of each file, with which a model is compared",
        "when it is loaded. [docs/zoo.md](../docs/zoo.md) shows them in use.",
        *("", *HEADER, *rows(place)),
    ]
    return "\n".join(lines) + "\n"


def _number(name: str, value: float) -> str:
    return _share(value) if name.startswith(SHARES) else formatted(value)


def _share(value: float) -> str:
    return f"{100 * value:.2f} %"


def _front_matter(preset: Mapping[str, Any], metrics: Mapping[str, float]) -> list[str]:
    """Return the lines that the Hub reads, YAML of which each value is JSON."""
    name = preset["headline"]
    accuracy, gives_back = name.startswith("accuracy"), preset["inputs"] == preset["outputs"]
    result = {
        "task": {"type": "image-classification" if accuracy and not gives_back else "feature-extraction"},
        "dataset": {"name": preset["data"], "type": preset["dataset"] or preset["data"]},
        "metrics": [{"type": "accuracy" if accuracy else name, "name": name, "value": round(metrics[name], 6)}],
    }
    matter = {
        "library_name": "keras",
        "license": preset["license"],
        "pipeline_tag": "feature-extraction",
        "tags": ["keras", "keras_sae", "sparse-autoencoder"],
        **({"datasets": [preset["dataset"]]} if preset["dataset"] else {}),
        "model-index": [{"name": preset["name"], "results": [result]}],
    }
    return ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in matter.items()), "---", ""]


def _usage(directory: pathlib.Path, preset: Mapping[str, Any], address: str | None) -> list[str]:
    """Return the lines that load the preset: with this library, and what else reads a repository on the Hub."""
    name = json.dumps(address or preset["name"])
    inputs, outputs = f"rows of {preset['inputs']:,} numbers", f"{preset['outputs']:,} numbers"
    codes = f".transform(rows)  # codes, (rows, {preset['codes']})"
    lines = ["```python", "import keras_sae", "", f"model = keras_sae.from_preset({name})  # {inputs} -> {outputs}"]
    if (directory / PRETRAINED).exists():
        lines += [f'autoencoder = keras_sae.from_preset({name}, part="autoencoder")  # as it was before the labels']
        lines += [f"codes = autoencoder{codes}"]
    elif preset["inputs"] == preset["outputs"]:
        lines += [f"codes = model{codes}"]
    lines += ["```", ""]
    if address is None:
        return lines
    lines += [f'Keras alone reads it as well: `keras.saving.load_model("{address}")`, after `import keras_sae`.', ""]
    if (directory / SAELENS).is_dir():
        repository = address.removeprefix("hf://")
        lines += [f'So does SAELens: `sae_lens.SAE.from_pretrained("{repository}", "{SAELENS}")`.', ""]
    return lines


def _summary(
    directory: pathlib.Path, preset: Mapping[str, Any], config: Mapping[str, Any], metrics: Mapping[str, float]
) -> list[str]:
    """Return the table of what people ask first, and the command."""
    name, data = preset["headline"], escaped(config["data"])
    answers = {
        "intended use": escaped(preset["use"]),
        "limits": escaped(preset["limits"]),
        "data": f"{escaped(preset['data'])}; licence: {escaped(preset['data_license'])}; {data}",
        f"measured: {escaped(name)}": _measured(preset, metrics),
        "on the examples here": _on_examples(preset["sample"]),
        "size": f"{size(directory)}, {preset['parameters']:,} parameters, stored in {escaped(preset['stored'])}",
        "licence of the weights": escaped(preset["license"]),
        "licence of the rows here": "that of the data, in `examples.npz`, `calibration.npz` and pictures",
        "trained in": f"{metrics['seconds_total']:,.0f} s, {escaped(preset['hardware'])}",
    }
    return [
        *("| | |", "|---|---|", *(f"| {question} | {answer} |" for question, answer in answers.items())),
        *("", "Made by:", "", textwrap.indent(config["command"], "    ", lambda line: True), ""),
    ]


def _on_examples(sample: Mapping[str, float]) -> str:
    """Return words on what the preset computes on the examples that it keeps."""
    texts = {
        "accuracy": f"accuracy {_share(sample.get('accuracy', 0))}",
        "explained_variance": f"{_share(sample.get('explained_variance', 0))} of the variance explained",
        "mean_activation": f"mean activation of a unit {sample.get('mean_activation', 0):.3g}",
        "active_units": f"{sample.get('active_units', 0):.1f} units of an example active{ACTIVE}",
        "dead_units": f"{sample.get('dead_units', 0)} dead units",
    }
    told = ", ".join(text for name, text in texts.items() if name in sample)
    return f"{told} ({sample['rows']:,} rows, `examples.npz`)"


def _measured(preset: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """Return the headline number, with its interval and its spread over seeds if they are known."""
    name = preset["headline"]
    text = _number(name, metrics[name])
    ends = [f"{name}_{end}" for end in ("low", "high")]
    if metrics.keys() >= {*ends}:
        text += f" (95 % interval {' to '.join(_number(name, metrics[end]) for end in ends)})"
    if values := preset["seeds"].get(name):
        mean, deviation = statistics.fmean(values), statistics.stdev(values)
        text += f"; {len(values)} seeds: mean {_number(name, mean)}, standard deviation {_number(name, deviation)}, "
        text += f"from {_number(name, min(values))} to {_number(name, max(values))}"
    return text


def _exports(preset: Mapping[str, Any], address: str | None) -> list[str]:
    """Return the table of what was measured of each kind of export."""
    lines = ["## Exports", ""]
    if address is None:
        lines += [f"`keras-sae export models/{preset['name']} --out DIR` writes them, in a checkout.", ""]
    lines += [
        "| file | kB | largest difference to Keras | root mean square | accuracy on the examples |",
        "|---|---|---|---|---|",
    ]
    for name, values in preset["exports"].items():
        if "refused" in values:
            lines += [f"| {name} | | {escaped(values['refused'])} | | |"]
            continue
        accuracy = "" if values["accuracy"] is None else _number("accuracy", values["accuracy"])
        size, largest, usual = values["bytes"] / 1e3, values["difference"], values["root_mean_square"]
        lines += [f"| {name} | {size:,.0f} | {largest:.1e} | {usual:.1e} | {accuracy} |"]
    return [*lines, ""]


def _pictures(directory: pathlib.Path) -> list[str]:
    return sorted(path.stem for path in directory.glob("*.png"))
