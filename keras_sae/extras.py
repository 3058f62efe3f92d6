"""Optional packages: which extra of this library installs each, and the error that says so if it is missing."""

import importlib
import importlib.util
import types

from .errors import MissingPackageError

_EXTRAS = {  # module: (package, extra of this library that installs it)
    "PIL": ("pillow", "data"),
    "fsspec": ("fsspec", "cluster"),
    "huggingface_hub": ("huggingface_hub", "interchange"),
    "jinja2": ("jinja2", "report"),
    "matplotlib": ("matplotlib", "train"),
    "mlxtend": ("mlxtend", "train"),
    "pyarrow": ("pyarrow", "data"),
    "ray": ("ray", "cluster"),
    "safetensors": ("safetensors", "data"),
    "sklearn": ("scikit-learn", "sklearn"),
    "tensorboard": ("tensorboard", "train"),
    "tensorflow_datasets": ("tensorflow-datasets", "train"),
    "torch": ("torch", "interchange-torch"),
    "vl_convert": ("vl-convert-python", "report"),
}
_OF_REPORTS = dict.fromkeys(("jinja2", "vl_convert", "PIL"), "write a report")
_OF_RUNS = {"matplotlib": "draw the pictures of a run", "tensorboard": "write the logs of a run"}


def imported(name: str, purpose: str = "read such data with") -> types.ModuleType:
    """Return the module of this name, which an optional package provides.

    Raises:
        MissingPackageError: the package is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _missing_package(name, purpose) from error


def check(name: str, purpose: str, extra: str | None = None) -> None:
    """Raise MissingPackageError unless there is a module of this name; do not import it.

    extra: of this library that brings it, if several do.
    """
    if importlib.util.find_spec(name) is None:
        raise _missing_package(name, purpose, extra)


def check_for_runs() -> None:
    """Raise MissingPackageError unless all that a training command uses after its training has begun is installed."""
    for name, purpose in _OF_RUNS.items():
        check(name, purpose)


def check_for_reports() -> None:
    """Raise MissingPackageError unless all that a report is made with is installed."""
    for name, purpose in _OF_REPORTS.items():
        check(name, purpose, "report")


def _missing_package(name: str, purpose: str, extra: str | None = None) -> MissingPackageError:
    package, usual = _EXTRAS[name.split(".")[0]]
    return MissingPackageError(
        f"Expected {package} to {purpose}. Received: Python without it. pip install 'keras-sae[{extra or usual}]'"
    )
