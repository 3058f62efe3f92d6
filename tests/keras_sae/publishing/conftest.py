"""Two small runs, and presets made of them without exporting, which takes a minute."""

import numpy as np
import pytest

import keras_sae
from keras_sae.publishing import exports, from_run
from keras_sae.sparsity import TopK

EXPORTS = {
    "saved_model/1": {"bytes": 170_000, "difference": 2e-7, "root_mean_square": 5e-8, "accuracy": None},
    "encoder_int8.tflite": {"refused": "Expected encoder_int8.tflite within 0.05 of Keras. Received: 0.07."},
}
SAID = {
    "title": "Numbers | of a test",
    "data": "numbers",
    "data_license": "none needed",
    "use": "tests",
    "limits": "tests alone",
    "headline": "explained_variance",
    "hardware": "paper",
}
CONFIG = {
    "command": "python -m train.nothing --out runs/nothing --data /home" + "/me/x.npy",  # as no source may hold it
    "data": "x.npy in /home" + "/me/data; 20 rows",
    "settings": {"out": "runs/nothing", "seed": 0, "units": [8]},
}
METRICS = {"explained_variance": 0.75, "seconds_total": 3.2, "dead_units": 1}


def small_run(directory, config=CONFIG, metrics=METRICS, scale=1.0, **rows):
    """Write a run of a dictionary of 8 units, with random weights, on rows of 6 numbers."""
    random = np.random.default_rng(0)
    ae = keras_sae.SparseAutoencoder(8, TopK(3), started=True)
    ae.build((None, 6))
    for weight in ae.trainable_variables:
        weight.assign(scale * random.standard_normal(weight.shape))
    rows = {"examples": random.standard_normal((20, 6)), **rows}
    keras_sae.save(ae, directory, config=dict(config), metrics=dict(metrics), **rows)
    return directory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("runs") / "nothing")


@pytest.fixture(scope="module", autouse=True)
def _not_exported():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exports, "measure", lambda run, out: EXPORTS)
        yield


@pytest.fixture(scope="module")
def preset(run, tmp_path_factory):
    """The directory of a preset that is called numbers."""
    return from_run.publish(run, "numbers", tmp_path_factory.mktemp("zoo"), SAID)
