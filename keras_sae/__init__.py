"""Sparse autoencoders for Keras: the Stanford UFLDL classics, exact to the formula, fast, and deployable.

The public names and where they come from stand in `__init__.pyi`, which type checkers read as well.
"""

import sys

import lazy_loader

from .cli import is_own_command as _is_own_command
from .quiet import quiet_start as _quiet_start

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Keras rebuilds a saved model from the registered names of its classes, so importing keras_sae registers ours.
if not _is_own_command():
    with _quiet_start():
        from . import stack  # noqa: F401, which imports most of them
        from .data import datasets, preprocessing, readers
        from .host import splice  # noqa: F401

    # Modules that have moved are still found by their former names.
    for _module in (datasets, preprocessing, readers):
        sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module
