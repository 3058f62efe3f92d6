"""--sparsity NAME of the training commands: each method trains a stack, a classifier on it, and exports as one."""

import numpy as np
import pytest

import keras_sae
from keras_sae import runs, sparsity
from train import features, methods, mnist

CLASSES = {
    "top_k": sparsity.TopK,
    "k_sparse": sparsity.TopK,
    "batch_top_k": sparsity.BatchTopK,
    "matryoshka": sparsity.MatryoshkaBatchTopK,
    "jump_relu": sparsity.JumpReLU,
    "gated": sparsity.Gated,
    "winner_take_all": sparsity.WinnerTakeAll,
    "l1": sparsity.L1,
    "kl": sparsity.KLSparsity,
}
OFTEN = ("batch_top_k",)  # tested; the others, which tests of the library train, with --run-slow


def test_every_method_has_a_name():
    assert {name: type(methods.method_of(name, 3, 20, 100)) for name in methods.METHODS} == CLASSES


def test_methods_of_the_largest_units_begin_with_more_of_them():
    for name in methods.METHODS:
        autoencoder = methods.autoencoder_of(name, 3, 20, "one", 100)
        assert getattr(autoencoder.sparsity, "k_start", None) == (12 if name in methods.LARGEST else None)
        assert autoencoder.input_scale == (name != "kl")


def test_the_published_k_sparse_keeps_more_units_afterwards():
    method = methods.method_of("k_sparse", 8, 20, 100)
    assert (method.k, method.k_inference, method.relu) == (8, 20, False)
    assert (method.k_start, method.anneal) == (20, 30)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in OFTEN else pytest.mark.slow) for n in methods.BY_ACTIVE]
)
def test_a_stack_of_each_method_on_digits(name, idx_folder, tmp_path):
    out = tmp_path / "run"
    config = mnist.Config(
        data=str(idx_folder), out=str(out), units=(30, 20), sparsity=name, active=4, optimizer="adam", max_iterations=1
    )
    metrics = mnist.run(config, verbose=0)
    assert {"l0_1", "explained_variance_1", "dead_units_1", "l0_2", "accuracy_greedy"} <= metrics.keys()
    stack = runs.load_pretrained(out)
    assert [type(autoencoder.sparsity) for autoencoder in stack.autoencoders] == [CLASSES[name]] * 2
    codes = keras_sae.predict_in_chunks(runs.load_encoder(out), runs.load_examples(out)[0])
    assert (codes == 0).any()
    assert "units of an example" in (out / "README.md").read_text()


def test_features_of_own_data_by_a_method(tmp_path):
    rows = np.random.default_rng(0).normal(size=(80, 3)) @ np.random.default_rng(1).normal(size=(3, 12))
    np.save(tmp_path / "x.npy", rows.astype("float32"))
    settings = {"units": (16,), "sparsity": "top_k", "active": 3, "optimizer": "adam", "max_iterations": 200}
    config = features.Config(data=(str(tmp_path / "x.npy"),), out=str(tmp_path / "run"), **settings)
    metrics = features.run(config, verbose=0)
    assert metrics["l0_1"] <= 3
    assert metrics["error_held_out"] < 0.5 * metrics["error_mean_held_out"]
    assert not (tmp_path / "run" / "rho_hat.png").exists()  # there is no rho to compare with
    encoder = runs.load_encoder(tmp_path / "run")
    assert (keras_sae.predict_in_chunks(encoder, rows.astype("float32")) != 0).sum(axis=1).max() <= 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--sparsity top_k expects --optimizer adam beside it. Received: lbfgs"),
        ({"optimizer": "adam", "active": 20}, "--active expects 1 or more, and fewer than --units. Received: 20"),
        ({"optimizer": "adam", "active": 0}, "--active expects 1 or more"),
        ({"optimizer": "adam", "cluster": "local"}, "--sparsity top_k expects no --cluster beside it"),
    ],
)
def test_settings_that_do_not_suit_a_method(settings, message):
    for config, more in ((mnist.Config, {}), (features.Config, {"data": ("x.npy",)})):
        with pytest.raises(ValueError, match=message):
            config(units=(30, 20), sparsity="top_k", **settings, **more)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activation", "tanh"),
        ("loss", "cross-entropy"),
        ("corruption", 0.1),
        ("tied", True),
        ("rho", 0.2),
        ("beta", 0.5),
    ],
)
def test_settings_of_the_notes_that_methods_do_not_have(name, value):
    with pytest.raises(ValueError, match=f"--{name} expects none beside --sparsity top_k. Received: {value}"):
        mnist.Config(sparsity="top_k", optimizer="adam", **{name: value})


def test_features_refuse_them_as_well():
    with pytest.raises(ValueError, match=r"--weight-decay expects none beside --sparsity top_k\. Received: 0\.1"):
        features.Config(data=("x.npy",), sparsity="top_k", optimizer="adam", weight_decay=0.1)


def test_a_method_has_units_enough_for_those_that_are_to_be_active():
    def units(columns, **settings):
        return features.default_units(features.Config(data=("x.csv",), **settings), columns)

    assert units(4) == 8
    assert units(4, sparsity="top_k", optimizer="adam") == 100  # four times 25 active ones
    assert units(500, sparsity="top_k", optimizer="adam") == 200
