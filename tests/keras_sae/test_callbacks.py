import keras
import numpy as np
import pytest

import keras_sae
from keras_sae import KLSparsity
from keras_sae.callbacks import ProgressBar, SparsityMonitor, TensorBoard, mean_activations
from tests.keras_sae.conftest import autoencoder, two_layers


@pytest.fixture
def events():
    """Reads the event files of a folder."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def read(folder):
        accumulator = reader.EventAccumulator(str(folder), size_guidance={reader.TENSORS: 0})
        accumulator.Reload()
        return accumulator

    return read


def scalars(accumulator, name):
    """{step: value} of a scalar."""
    import tensorflow as tf

    return {e.step: float(tf.make_ndarray(e.tensor_proto)) for e in accumulator.Tensors(name)}


def picture(event):
    """The pixels of an image event."""
    import tensorflow as tf

    _width, _height, png = tf.make_ndarray(event.tensor_proto)
    return np.squeeze(tf.io.decode_png(png).numpy())


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3)], ids=["grey", "colour"])
@pytest.mark.parametrize(("iterations", "steps"), [(4, [2, 4]), (5, [2, 4, 5])])
def test_tensorboard_in_fit_lbfgs_writes_scalars_and_the_features(x, tmp_path, events, iterations, steps, shape):
    """Every other time, and at the end."""
    ae = autoencoder()
    board = TensorBoard(tmp_path, shape=shape, every=2)
    history = keras_sae.fit_lbfgs(ae, x, max_iterations=iterations, callbacks=[board], verbose=0).history
    found = events(tmp_path)
    for name, values in history.items():
        assert scalars(found, name) == pytest.approx(dict(enumerate(values, 1)), rel=1e-6)
    pictures = found.Tensors("features")
    assert [event.step for event in pictures] == steps
    np.testing.assert_array_equal(picture(pictures[-1]), keras_sae.display_network(ae.kernel, shape))


def test_tensorboard_in_fit(x, tmp_path, events):
    ae = autoencoder(dtype="float32")
    ae.compile()
    history = ae.fit(x, epochs=2, verbose=0, callbacks=[SparsityMonitor(x), TensorBoard(tmp_path)]).history
    found = events(tmp_path)
    assert "features" not in found.Tags()["tensors"]  # no shape, no pictures
    for name in ("loss", "rho_hat", "dead_units"):
        assert scalars(found, name) == pytest.approx(dict(enumerate(history[name], 1)), rel=1e-6)


@pytest.mark.parametrize("how", ["fit", "fit_lbfgs"])
def test_progress_bar_names_objective_sparsity_and_time_left(how, x, capfd):
    ae = autoencoder(dtype="float32", name="own_name")
    if how == "fit":
        ae.compile()
        monitor = SparsityMonitor(x)
        history = ae.fit(x, epochs=3, verbose=0, callbacks=[monitor, ProgressBar()])
    else:
        history = keras_sae.fit_lbfgs(ae, x, max_iterations=3)  # verbose=1 shows it
    shown = capfd.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert shown.startswith("own_name: 100%|")
    assert "3/3" in shown
    assert " left" in shown
    assert f"objective={history.history['loss'][-1]:.4g}" in shown
    assert f"rho_hat={history.history['rho_hat'][-1]:.4g}" in shown


def test_progress_bar_with_held_out_data_accuracy_and_a_title(x, labels, capfd):
    classifier = two_layers(dtype="float32").classifier(3)
    classifier.fit(x, labels, epochs=1, validation_data=(x, labels), verbose=0, callbacks=[ProgressBar("head")])
    shown = capfd.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert shown.startswith("head: 100%|")
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
