"""The Keras metric of explained variance, beside NumPy, on data far from 0 and in any batches."""

import keras
import numpy as np
import pytest

from keras_sae import SparseAutoencoder
from keras_sae.metrics import ExplainedVariance
from keras_sae.sparsity import TopK


def expected(x, xhat):
    error = ((x - xhat) ** 2).sum(axis=1).mean()
    return 1 - error / ((x**2).sum(axis=1).mean() - (x.mean(axis=0) ** 2).sum())


@pytest.mark.parametrize("mean", [0, 1000])
def test_it_is_that_of_numpy_in_any_batches(mean):
    rng = np.random.default_rng(0)
    x = mean + rng.normal(size=(50, 6))
    xhat = x + 0.5 * rng.normal(size=(50, 6))
    metric = ExplainedVariance()
    for size in (50, 7):
        metric.reset_state()
        for start in range(0, 50, size):
            metric.update_state(x[start : start + size].astype("float32"), xhat[start : start + size].astype("float32"))
        assert float(metric.result()) == pytest.approx(expected(x, xhat), abs=2e-4)


def test_the_mean_explains_nothing():
    x = np.random.default_rng(0).normal(size=(50, 6)).astype("float32")
    metric = ExplainedVariance()
    assert float(metric.result()) == 0
    metric.update_state(x, np.broadcast_to(x.mean(axis=0), x.shape))
    assert float(metric.result()) == pytest.approx(0, abs=1e-6)


def test_in_compile_and_after_saving(tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    ae = SparseAutoencoder(12, TopK(3))
    ae.compile("adam", metrics=[ExplainedVariance()])
    history = ae.fit(x, epochs=2, batch_size=64, validation_data=(x, x), verbose=0).history
    assert history["explained_variance"][-1] > history["explained_variance"][0]
    assert history["val_explained_variance"][-1] == pytest.approx(expected(x, np.asarray(ae(x))), abs=1e-4)
    ae.save(tmp_path / "ae.keras")
    loaded = keras.saving.load_model(tmp_path / "ae.keras")
    found = loaded.evaluate(x, verbose=0, return_dict=True)
    assert found["explained_variance"] == pytest.approx(history["val_explained_variance"][-1], abs=1e-5)
