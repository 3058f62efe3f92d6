"""Models of others: damaged ones, and ones that mean harm, which are refused before they take memory or do anything."""

import io
import json
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.errors import InputError
from keras_sae.runs import model_files
from keras_sae.sparsity import TopK
from tests.keras_sae.conftest import autoencoder, same_weights, two_layers


@pytest.fixture
def path(tmp_path):
    """A small autoencoder's file."""
    model_files.save_model(autoencoder(dtype="float32"), tmp_path / "model.keras")
    return tmp_path / "model.keras"


def rewrite(path, change=None, **members):
    """Write the archive again, with members replaced and its config changed in place by a function."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()} | members
    if change:
        config = json.loads(content["config.json"])
        content["config.json"] = json.dumps(change(config) or config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def refusal(path):
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            model_files.load_model(path)
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
    start = f"Expected a model that Keras can read. Received: {path}, which cannot be read: "
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(start)


def weights(change):
    """An HDF5 file that a function fills."""
    with h5py.File(file := io.BytesIO(), "w") as content:
        change(content)
    return {model_files.WEIGHTS: file.getvalue()}


@pytest.mark.parametrize("make", [autoencoder, two_layers, lambda: two_layers().classifier(3)])
def test_a_model_comes_back(make, tmp_path):
    model = make()
    model_files.save_model(model, tmp_path / "model.keras")
    copy = model_files.load_model(tmp_path / "model.keras")
    assert type(copy) is type(model)
    assert same_weights(copy, model)
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_code_is_not_run(path, tmp_path):
    mark = tmp_path / "ran"
    model = keras.Sequential([keras.Input((6,)), keras.layers.Lambda(lambda x: x)])
    model.save(path)
    assert "unsafe" in refusal(path)
    for gadget in (
        {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"},
        {"module": "os", "class_name": "system", "config": {"command": f"touch {mark}"}, "registered_name": None},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": str(tmp_path)}},
        {"class_name": "__lambda__", "config": {"value": "4wAAAAA="}},
    ):
        rewrite(path, lambda config, gadget=gadget: gadget)
        refusal(path)
    assert not mark.exists()


def test_a_config_that_asks_for_terabytes(path):
    """Keras would take the memory, and then find that the file holds other weights."""

    def enlarge(config):
        config["config"]["units"] = 10**7
        config["build_config"]["input_shape"] = [None, 10**5]

    rewrite(path, enlarge)
    assert refusal(path) == "its config asks for more weights than it holds."
    add_weight = keras.layers.Layer.add_weight
    with pytest.raises(InputError):
        model_files.load_model(path)
    assert keras.layers.Layer.add_weight is add_weight  # which is what it was


@pytest.mark.parametrize(
    ("fill", "cause"),
    [
        (
            lambda file: file.create_dataset("a/kernel", (10**9, 10**3), "f4"),
            "its weights declare 4,000,000,000,000 bytes",
        ),
        (
            lambda file: file.create_dataset("a", (10**9,), "f4", chunks=(100,)),
            "its weights declare 4,000,000,000 bytes",
        ),
        (lambda file: file.__setitem__("a", h5py.ExternalLink("/etc/passwd", "/")), "//a in its weights is a link"),
        (lambda file: file.__setitem__("a", h5py.SoftLink("/b")), "//a in its weights is a link"),
        (lambda file: file.create_dataset("a", (3,), "u1", external=[("/etc/passwd", 0, 3)]), "lies in another file"),
        (lambda file: file.create_group("a/" * 3000), ""),
    ],
)
def test_weights_that_are_none(path, fill, cause):
    rewrite(path, **weights(fill))
    assert cause in refusal(path)


def test_a_tree_of_weights_without_end(path):
    def loop(file):
        group = file.create_group("a")
        group["b"] = group["c"] = group

    assert model_files.count_weights(weights(loop)[model_files.WEIGHTS]) == 0


@pytest.mark.parametrize(
    "nest",
    [
        lambda: b"[" * 10**6,
        lambda: b'{"a":' * 10**6,
        lambda: b'"text"',
        lambda: b"3",
        lambda: b"{}",
        lambda: b"\xff",
    ],
)
def test_configs_that_are_none(path, nest):
    rewrite(path, **{"config.json": nest()})
    refusal(path)


def test_what_is_no_model_and_a_loss_that_is_none(path):
    rewrite(path, lambda config: {**config, "compile_config": {"loss": 5, "optimizer": []}})
    refusal(path)
    rewrite(path, lambda config: {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}})
    refusal(path)
    rewrite(path, lambda config: {"module": "builtins", "class_name": "dict", "config": {}})
    refusal(path)


def test_names_that_lie_outside(path, tmp_path):
    rewrite(path, **{"assets/../../../x": b"mine", "assets/y": b""})
    assert "it holds the name 'assets/../../../x', which lies outside of it" in refusal(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]


def test_weights_of_another_model(path):
    rewrite(path, **weights(lambda file: file.create_dataset("a", data=np.zeros(3))))
    refusal(path)


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_a_model_that_is_packed_has_its_weights_and_an_optimizer_as_before_the_training(tmp_path, dtype):
    x = np.random.default_rng(0).random((40, 30), "float32")
    ae = keras_sae.SparseAutoencoder(20, dtype="float32")
    ae.compile(keras.optimizers.Adam(0.003))
    ae.fit(x, x, epochs=2, verbose=0)
    model_files.save_model(ae, tmp_path / "whole.keras")
    model_files.repack(tmp_path / "whole.keras", tmp_path / "packed.keras", dtype)
    packed = keras.saving.load_model(tmp_path / "packed.keras")  # without a warning
    for found, weight in zip(packed.get_weights(), ae.get_weights(), strict=True):
        exact = dtype is None or weight.ndim == 1
        np.testing.assert_array_equal(found, weight if exact else weight.astype(dtype).astype("float32"))
    steps, rate, *moments = (variable.numpy() for variable in packed.optimizer.variables)
    assert (steps, rate) == (0, np.float32(0.003))
    assert len(moments) == 8
    assert not any(moment.any() for moment in moments)
    size = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert size["packed.keras"] < 0.6 * size["whole.keras"]  # moments are two thirds of the numbers


def test_a_count_that_half_the_bits_cannot_hold_stays_whole(tmp_path):
    ae = keras_sae.SparseAutoencoder(8, TopK(3), started=True)
    ae.build((None, 6))
    ae.sparsity.silent.assign(np.full(8, 70_001))  # examples
    model_files.save_model(ae, tmp_path / "whole.keras")
    model_files.repack(tmp_path / "whole.keras", tmp_path / "packed.keras", "float16")
    packed = model_files.load_model(tmp_path / "packed.keras")
    np.testing.assert_array_equal(packed.sparsity.silent.numpy(), np.full(8, 70_001, "float32"))
