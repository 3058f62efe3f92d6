"""keras_sae.fit: one door to every trainer, with Keras' own callbacks; fit_head on features that are computed once."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from keras_sae import KLSparsity
from tests.keras_sae.conftest import Batches, autoencoder, raises, randomise, same_weights, two_layers

OPTIMIZERS = ["lbfgs", "adam"]


def small(**options):
    return autoencoder(dtype="float32", sparsity=KLSparsity(0.2, 0.5), **options)


def fit(model, *arguments, **options):
    return keras_sae.fit(model, *arguments, **{"iterations": 4, "verbose": 0, **options})


def test_lbfgs_is_the_default_and_the_same_as_fit_lbfgs(x):
    one, other = small(), small()
    history = fit(one, x, iterations=5, tolerance=0.0, chunk_size=7)
    expected = keras_sae.fit_lbfgs(other, x, max_iterations=5, tolerance=0.0, chunk_size=7, verbose=0)
    assert same_weights(one, other)
    assert history.history == expected.history
    assert history.result["evaluations"] == expected.result["evaluations"]
    assert history.result["stopped"] == "the limit of iterations"


@pytest.mark.parametrize("optimizer", ["sgd", keras.optimizers.SGD(0.01)], ids=["name", "object"])
def test_a_keras_optimizer_is_the_same_as_fit_minibatches(optimizer, x):
    one, other = small(), small()
    history = fit(one, x, optimizer=optimizer, batch_size=8, seed=3)
    other.compile(keras.optimizers.SGD(0.01))
    expected = keras_sae.fit_minibatches(other, x, epochs=4, batch_size=8, seed=3, verbose=0)
    assert same_weights(one, other)
    assert history.history == expected.history
    assert history.result["seconds"] > 0


def test_no_optimizer_keeps_the_compiled_one(x):
    model = small()
    model.compile(keras.optimizers.SGD(0.25))
    fit(model, x, optimizer=None)
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert float(model.optimizer.learning_rate) == 0.25


def test_a_new_optimizer_keeps_loss_metrics_and_the_rest(x, labels):
    classifier = two_layers(dtype="float32").classifier(3)
    classifier.compile("sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    history = fit(classifier, x, labels, optimizer="adam")
    assert isinstance(classifier.optimizer, keras.optimizers.Adam)
    assert classifier.jit_compile is False
    assert set(history.history) == {"accuracy", "loss"}
    ae = small()
    ae.compile("sgd", loss=keras_sae.SummedBinaryCrossentropy())
    fit(ae, x, optimizer="adam")
    assert isinstance(ae.loss, keras_sae.SummedBinaryCrossentropy)


def test_a_model_without_a_loss_is_refused(x):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)], name="plain")
    for optimizer in OPTIMIZERS:
        with raises(ValueError, "needs the model's loss: call plain.compile(loss=...) first"):
            fit(model, x, x, optimizer=optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["array", "tf.data", "PyDataset"])
def test_data_of_every_kind(kind, optimizer, x):
    x = x.astype("float32")
    data = {"array": x, "tf.data": tf.data.Dataset.from_tensor_slices(x).batch(7), "PyDataset": Batches(x)}[kind]
    loss = fit(small(), data, optimizer=optimizer).history["loss"]
    assert len(loss) == 4
    assert loss[-1] < loss[0]


def test_targets_beside_a_data_set_are_refused(x):
    for optimizer in OPTIMIZERS:
        with raises(ValueError, "Give `y` with arrays only"):
            fit(small(), Batches(x), x, optimizer=optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_checkpoint_resumes_to_the_same_bits(optimizer, x, tmp_path):
    whole, part, resumed = small(), small(), small(seed=5)
    expected = fit(whole, x, optimizer=optimizer, iterations=6)
    checkpoint = tmp_path / "training.npz"
    stop = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epoch == 3 and interrupt())
    with pytest.raises(KeyboardInterrupt):
        fit(part, x, optimizer=optimizer, iterations=6, checkpoint=checkpoint, callbacks=[stop])
    if optimizer == "adam":  # which writes at Ctrl-C nothing, but every 20 seconds and at the end
        part = small()
        fit(part, x, optimizer=optimizer, iterations=3, checkpoint=checkpoint)
    history = fit(resumed, x, optimizer=optimizer, iterations=6, checkpoint=checkpoint)
    assert same_weights(resumed, whole)
    assert history.history == expected.history


def interrupt():
    raise KeyboardInterrupt


def test_a_data_set_resumes_after_its_epoch(x, tmp_path):
    data = tf.data.Dataset.from_tensor_slices(x.astype("float32")).batch(23)
    whole, part, resumed = small(), small(), small(seed=5)
    fit(whole, data, optimizer="adam", iterations=6)
    fit(part, data, optimizer="adam", iterations=3, checkpoint=tmp_path / "training.npz")
    fit(resumed, data, optimizer="adam", iterations=6, checkpoint=tmp_path / "training.npz")
    assert same_weights(resumed, whole)


# --- held-out data ---


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("form", ["x", "(x, y)"])
def test_validation_data_are_measured_and_not_learned_from(form, optimizer, x):
    train, held_out = x[:16], x[16:]
    data = held_out if form == "x" else (held_out, held_out)
    model, other = small(), small()
    found = fit(model, train, optimizer=optimizer, validation_data=data, batch_size=16)
    expected = fit(other, train, optimizer=optimizer, batch_size=16)
    assert same_weights(model, other)
    assert found.history["loss"] == expected.history["loss"]
    assert len(found.history["val_loss"]) == len(found.history["loss"])
    exact = keras_sae.objective(model, held_out).value
    assert found.history["val_loss"][-1] == pytest.approx(exact, rel=1e-5)


# --- Keras' own callbacks ---


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_early_stopping_restores_the_best_weights(optimizer, x):
    model = small()
    worsen = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epoch == 2 and spoil(model))
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    options = {"validation_data": x[16:], "iterations": 20, "callbacks": [worsen, stop]}
    if optimizer == "lbfgs":
        # L-BFGS keeps its own weights: an objective that rises is one whose held-out rows are of another kind.
        options |= {"validation_data": 1 - x[16:], "callbacks": [stop]}
    history = fit(model, x[:16], optimizer=optimizer, **options)
    held_out = options["validation_data"]
    assert len(history.history["loss"]) < 20
    assert keras_sae.objective(model, held_out).value == pytest.approx(min(history.history["val_loss"]), rel=1e-5)


def spoil(model):
    randomise(model, seed=9, scale=5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_model_checkpoint_saves_the_best_model(optimizer, x, tmp_path):
    path = tmp_path / "best.keras"
    saving = keras.callbacks.ModelCheckpoint(path, monitor="loss", save_best_only=True)
    model = small()
    history = fit(model, x, optimizer=optimizer, callbacks=[saving]).history["loss"]
    copy = keras.saving.load_model(path)
    assert history[-1] == min(history)
    assert same_weights(copy, model)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_csv_logger_writes_every_epoch(optimizer, x, tmp_path):
    path = tmp_path / "log.csv"
    history = fit(small(), x, optimizer=optimizer, callbacks=[keras.callbacks.CSVLogger(path)]).history
    with open(path) as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == pytest.approx(history["loss"])
    assert {"epoch", *history} <= set(rows[0])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_tensorboard_of_keras_writes_its_scalars(optimizer, x, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = keras.callbacks.TensorBoard(tmp_path)
    history = fit(small(), x, optimizer=optimizer, validation_data=x, callbacks=[board]).history
    for part, key in {"train": "loss", "validation": "val_loss"}.items():
        events = EventAccumulator(str(tmp_path / part), size_guidance={"tensors": 0})
        events.Reload()
        values = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("epoch_loss")]
        assert values == pytest.approx(history[key], rel=1e-5)


def test_a_learning_rate_is_reduced_on_minibatches_and_refused_by_lbfgs(x):
    model, callback = small(), keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    history = fit(model, x, optimizer=keras.optimizers.SGD(0.5), callbacks=[callback]).history
    assert history["learning_rate"] == [0.5, 0.5, 0.25, 0.125]
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)
    for one in (callback, schedule):
        with raises(ValueError, "L-BFGS has no learning rate", type(one).__name__, "Leave it out"):
            fit(model, x, callbacks=[one])


# --- the head ---


@pytest.mark.parametrize("kind", ["array", "memmap", "tf.data"])
def test_the_head_is_trained_as_in_the_classifier_with_a_frozen_encoder(kind, x, labels, tmp_path):
    x = x.astype("float32")
    np.save(tmp_path / "x.npy", x)
    data = {
        "array": (x, labels),
        "memmap": (np.load(tmp_path / "x.npy", mmap_mode="r"), labels),
        "tf.data": (tf.data.Dataset.from_tensor_slices((x, labels)).batch(7), None),
    }[kind]
    stack = two_layers(dtype="float32")
    found, expected = (randomise(stack.classifier(3, weight_decay=0.1)) for _ in range(2))
    encoder = found.get_layer("encoder").get_weights()
    keras_sae.fit_head(found, *data, iterations=8, verbose=0)
    expected.get_layer("encoder").trainable = False
    fit(expected, x, labels, iterations=8)
    for one, other in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    assert all(map(np.array_equal, encoder, found.get_layer("encoder").get_weights()))


def test_features_of_mapped_data_lie_in_the_directory_while_the_head_is_trained(x, labels, tmp_path):
    np.save(tmp_path / "x.npy", x.astype("float32"))
    folder = tmp_path / "features"
    folder.mkdir()
    seen = []
    look = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: seen.append([p.name for p in folder.iterdir()]))
    classifier = two_layers(dtype="float32").classifier(3)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    keras_sae.fit_head(classifier, mapped, labels, "adam", 2, directory=folder, callbacks=[look], verbose=0)
    assert seen == [["head_features.npy"]] * 2
    assert list(folder.iterdir()) == []


def test_preprocessing_in_the_model_and_minibatches_of_a_data_set_do_not_go_together(x):
    stack = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(3)], keras.layers.Rescaling(2.0))
    data = tf.data.Dataset.from_tensor_slices(x.astype("float32")).batch(7)
    with raises(ValueError, "Expected an array, or a data set that gives scaled batches", 'optimizer="lbfgs"'):
        stack.pretrain(data, "adam", 1, verbose=0)
