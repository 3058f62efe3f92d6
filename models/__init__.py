"""The zoo: trained models with their measured numbers, one run directory each.

>>> import models
>>> models.list_presets()
['mnist_784_200_200_10']
>>> classifier = models.from_preset("mnist_784_200_200_10")
"""

import pathlib

FOLDER = pathlib.Path(__file__).parent


def list_presets():
    """Names of the presets, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def from_preset(name):
    """The trained model of a preset, a keras.Model.

    Raises:
        ValueError: there is no preset of this name.
    """
    import keras_sae

    if name not in list_presets():
        raise ValueError(f"Expected one of the presets {', '.join(list_presets())}. Received: {name!r}")
    return keras_sae.load(FOLDER / name)
