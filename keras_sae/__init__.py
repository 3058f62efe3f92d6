"""Sparse autoencoders for Keras: the Stanford UFLDL classics, exact to the formula, fast, and deployable.

The public names and where they come from stand in `__init__.pyi`, which type checkers read as well.
"""

import pathlib
import sys

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _is_own_command() -> bool:
    """Return whether this process runs a command of ours, which answers --help before it loads Keras."""
    here, arguments = pathlib.Path(__file__).parent, getattr(sys, "argv", None) or [""]
    if pathlib.PurePath(arguments[0]).stem == "keras-sae":
        return True
    flag, module = sys.orig_argv[-len(arguments) - 1 :][:2] if len(sys.orig_argv) > len(arguments) else ("", "")
    ours = ("keras_sae", "train", "export") if (here.parent / "pyproject.toml").is_file() else ("keras_sae",)
    return flag == "-m" and module.split(".")[0] in ours


# Keras rebuilds a saved model from the registered names of its classes, so importing keras_sae registers ours.
if not _is_own_command():
    from . import stack  # noqa: F401, which imports all of them
    from .data import datasets, preprocessing, readers

    # Modules that have moved are still found by their former names.
    for _module in (datasets, preprocessing, readers):
        sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module
