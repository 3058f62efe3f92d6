"""Sparse autoencoders for Keras: train them, compute features with them, export and serve them.

  keras-sae train                                     lists the experiments
  keras-sae train mnist --out runs/mnist              the stacked digit classifier, on embedded digits by default
  keras-sae train features --data table.csv           features of your own data
  keras-sae export runs/mnist --out exports/mnist     SavedModel and LiteRT file, checked against Keras
  keras-sae features exports/mnist --data x.npy --out features.parquet
  keras-sae anomalies runs/features --data new.csv --out scores.parquet
  keras-sae compare runs/mnist runs/tied              settings and numbers of runs, side by side
  keras-sae serve exports/mnist                       answers over HTTP, and has a page to draw on
  keras-sae models                                    lists the trained models; `models publish` makes one of a run

Each command has a --help of its own. A run is one directory: model, card, pictures, numbers and logs.
"""

import ast
import importlib.machinery
import importlib.util
import pathlib
import runpy
import sys

from . import __version__
from .cli import CONSOLE, Parser

MODULES = {"export": "export", "features": "export.features", "anomalies": "export.anomalies", "serve": "export.serve"}


def main() -> None:
    """Run the command that the command line names, as `python -m` runs its module."""
    parser = Parser(CONSOLE, __doc__)
    parser.add_argument("--version", action="version", version=f"{CONSOLE} {__version__}")
    parser.add_argument("command", choices=("train", "compare", "models", *MODULES), help="what to do; see above")
    command, rest = parser.parse_args(sys.argv[1:2] or ["--help"]).command, sys.argv[2:]
    if command == "train":
        train(rest)
    elif command == "compare":
        compare(rest)
    elif command == "models":
        models(rest)
    else:
        run(MODULES[command], rest)


def train(words: list[str]) -> None:
    """Run the experiment that is named first; without a name, list the experiments."""
    experiments = list_experiments()
    listed = "\n".join(f"  {name:<16}  {line}" for name, line in experiments.items())
    text = f"Run an experiment. python -m train.NAME --help teaches its flags.\n\n{listed}"
    parser = Parser("train", text)
    parser.add_argument("name", metavar="NAME", choices=tuple(experiments), help="of the experiment, one of the above")
    run(f"train.{parser.parse_args(words[:1] or ['--help']).name}", words[1:])


def compare(words: list[str]) -> None:
    """Compare the runs that are named."""
    from .reports import comparison  # what only this command needs

    comparison.main(words)


def list_experiments() -> dict[str, str]:
    """Return the first line of each experiment's docstring by its name, read without importing anything."""
    directory = pathlib.Path(str(find("train").origin)).parent
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(directory.glob("[a-z]*.py"))}
    trees = {name: ast.parse(text) for name, text in texts.items() if 'if __name__ == "__main__":' in text}
    return {name: (ast.get_docstring(tree) or "").partition("\n")[0] for name, tree in trees.items()}


def models(words: list[str]) -> None:
    """List the presets, or make one."""
    from .publishing import command  # what only this command needs

    command.main(words)


def run(module: str, words: list[str]) -> None:
    """Run a module as `python -m` does, with these words as its command line."""
    package, dot, name = module.partition(".")
    sys.argv = [module, *words]
    runpy.run_module(find(package).name + dot + name, run_name="__main__", alter_sys=True)


def find(package: str) -> importlib.machinery.ModuleSpec:
    """Return the spec of train or export: inside keras_sae if that is installed, beside it in a bare checkout.

    Another copy of them that is installed at the same time is ignored.
    """
    places = (pathlib.Path(__file__).parent, pathlib.Path(__file__).parents[1])
    specs = (importlib.util.find_spec(name) for name in (f"keras_sae.{package}", package))
    return next(spec for spec in specs if spec and pathlib.Path(str(spec.origin)).parents[1] in places)


if __name__ == "__main__":
    main()
