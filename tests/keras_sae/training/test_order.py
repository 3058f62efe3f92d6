"""Many minibatches in one compiled loop: what one call for each minibatch gives, and when it is used."""

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae import KLSparsity, SparseAutoencoder
from keras_sae.errors import DivergedError
from keras_sae.training import checkpoints, order
from tests.keras_sae.conftest import same_weights

ROWS = np.random.default_rng(0).random((75, 6)).astype("float32")
LABELS = np.arange(75) % 3
WEIGHTS = np.random.default_rng(1).random(75)


@pytest.fixture
def loops(monkeypatch):
    """The models for which a loop was compiled: all, however few their steps are; a loop has 4."""
    compiled, compile_loop = [], order.compile_train_loop
    monkeypatch.setattr(order, "PAYS", 1)
    monkeypatch.setattr(order, "STEPS", 4)
    monkeypatch.setattr(order, "compile_train_loop", lambda *args: compiled.append(args[0]) or compile_loop(*args))
    return compiled


def autoencoder(**options):
    keras.utils.set_random_seed(0)
    return SparseAutoencoder(4, KLSparsity(0.1, 1.0), weight_decay=0.01, **options)


def classifier():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, "softmax")])
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def both(make, monkeypatch, *data, **options):
    """The model and its history, by loops and by a call for each minibatch."""
    results = []
    for pays in (1, 10**9):
        monkeypatch.setattr(order, "PAYS", pays)
        model = make()
        options = {"optimizer": "adam", "iterations": 3, "batch_size": 7, "verbose": 0, **options}
        results.append((model, keras_sae.fit(model, *data, **options).history))
    return results


@pytest.mark.parametrize(
    ("make", "data", "options"),
    [
        (autoencoder, (ROWS,), {}),
        pytest.param(autoencoder, (ROWS[:70],), {}, marks=pytest.mark.slow),  # no minibatch has fewer rows
        (autoencoder, (ROWS,), {"sample_weight": WEIGHTS}),
        (autoencoder, (ROWS,), {"batch_size": 100}),  # all minibatches have fewer rows
        (lambda: autoencoder(tied=True), (ROWS.astype("float64"),), {"validation_split": 0.2}),
        pytest.param(
            lambda: autoencoder(output_activation="linear"), ((9 * ROWS).astype("uint8"),), {}, marks=pytest.mark.slow
        ),
        pytest.param(classifier, (ROWS, LABELS), {"optimizer": None}, marks=pytest.mark.slow),
        (classifier, (ROWS, LABELS), {"optimizer": "sgd", "class_weight": {0: 2.0}}),
    ],
    ids=["autoencoder", "full", "weights", "few rows", "tied", "integers", "labels", "class weights"],
)
def test_a_loop_trains_as_single_steps_do(make, data, options, loops, monkeypatch):
    (looped, history), (single, expected) = both(make, monkeypatch, *data, **options)
    assert loops == [looped]
    assert history.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(history[name], expected[name], rtol=2e-5)
    for ours, theirs in zip(looped.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_noise_is_drawn_anew_at_every_step(loops):
    ae = autoencoder(corruption=0.5)
    history = keras_sae.fit(ae, ROWS, optimizer="adam", iterations=3, batch_size=7, verbose=0).history
    assert loops == [ae]
    assert len(set(history["loss"])) == 3
    assert ae.corrupt.seed_generator.state.numpy()[1] == 3 * 11  # minibatches


def test_training_goes_on_where_it_was_stopped_bit_for_bit(loops, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    options = {"optimizer": "adam", "iterations": 4, "batch_size": 7, "verbose": 0}
    undisturbed = autoencoder()
    keras_sae.fit(undisturbed, ROWS, **options)

    def stop(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=stop)]
    with pytest.raises(KeyboardInterrupt):
        keras_sae.fit(autoencoder(), ROWS, checkpoint=tmp_path / "ae.npz", callbacks=callbacks, **options)
    resumed = autoencoder()
    keras_sae.fit(resumed, ROWS, checkpoint=tmp_path / "ae.npz", **options)
    assert same_weights(resumed, undisturbed)
    assert len(loops) == 3


def test_what_keras_calls_for_each_step_is_as_before_afterwards(loops):
    ae = autoencoder()
    keras_sae.fit(ae, ROWS, optimizer="adam", iterations=1, verbose=0)
    assert ae.train_function is None
    ae.fit(ROWS, verbose=0)
    assert loops == [ae]


def test_divergence_is_found(loops):
    with pytest.raises(DivergedError, match=r"The loss of .* is nan at batch 2 of epoch 1\. Expected finite numbers"):
        keras_sae.fit(autoencoder(), np.where(np.arange(75)[:, None] == 3, np.nan, ROWS), optimizer="adam", verbose=0,
                      batch_size=7)  # fmt: skip


class Watch(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.batches = batch + 1


def test_a_callback_for_each_batch_is_called_for_each(loops):
    watch = Watch()
    keras_sae.fit(autoencoder(), ROWS, optimizer="adam", iterations=1, batch_size=7, callbacks=[watch], verbose=0)
    assert watch.batches == 11
    assert loops == []


def test_others_go_step_by_step(loops, tmp_path, monkeypatch):
    """Arrays that are not in memory or large, models without XLA or that run eagerly, and trainings of few steps."""
    np.save(tmp_path / "x.npy", ROWS)
    options = {"iterations": 1, "verbose": 0}
    keras_sae.fit(autoencoder(), np.load(tmp_path / "x.npy", mmap_mode="r"), optimizer="adam", **options)
    eager = autoencoder()
    eager.compile("adam", run_eagerly=True)
    keras_sae.fit(eager, ROWS, optimizer=None, **options)
    without_xla = autoencoder(corruption=keras.layers.GaussianNoise(0.1))
    without_xla.corrupt.supports_jit = False
    keras_sae.fit(without_xla, ROWS, optimizer="adam", **options)
    monkeypatch.setattr(order, "PAYS", 2)
    keras_sae.fit(autoencoder(), ROWS, optimizer="adam", **options)
    monkeypatch.setattr(order, "PAYS", 1)
    monkeypatch.setattr(order, "LARGEST_BYTES", ROWS.nbytes - 1)
    keras_sae.fit(autoencoder(), ROWS, optimizer="adam", **options)
    assert loops == []
