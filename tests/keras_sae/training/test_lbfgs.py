import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from benchmarks import classic
from keras_sae import KLSparsity
from keras_sae.errors import DivergedError, InputError
from keras_sae.training import checkpoints
from keras_sae.training.full_batch import ObjectiveFunction
from tests.keras_sae.conftest import autoencoder, raises, randomise, same_weights, two_layers


def fit(model, *data, **options):
    return keras_sae.fit_lbfgs(model, *data, **{"max_iterations": 5, "verbose": 0, **options})


class At(keras.callbacks.Callback):
    """Does something at the end of one iteration, counted from 0."""

    def __init__(self, iteration, action):
        super().__init__()
        self.iteration, self.action = iteration, action

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.iteration:
            self.action(self.model)


def interrupt(model):
    raise KeyboardInterrupt


def fail(model):
    raise RuntimeError("from the callback")


def stop(model):
    model.stop_training = True


STEP = {"gradient_norm", "step_length", "evaluations"}


@pytest.mark.parametrize("tied", [False, True])
def test_lowers_the_objective_and_says_so(tied, x):
    ae = autoencoder(tied=tied, sparsity=KLSparsity(0.1, 3.0), weight_decay=0.01)
    before = keras_sae.objective(ae, x).value
    history = fit(ae, x, chunk_size=7)
    after = keras_sae.objective(ae, x)
    loss = history.history["loss"]
    assert isinstance(history, keras.callbacks.History)
    assert set(history.history) == {"loss", "reconstruction", "weight_decay", "sparsity", "rho_hat"} | STEP
    assert len(loss) == len(history.epoch) == 5
    assert all(later < earlier for earlier, later in zip([before, *loss], loss, strict=False))
    assert loss[-1] == pytest.approx(after.value, rel=1e-12)
    assert history.history["rho_hat"][-1] == pytest.approx(after.rho_hat[0].mean(), rel=1e-12)
    for part, value in after.parts.items():
        assert history.history[part][-1] == pytest.approx(value, rel=1e-9)
    norm = np.linalg.norm(np.concatenate([gradient.ravel() for gradient in after.gradients]))
    assert history.history["gradient_norm"][-1] == pytest.approx(norm, rel=1e-9)
    assert history.result["evaluations"] == 1 + sum(history.history["evaluations"]) >= 6
    assert "limit of iterations" in history.result["stopped"]


def test_follows_the_numpy_twin(x):
    ae = autoencoder(sparsity=KLSparsity(0.1, 3.0), weight_decay=3e-3)
    twin, start = classic.Autoencoder(), ae.get_weights()
    weights, cost, (iterations, _) = classic.minimize(lambda w: twin.cost(w, x), start, iterations=8)
    loss = fit(ae, x, max_iterations=8).history["loss"]
    assert len(loss) == iterations == 8
    assert loss[-1] == pytest.approx(cost, rel=1e-8)
    for found, expected in zip(ae.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_rho_hat_without_kl(x):
    history = fit(autoencoder(sparsity=keras.regularizers.L1(0.01)), x).history
    assert set(history) == {"loss", "reconstruction", "weight_decay", "sparsity"} | STEP


def test_larger_beta_brings_rho_hat_nearer_rho(x):
    distances = []
    for beta in (0.0, 0.1, 10.0):
        ae = autoencoder(sparsity=KLSparsity(0.2, beta), weight_decay=0.0)
        fit(ae, x, max_iterations=30)
        distances.append(np.abs(keras_sae.objective(ae, x).rho_hat[0] - 0.2).max())
    assert distances[0] > 2 * distances[1] > 4 * distances[2]


def test_stops_at_the_tolerance(x):
    history = fit(autoencoder(), x, max_iterations=50, tolerance=0.9)
    assert len(history.history["loss"]) == 1
    assert "relative reduction" in history.result["stopped"]


def test_frozen_layers_stay_as_they_are(x):
    ae = autoencoder()
    ae.output_layer.trainable = False
    before = ae.get_weights()
    fit(ae, x)
    changed = [not np.array_equal(a, b) for a, b in zip(before, ae.get_weights(), strict=True)]
    assert changed == [True, True, False, False]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_callbacks_see_the_weights_of_the_iteration_that_ended(dtype, x):
    """Otherwise checkpoints, pictures and monitors would show the initial weights."""
    ae, seen = autoencoder(dtype=dtype), []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((logs["loss"], keras_sae.objective(ae, x).value))
    )
    fit(ae, x, callbacks=[record])
    assert len(seen) == 5
    for logged, of_the_model in seen:
        assert of_the_model == pytest.approx(logged, rel=1e-6)


def test_every_iteration_is_one_epoch_for_callbacks(x):
    events = []
    record = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: events.append("begin"),
        on_epoch_begin=lambda epoch, logs: events.append(f"{epoch} begins"),
        on_epoch_end=lambda epoch, logs: events.append(f"{epoch} ends"),
        on_train_end=lambda logs: events.append("end"),
    )
    fit(autoencoder(), x, max_iterations=2, callbacks=[record])
    assert events == ["begin", "0 begins", "0 ends", "1 begins", "1 ends", "end"]


def test_stop_training_stops(x):
    ae, twin = autoencoder(), autoencoder()
    history = fit(ae, x, max_iterations=50, callbacks=[At(2, stop)])
    assert len(history.history["loss"]) == 3
    assert history.history["loss"][-1] == pytest.approx(keras_sae.objective(ae, x).value, rel=1e-12)
    assert "stop_training" in history.result["stopped"]
    fit(twin, x, max_iterations=3)
    assert same_weights(ae, twin)
    assert len(fit(ae, x, max_iterations=2).history["loss"]) == 2  # the next training is not stopped by the last


@pytest.mark.parametrize(("action", "error"), [(interrupt, KeyboardInterrupt), (fail, RuntimeError)])
def test_interrupted_training_leaves_the_last_completed_iteration(action, error, x):
    ae, twin, ended = autoencoder(), autoencoder(), []
    watch = keras.callbacks.LambdaCallback(on_train_end=lambda logs: ended.append(True))
    with pytest.raises(error):
        fit(ae, x, max_iterations=50, callbacks=[At(2, action), watch])
    fit(twin, x, max_iterations=3)
    assert same_weights(ae, twin)
    assert ended == [True]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_data_that_are_not_finite(bad, x):
    ae = autoencoder()
    before = ae.get_weights()
    x[3, 2] = bad
    expected = ["The objective of", "at iteration 1 (terms: {'reconstruction':", "Expected finite data", "look for NaN"]
    with raises(FloatingPointError, *expected):
        fit(ae, x)
    assert all(np.array_equal(a, b) for a, b in zip(before, ae.get_weights(), strict=True))


def test_denoising_trains_on_noise_drawn_once(x):
    """The same corrupted rows in every evaluation: the objective falls at every iteration, on clean targets."""
    ae, twin = autoencoder(corruption=0.4), autoencoder(corruption=0.4)
    ae.corrupt.seed_generator.state.assign([5, 0])
    twin.corrupt.seed_generator.state.assign([5, 0])
    corrupted = keras.ops.convert_to_numpy(twin.corrupt(x, training=True))
    before = keras_sae.objective(ae, corrupted, x).value
    loss = fit(ae, x).history["loss"]
    assert 0.3 < np.mean(corrupted == 0) < 0.5
    assert all(later < earlier for earlier, later in zip([before, *loss], loss, strict=False))
    assert loss[-1] == pytest.approx(keras_sae.objective(ae, corrupted, x).value, rel=1e-12)
    assert abs(loss[-1] - keras_sae.objective(ae, x).value) > 1e-4


def test_denoising_needs_an_array(x):
    data = tf.data.Dataset.from_tensor_slices(x).batch(7)
    with raises(ValueError, "L-BFGS on a denoising autoencoder needs x as an array", "corrupts once and keeps"):
        fit(autoencoder(corruption=0.5), data)


def test_dataset_gives_the_in_memory_result(x):
    one, other = autoencoder(), autoencoder()
    fit(one, x, chunk_size=7)
    fit(other, tf.data.Dataset.from_tensor_slices(x).batch(7))
    assert same_weights(one, other)


def test_classifier_learns_its_labels(x):
    labels = (x[:, 0] > 0.5).astype("int64")
    classifier = two_layers(dtype="float32").classifier(2, weight_decay=1e-4)
    before = classifier.get_layer("encoder").get_weights()
    fit(classifier, x, labels, max_iterations=60)
    assert classifier.evaluate(x, labels, verbose=0)[1] == 1.0
    assert not np.allclose(before[0], classifier.get_layer("encoder").get_weights()[0])


def test_head_alone(x, labels):
    classifier = two_layers().classifier(3, weight_decay=0.01)
    classifier.get_layer("encoder").trainable = False
    encoder, head = classifier.get_layer("encoder").get_weights(), classifier.get_layer("head").get_weights()
    history = fit(classifier, x, labels)
    assert history.history["loss"][-1] < history.history["loss"][0]
    for before, after in zip(encoder, classifier.get_layer("encoder").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert not np.allclose(head[0], classifier.get_layer("head").get_weights()[0])


def test_float32_model_stays_float32(x):
    ae = autoencoder(dtype="float32")
    fit(ae, x)
    assert {w.dtype for w in ae.get_weights()} == {np.dtype("float32")}


def test_unbuilt_model(x):
    ae = keras_sae.SparseAutoencoder(4)
    fit(ae, x, max_iterations=1)
    assert ae.kernel.shape == (6, 4)


# Training that goes on


RESUMABLE = {
    "plain": lambda: autoencoder(sparsity=KLSparsity(0.1, 3.0), weight_decay=0.01),
    "float32": lambda: autoencoder(dtype="float32"),
    "tied": lambda: autoencoder(tied=True),
    "L1": lambda: autoencoder(sparsity=keras.regularizers.L1(0.01)),
    "masking": lambda: autoencoder(corruption=0.4),
    "gaussian": lambda: autoencoder(corruption=keras.layers.GaussianNoise(0.3, dtype="float64")),
    "stack": two_layers,
    "classifier": lambda: randomise(two_layers().classifier(3, weight_decay=0.01)),
}


def data_for(model, x, labels):
    return (x, labels) if model.name == "classifier" else (x,)


def same_history(one, other):
    """All but the seconds."""
    assert one.history == other.history
    assert one.epoch == other.epoch
    for name in ("evaluations", "stopped"):
        assert one.result[name] == other.result[name]


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "layer_1.npz"


@pytest.mark.parametrize("kind", RESUMABLE)
def test_goes_on_to_the_same_bits(kind, x, labels, checkpoint):
    """Interrupted twice, each time in a fresh model, whose noise would be another."""
    whole, twin = RESUMABLE[kind](), RESUMABLE[kind]()
    if getattr(whole, "corrupt", None):
        for model in (whole, twin):
            model.corrupt.seed_generator.state.assign([5, 0])
    data = data_for(whole, x, labels)
    expected = fit(whole, *data, max_iterations=9)
    for iteration in (2, 6):
        with pytest.raises(KeyboardInterrupt):
            fit(twin, *data, max_iterations=9, checkpoint=checkpoint, callbacks=[At(iteration, interrupt)])
        keras.utils.set_random_seed(iteration)
        twin = RESUMABLE[kind]()
    found = fit(twin, *data, max_iterations=9, checkpoint=checkpoint)
    assert same_weights(whole, twin)
    same_history(found, expected)
    assert [len(values) for values in found.history.values()] == [9] * len(found.history)
    assert found.epoch == list(range(9))


@pytest.mark.parametrize("iteration", [0, 3, 4])
def test_goes_on_from_any_iteration(iteration, x, checkpoint):
    """The last as well: it has no more to do than to say so."""
    whole = autoencoder()
    expected = fit(whole, x)
    with pytest.raises(KeyboardInterrupt):
        fit(autoencoder(), x, checkpoint=checkpoint, callbacks=[At(iteration, interrupt)])
    twin = autoencoder()
    same_history(fit(twin, x, checkpoint=checkpoint), expected)
    assert same_weights(whole, twin)


@pytest.mark.parametrize("evaluation", [1, 4])
def test_goes_on_after_an_interruption_within_an_iteration(evaluation, x, checkpoint, monkeypatch):
    """As Ctrl-C mostly comes: the evaluations since the last iteration are made again."""
    whole, twin, calls, evaluate = autoencoder(), autoencoder(), [], ObjectiveFunction.__call__
    expected = fit(whole, x)

    def interrupted(self, values=None, **options):
        calls.append(values)
        if len(calls) == evaluation + 1:
            raise KeyboardInterrupt
        return evaluate(self, values, **options)

    monkeypatch.setattr(ObjectiveFunction, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(autoencoder(), x, checkpoint=checkpoint)
    assert fit(twin, x, checkpoint=checkpoint).history == expected.history
    assert same_weights(whole, twin)


def test_callbacks_hear_of_the_epochs_that_are_left(x, checkpoint):
    begun, seen = [], []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: begun.append(epoch), on_epoch_end=lambda epoch, logs: seen.append(epoch)
    )
    with pytest.raises(KeyboardInterrupt):
        fit(autoencoder(), x, checkpoint=checkpoint, callbacks=[watch, At(1, interrupt)])
    fit(autoencoder(), x, checkpoint=checkpoint, callbacks=[watch])
    assert begun == seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "options", [{}, {"tolerance": 0.9}, {"callbacks": [At(2, stop)]}], ids=["limit", "tolerance", "callback"]
)
def test_finished_training_is_not_begun_again(options, x, checkpoint):
    ae, twin, events = autoencoder(), autoencoder(seed=7), []
    expected = fit(ae, x, checkpoint=checkpoint, **options)
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: events.append(epoch))
    same_history(fit(twin, x, checkpoint=checkpoint, callbacks=[watch]), expected)
    assert same_weights(ae, twin)
    assert events == []


def test_fewer_iterations_than_were_done(x, checkpoint):
    with pytest.raises(KeyboardInterrupt):
        fit(autoencoder(), x, checkpoint=checkpoint, callbacks=[At(3, interrupt)])
    history = fit(autoencoder(), x, checkpoint=checkpoint, max_iterations=2)
    assert len(history.history["loss"]) == 4
    assert "limit of iterations" in history.result["stopped"]


def test_checkpointing_changes_nothing(x, checkpoint):
    one, other = autoencoder(), autoencoder()
    same_history(fit(one, x), fit(other, x, checkpoint=checkpoint))
    assert same_weights(one, other)


def test_the_seconds_add_up(x, checkpoint, monkeypatch):
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr("keras_sae.training.lbfgs.time.monotonic", lambda: next(clock))
    first = fit(autoencoder(), x, checkpoint=checkpoint).result["seconds"]
    second = fit(autoencoder(), x, checkpoint=checkpoint).result["seconds"]
    assert 0 < first < second


@pytest.mark.parametrize(("seconds", "written"), [(0, [0, 1, 2, 3, 4]), (1000, [])])
def test_checkpoints_are_written_now_and_then(seconds, written, x, checkpoint, monkeypatch):
    """After a kill, not only after an exception: what lies on the disk while training goes on."""
    monkeypatch.setattr(checkpoints, "SECONDS", seconds)
    found = []

    def look(epoch, logs):
        if epoch and checkpoint.exists():
            found.append(checkpoints.read(checkpoint)[1]["iterations"])

    fit(autoencoder(), x, checkpoint=checkpoint, callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=look)])
    assert found == written[1:]


def test_a_kill_between_checkpoints_costs_no_more_than_the_iterations_since(x, checkpoint, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    whole, twin, kept = autoencoder(), autoencoder(), []
    copy = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: kept.append(checkpoint.read_bytes()) if epoch == 3 else None
    )
    expected = fit(whole, x, checkpoint=checkpoint, callbacks=[copy])
    checkpoint.write_bytes(kept[0])
    same_history(fit(twin, x, checkpoint=checkpoint), expected)
    assert same_weights(whole, twin)


@pytest.mark.parametrize("action", [None, At(2, interrupt)], ids=["finished", "interrupted"])
def test_checkpoint_of_another_model(action, x, checkpoint):
    with contextlib.suppress(KeyboardInterrupt):
        fit(autoencoder(), x, checkpoint=checkpoint, callbacks=action and [action])
    before, other = checkpoint.read_bytes(), autoencoder(units=3)
    weights = other.get_weights()
    expected = ["a checkpoint of a model with 45 trainable weights. Received: one with 58", "Remove it"]
    with raises(InputError, *expected):
        fit(other, x, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before
    assert all(np.array_equal(a, b) for a, b in zip(weights, other.get_weights(), strict=True))


def test_checkpoint_of_other_data(x, checkpoint):
    with pytest.raises(KeyboardInterrupt):
        fit(autoencoder(), x, checkpoint=checkpoint, callbacks=[At(2, interrupt)])
    before = checkpoint.read_bytes()
    expected = ["a checkpoint made on the same data and objective. Received: one with J = ", "Resume with the same"]
    for other, data in [(autoencoder(), 1 - x), (autoencoder(weight_decay=1.0), x)]:
        with raises(InputError, *expected):
            fit(other, data, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_checkpoint_of_minibatches(x, checkpoint):
    keras_sae.fit_minibatches(autoencoder(dtype="float32"), x, epochs=1, checkpoint=checkpoint, verbose=0)
    with raises(InputError, "Expected a checkpoint of", "Received", "Remove it"):
        fit(autoencoder(), x, checkpoint=checkpoint)


def test_broken_checkpoint(x, checkpoint):
    checkpoint.write_bytes(b"")
    with raises(InputError, "Expected a checkpoint to resume from", f"Received: {checkpoint}"):
        fit(autoencoder(), x, checkpoint=checkpoint)


def test_no_checkpoint_of_training_that_diverged(x, checkpoint):
    """Otherwise the next call, on data that were mended, would be told that they are not the same."""
    bad = x.copy()
    bad[3, 2] = np.nan
    with pytest.raises(DivergedError):
        fit(autoencoder(), bad, checkpoint=checkpoint)
    assert not checkpoint.exists()
    one, other = autoencoder(), autoencoder()
    fit(one, x, checkpoint=checkpoint)
    fit(other, x)
    assert same_weights(one, other)
