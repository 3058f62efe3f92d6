"""List the trained models that come with the library; `publish` makes a finished run one of them.

  keras-sae models
  keras-sae models publish runs/mnist mnist_mine --to zoo --data MNIST --data-license "CC BY-SA 3.0" \\
      --use "digits of 28 x 28 pixels" --limits "no other images" --headline accuracy_finetuned

Load one with keras_sae.from_preset("NAME"), or, of a directory, keras_sae.from_preset("zoo/mnist_mine").
"""

import pathlib
import tempfile

from .. import runs
from ..cli import CONSOLE, IN_CHECKOUT, Parser, reported, stderr_suppressed, with_flags
from ..errors import InputError
from ..runs import presets
from ..runs.records import read_metrics, read_preset
from .card import headline, size

PROGRAM = f"{CONSOLE} models"
SAID = {
    "title": "what it is (default: the run's title)",
    "data": "name of the data",
    "data-license": "licence of the data",
    "dataset": "address of the data on the Hugging Face Hub, as ylecun/mnist, if they have one",
    "license": "licence of the weights (default: apache-2.0)",
    "use": "what it is meant for",
    "limits": "what it is not for",
    "hardware": "what it was trained on (default: as the run says)",
    "headline": "the one number of its metrics.json that tells most",
}
PUBLISH = """Make a preset of a finished run: see whether it loads and has its numbers, measure it on its examples,
export it and compare, write its card and hashes, and put it in place. What an earlier preset of this name said of
itself is kept unless it is said anew. hf://user/repository becomes one repository for keras_sae.from_preset,
keras.saving.load_model and, if it has a name for the method, SAELens."""


def main(words: list[str]) -> None:
    """Run `keras-sae models` with these words."""
    if words[:1] == ["publish"]:
        publish(words[1:])
    else:
        Parser(PROGRAM, __doc__).parse_args(words)
        print(table())


def table() -> str:
    """Return the presets with what they are, their data, the number that tells most and their size."""
    lines = [("name", "what it is", "data", "measured", "size")]
    for name in presets.list_presets():
        directory = presets.ZOO / name
        preset = read_preset(directory)
        measured = headline(preset, read_metrics(directory))
        lines.append((name, preset["title"], preset["data"], measured, size(directory)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in padded)


def publish(words: list[str]) -> None:
    """Run `keras-sae models publish` with these words."""
    parser = Parser(f"{PROGRAM} publish", PUBLISH)
    add = parser.add_argument
    add("run", metavar="RUN", help="directory of a finished run, or a preset")
    add("name", metavar="NAME", help="of the preset")
    default = presets.ZOO if IN_CHECKOUT else None
    add(
        "--to",
        metavar="PLACE",
        default=default,
        help="directory of presets, or hf://user/repository (default: the zoo)",
    )
    add("--seeds", metavar="RUN", nargs="+", default=[], help="the same run with other seeds, for the spread")
    add("--float16", action="store_true", help="store weights in 16 bits; refused if that changes what is measured")
    for flag, text in SAID.items():
        add(f"--{flag}", metavar="TEXT", help=text)
    arguments = parser.parse_args(words)
    said = {name: getattr(arguments, name) for name in (flag.replace("-", "_") for flag in SAID)}
    options = {"said": said, "seeds": arguments.seeds, "float16": arguments.float16}
    with reported(parser.program), stderr_suppressed():
        try:
            print(_publish(arguments.run, arguments.name, arguments.to, options))
        except InputError as error:
            raise InputError(with_flags(str(error), list(said))) from error


def _publish(run: str, name: str, to: runs.Path | None, options: dict) -> str:
    """Publish a run, and return how to load it."""
    from . import from_run, repository  # here, because they load Keras

    if to is None:
        raise InputError("Expected a directory of presets, or hf://user/repository, as --to. Received: nothing.")
    directory = presets.find(run)
    if not str(to).startswith(presets.HUB):
        place = from_run.publish(directory, name, to, **options)
        loaded = name if place.parent == presets.ZOO else place
        return f'{place}: keras_sae.from_preset("{loaded}")'
    repository.check_login(str(to))
    with tempfile.TemporaryDirectory() as aside:
        url = repository.upload(from_run.publish(directory, name, pathlib.Path(aside), **options), str(to))
    return f'{url}: keras_sae.from_preset("{to}")'
