"""Several devices of one machine under JAX, simulated: test_backends.py runs this."""

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.data.batches import Chunks


@pytest.fixture
def x():
    return np.random.default_rng(0).random((60, 12))


def autoencoder(**options):
    keras.utils.set_random_seed(0)
    return keras_sae.SparseAutoencoder(5, keras_sae.KLSparsity(0.1, 3.0), weight_decay=3e-3, **options)


@pytest.fixture
def four_devices():
    with keras.distribution.DataParallel().scope():
        yield


def by_one_device_and_by_four(function):
    """What a function returns, without and with a distribution; four devices take their parts of the rows."""
    with keras.distribution.DataParallel().scope():
        shared = function()
    return function(), shared


@pytest.mark.parametrize(("chunk_size", "weights"), [(7, None), (20, np.arange(60.0))])  # 7 rows are on all devices
def test_four_devices_compute_the_objective_of_one(chunk_size, weights, x):
    def evaluate():
        ae = autoencoder(dtype="float64")
        ae.build((None, 12))
        return keras_sae.objective(ae, x, chunk_size=chunk_size, sample_weight=weights)

    one, four = by_one_device_and_by_four(evaluate)
    assert four.value == pytest.approx(one.value, rel=1e-12)
    np.testing.assert_allclose(four.rho_hat[0], one.rho_hat[0], rtol=1e-12)
    for ours, theirs in zip(four.gradients, one.gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "more"),
    [("lbfgs", {"chunk_size": 20}), ("adam", {"batch_size": 16, "sample_weight": np.arange(60.0)})],
)
def test_four_devices_train_as_one(optimizer, more, x):
    def train():
        ae = autoencoder(corruption=0.3)
        options = {"optimizer": optimizer, "iterations": 4, "verbose": 0, "validation_data": x[:20], **more}
        return keras_sae.fit(ae, x.astype("float32"), **options).history, ae.get_weights()

    (history, one), (shared_history, four) = by_one_device_and_by_four(train)
    for name in history:  # "sparsity" is of the mean over the entire batch: those of its parts have a higher one
        np.testing.assert_allclose(shared_history[name], history[name], rtol=1e-4)
    for ours, theirs in zip(four, one, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_rows_are_spread_over_devices(four_devices, x):
    [chunk] = Chunks(x)
    assert [len(shard.data) for shard in chunk.x.addressable_shards] == [15] * 4
    ae = autoencoder()
    ae.build((None, 12))
    assert ae.transform(x[:7]).shape == (7, 5)  # which four devices cannot share


@pytest.mark.parametrize(("rows", "batch_size"), [(60, 10), (59, 16)])
def test_rows_without_equal_parts_for_four_devices_are_refused(rows, batch_size, four_devices, x):
    message = f"that 4 divides. Received: batch_size={batch_size} and {rows} rows. Leave the last rows out, or use opti"
    options = {"optimizer": "adam", "iterations": 1, "verbose": 0}
    with pytest.raises(ValueError, match=message):
        keras_sae.fit(autoencoder(), x[:rows], batch_size=batch_size, **options)
    with pytest.raises(ValueError, match=message):
        keras_sae.fit(autoencoder(), x, validation_data=x[:rows], validation_batch_size=batch_size, **options)
