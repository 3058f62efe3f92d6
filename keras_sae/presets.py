"""The zoo: trained models that come with this library, a run directory each."""

import pathlib
import typing

from . import runs
from .errors import InputError

if typing.TYPE_CHECKING:
    import keras

    from .data.datasets import LabelledImages

_INSIDE = pathlib.Path(__file__).parent / "models"  # in an installed library; in a checkout, models/ is beside it
ZOO = _INSIDE if _INSIDE.is_dir() else pathlib.Path(__file__).parents[1] / "models"


def list_presets() -> list[str]:
    """Return the names of the presets, sorted."""
    return sorted(path.parent.name for path in ZOO.glob(f"*/{runs.RECORD}"))


def sample_digits() -> "LabelledImages":
    """Return 1,000 real digits that come with this library, 800 to train on and 200 to test with, always the same.

    They are every tenth of MNIST's test images, which the presets' exports are checked on.

    >>> digits = keras_sae.sample_digits()
    >>> digits.x_train.shape, digits.y_train.shape  # pixels in [0, 1]; classes 0 to 9
    ((800, 784), (800,))
    """
    from .data.datasets import LabelledImages

    x, y = runs.load_examples(ZOO / "mnist_784_200_200_10")
    if y is None:
        raise InputError(f"Expected the labels of the digits. Received: {ZOO} without them. Install it again.")
    return LabelledImages(x[:800], y[:800], x[800:], y[800:], (28, 28), "1,000 digits that come with keras_sae")


def find(name: runs.Path) -> pathlib.Path:
    """Return the run directory of a preset, or of a path.

    Raises:
        InputError: there is neither a preset nor a run of this name.
    """
    presets = list_presets()
    if name in presets:
        return ZOO / name
    if runs.is_run(name):
        return pathlib.Path(name)
    raise InputError(
        f"Expected one of the presets {', '.join(presets)}, or the directory of a run. Received: {str(name)!r}."
    )


def from_preset(name: runs.Path) -> "keras.Model":
    """Return the trained model of a preset, or of the run directory at a path.

    >>> classifier = keras_sae.from_preset("mnist_784_200_200_10")

    Raises:
        InputError: there is neither a preset nor a run of this name, or its model cannot be read.
    """
    return runs.load(find(name))
