"""The zoo: trained models that come with this library, a run directory each, and presets of a path or the Hub."""

import difflib
import pathlib
import typing

from .. import runs
from ..errors import InputError
from .records import PRESET, RECORD, is_run

if typing.TYPE_CHECKING:
    import keras

    from ..data.datasets import LabelledImages

_INSIDE = pathlib.Path(__file__).parents[1] / "models"  # in an installed library; in a checkout, models/ is beside it
ZOO = _INSIDE if _INSIDE.is_dir() else pathlib.Path(__file__).parents[2] / "models"
FORMER = {"mnist_784_200_200_10": "mnist_stacked"}  # names of earlier versions
HUB = "hf://"
FILES = (RECORD, "metrics.json", PRESET, "model.keras", runs.PRETRAINED)  # what is read of a repository on the Hub


def list_presets() -> list[str]:
    """Return the names of the presets that come with this library, sorted."""
    return sorted(path.parent.name for path in ZOO.glob(f"*/{PRESET}"))


def sample_digits() -> "LabelledImages":
    """Return 1,000 real digits that come with this library, 800 to train on and 200 to test with, always the same.

    They are every tenth of MNIST's test images, which the presets' exports are checked on.

    >>> digits = keras_sae.sample_digits()
    >>> digits.x_train.shape, digits.y_train.shape  # pixels in [0, 1]; classes 0 to 9
    ((800, 784), (800,))
    """
    from ..data.datasets import LabelledImages

    x, y = runs.load_examples(ZOO / "mnist_stacked")
    if y is None:
        raise InputError(f"Expected the labels of the digits. Received: {ZOO} without them. Install it again.")
    return LabelledImages(x[:800], y[:800], x[800:], y[800:], (28, 28), "1,000 digits that come with keras_sae")


def find(name: runs.Path) -> pathlib.Path:
    """Return the run directory of a preset, of a path or of an address on the Hugging Face Hub, which is downloaded.

    Raises:
        InputError: there is neither a preset nor a run of this name.
    """
    if str(name).startswith(HUB):
        from ..interchange import hub

        directory = hub.fetched_files(str(name), FILES)
        if not is_run(directory):
            raise InputError(
                f"Expected a preset, with {RECORD} and model.keras, in {name}. Received: a repository without. Of "
                "another library's sparse autoencoder, load_sae reads the files."
            )
        return directory
    presets = list_presets()
    known = FORMER.get(str(name), str(name))
    if known in presets:
        return ZOO / known
    if is_run(name):
        return pathlib.Path(name)
    near = difflib.get_close_matches(str(name), presets, n=1)
    question = f" Did you mean {near[0]}?" if near else ""
    raise InputError(
        f"Expected one of the presets {', '.join(presets)}, or the directory of a run, or hf://user/repository. "
        f"Received: {str(name)!r}.{question}"
    )


def from_preset(name: runs.Path, load_weights: bool = True, part: str = "model") -> "keras.Model":
    """Return the trained model of a preset: an autoencoder, a stack or a classifier.

    Args:
        name: of a preset, see `list_presets`; or the directory of a run; or "hf://user/repository[@revision]" on the
            Hugging Face Hub, which needs `pip install 'keras-sae[interchange]'`.
        load_weights: whether it has the weights as trained. If not, it has those that a training begins with, while
            layers that do not learn, such as the whitening of inputs, have theirs.
        part: "model", or "autoencoder": of a classifier, the autoencoder or stack as it was before the labels.

    Raises:
        InputError: there is neither a preset nor a run of this name; its model cannot be read; the file is not the one
            that was published, by its sha256; or it has no autoencoder.

    >>> classifier = keras_sae.from_preset("mnist_stacked")
    >>> codes = keras_sae.from_preset("mnist_stacked", part="autoencoder").transform(x)
    """
    if part not in ("model", "autoencoder"):
        raise InputError(f"Expected `part` as model or autoencoder. Received: {part!r}.")
    directory = find(name)
    model = (runs.load_pretrained(directory) if part == "autoencoder" else None) or runs.load(directory)
    if part == "autoencoder" and not hasattr(model, "reconstruct"):
        raise InputError(f"Expected a preset with an autoencoder. Received: {name}, a classifier that kept none.")
    if load_weights:
        return model
    from .model_files import fresh

    return fresh(model)
