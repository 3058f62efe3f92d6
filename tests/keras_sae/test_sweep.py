"""Several autoencoders in one pass over the data become what each becomes alone."""

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae import KLSparsity, SparseAutoencoder, Sweep
from keras_sae.sparsity import BatchTopK, TopK
from tests.keras_sae.conftest import FEATURES, Batches, raises, same_weights

KINDS = {
    "kl": lambda: SparseAutoencoder(5, KLSparsity(0.1, 3.0), name="kl"),
    "top_k": lambda: SparseAutoencoder(8, TopK(2), input_scale=True, name="top_k"),
    "batch_top_k": lambda: SparseAutoencoder(9, BatchTopK(3), name="batch_top_k"),
}


def models():
    """The autoencoders with weights that do not depend on which are made before."""
    found = []
    for make in KINDS.values():
        keras.utils.set_random_seed(0)
        found.append(make())
        found[-1].build((None, FEATURES))
    return found


def train(model, data, **options):
    return keras_sae.fit(model, data, optimizer=keras.optimizers.Adam(0.01), iterations=2, verbose=0, **options)


@pytest.mark.parametrize("kind", ["array", "data set"])
def test_each_becomes_what_it_becomes_alone(kind, x):
    x = x.astype("float32")
    data = x if kind == "array" else Batches(x)
    together, alone = models(), models()
    history = train(Sweep(together), data, batch_size=12).history
    for one, other in zip(together, alone, strict=True):
        own = train(other, data, batch_size=12).history
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(history[one.name], own["loss"], rtol=1e-4)
    np.testing.assert_allclose(history["loss"], sum(np.array(history[name]) for name in KINDS), rtol=1e-4)
    assert together[2].sparsity.threshold > 0  # what follows from the data at the end has done so


def test_in_one_compiled_loop(x, compiled, monkeypatch):
    monkeypatch.setattr("keras_sae.training.blocks.PAYS", 1)
    x = x.astype("float32")
    together, alone = models(), models()
    train(Sweep(together), x, batch_size=12)
    train(alone[1], x, batch_size=12)
    for a, b in zip(together[1].get_weights(), alone[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_sweep_that_was_stopped_goes_on_to_the_same_weights(x, tmp_path):
    x = x.astype("float32")
    whole, parts = models(), models()
    train(Sweep(whole), x, batch_size=12, checkpoint=tmp_path / "whole.npz")
    options = {"optimizer": keras.optimizers.Adam(0.01), "batch_size": 12, "verbose": 0}
    keras_sae.fit(Sweep(models()), x, iterations=1, checkpoint=tmp_path / "parts.npz", **options)
    train(Sweep(parts), x, batch_size=12, checkpoint=tmp_path / "parts.npz")
    assert all(same_weights(a, b) for a, b in zip(whole, parts, strict=True))


def test_losses_of_validation_data_are_measured(x):
    x = x.astype("float32")
    history = train(Sweep(models()), x, batch_size=12, validation_data=x).history
    assert {f"val_{name}" for name in KINDS} <= set(history)


def test_wrong_autoencoders():
    with raises(ValueError, "Expected a list of one or more autoencoders. Received: []"):
        Sweep([])
    same = [SparseAutoencoder(3, name="a"), SparseAutoencoder(4, name="a")]
    with raises(ValueError, "Expected autoencoders with names that differ. Received: a, a. Set name=."):
        Sweep(same)


def test_weights_of_examples_count_in_the_penalties_of_each(x):
    x, weights = x.astype("float32"), np.linspace(0.1, 3, len(x))
    together, alone = models(), models()
    train(Sweep(together), x, batch_size=12, sample_weight=weights)
    train(alone[0], x, batch_size=12, sample_weight=weights)
    for a, b in zip(together[0].get_weights(), alone[0].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_each_metric_counts_once():
    """JAX takes each of their arrays for its own."""
    sweep = Sweep(models())
    sweep.compile()
    assert [metric.name for metric in sweep.metrics] == ["loss", *KINDS]
    assert len({id(variable) for variable in sweep.metrics_variables}) == len(sweep.metrics_variables)


def test_the_fit_of_keras_begins_and_ends_as_well(x):
    together = models()
    Sweep(together).fit(x.astype("float32"), batch_size=12, epochs=1, verbose=0)
    assert together[1].started
    assert together[1].encoder.get_layer("centring").scale != 1
    assert together[2].sparsity.threshold > 0
