import keras
import numpy as np
import pytest

import keras_sae
from keras_sae import KLSparsity
from keras_sae.callbacks import ProgressBar, SparsityMonitor, mean_activations
from tests.keras_sae.conftest import autoencoder, two_layers


@pytest.mark.parametrize("how", ["fit", "fit_lbfgs"])
def test_progress_bar_names_objective_sparsity_and_time_left(how, x, capfd):
    ae = autoencoder(dtype="float32", name="own_name")
    if how == "fit":
        ae.compile()
        monitor = SparsityMonitor(x)
        history = ae.fit(x, epochs=3, verbose=0, callbacks=[monitor, ProgressBar()])
    else:
        history = keras_sae.fit_lbfgs(ae, x, max_iterations=3)  # verbose=1 shows it
    shown = capfd.readouterr().err.splitlines()[-1]
    assert shown.startswith("own_name: 100% 3/3 [")
    assert " left" in shown
    assert f"objective={history.history['loss'][-1]:.4g}" in shown
    assert f"rho_hat={history.history['rho_hat'][-1]:.4g}" in shown


def test_progress_bar_with_held_out_data_accuracy_and_a_title(x, labels, capfd):
    classifier = two_layers(dtype="float32").classifier(3)
    classifier.fit(x, labels, epochs=1, validation_data=(x, labels), verbose=0, callbacks=[ProgressBar("head")])
    shown = capfd.readouterr().err.splitlines()[-1]
    assert shown.startswith("head: 100% 1/1 [")
    for name in ("objective=", "held out=", "accuracy="):
        assert name in shown


def test_silent_training_writes_nothing(x, capfd):
    keras_sae.fit_lbfgs(autoencoder(), x, max_iterations=2, verbose=0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_sparsity_monitor_is_the_direct_mean(activation, x):
    ae = autoencoder(activation=activation, dtype="float32")
    kernel, bias, *others = ae.get_weights()
    bias[0] = -100.0  # a unit that is never active
    ae.set_weights([kernel, bias, *others])
    ae.compile()
    history = ae.fit(x, epochs=2, batch_size=9, verbose=0, callbacks=[SparsityMonitor(x)]).history
    features = np.asarray(ae.encode(x.astype("float32")), "float64")
    rates = (features if activation == "sigmoid" else (1 + features) / 2).mean(axis=0)
    assert history["rho_hat"][-1] == pytest.approx(rates.mean(), rel=1e-5)
    assert history["dead_units"] == [1, 1]


def test_mean_activations_are_those_of_the_objective(x):
    ae = autoencoder(sparsity=KLSparsity(0.1), activation="tanh")
    (expected,) = keras_sae.objective(ae, x).rho_hat
    found = mean_activations(ae, x)
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_mean_activations_without_kl_are_plain_means(x):
    ae = autoencoder(sparsity=keras.regularizers.L1(0.1), activation="relu")
    np.testing.assert_allclose(mean_activations(ae, x), np.asarray(ae.encode(x)).mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_bar_ends_with_why_training_ended_early(optimizer, x, capfd):
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(ae, "stop_training", epoch == 1))
    ae = autoencoder(dtype="float32")
    keras_sae.fit(ae, x, None, optimizer, 5, callbacks=[stop])
    assert "a callback set stop_training at iteration 2" in capfd.readouterr().err
    if optimizer == "lbfgs":
        history = keras_sae.fit(ae, x, iterations=300, tolerance=1e-3)
        assert f", converged at iteration {len(history.epoch)}" in capfd.readouterr().err
