"""keras_sae.fit: one door to every trainer, with Keras' own callbacks; fit_head on features that are computed once."""

import csv

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
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


@pytest.mark.parametrize("kind", ["array", "memmap", "tf.data"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_held_out_data_of_the_head_are_encoded_as_well(optimizer, kind, x, labels, tmp_path):
    x = x.astype("float32")
    np.save(tmp_path / "x.npy", x)
    held_out = {
        "array": (x[:9], labels[:9]),
        "memmap": (np.load(tmp_path / "x.npy", mmap_mode="r")[:9], labels[:9], np.ones(9)),
        "tf.data": tf.data.Dataset.from_tensor_slices((x[:9], labels[:9])).batch(4),
    }[kind]
    classifier = two_layers(dtype="float32").classifier(3)
    history = keras_sae.fit_head(classifier, x, labels, optimizer, 2, validation_data=held_out, verbose=0).history
    loss = classifier.evaluate(x[:9], labels[:9], verbose=0)[0]
    decay = classifier.get_layer("head").kernel_regularizer(classifier.get_layer("head").kernel)
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-4) or history["val_loss"][-1] == pytest.approx(
        loss - float(decay), rel=1e-4
    )


def test_the_head_keeps_the_optimizer_that_the_classifier_is_compiled_with(x, labels):
    classifier = two_layers(dtype="float32").classifier(3)
    rates, loss = [], "sparse_categorical_crossentropy"
    classifier.compile(keras.optimizers.SGD(0.25), loss=loss)
    look = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: rates.append(look.model.optimizer))
    keras_sae.fit_head(classifier, x.astype("float32"), labels, None, 1, callbacks=[look], verbose=0)
    assert isinstance(rates[0], keras.optimizers.SGD)
    assert float(rates[0].learning_rate) == 0.25
    assert rates[0] is not classifier.optimizer


def test_the_head_of_a_classifier_without_an_optimizer_or_a_loss(x, labels):
    classifier = two_layers(dtype="float32").classifier(3)
    classifier.compile(optimizer=None, loss=classifier.loss)
    history = keras_sae.fit_head(classifier, x.astype("float32"), labels, None, 2, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]
    plain = keras.Model(classifier.inputs, classifier.outputs, name="plain")
    with raises(ValueError, "Training needs the model's loss: call plain.compile(loss=...) first."):
        keras_sae.fit_head(plain, x.astype("float32"), labels, verbose=0)


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


def split_kinds(x, folder):
    np.save(folder / "x.npy", x)
    return {
        "array": x,
        "memory-mapped": np.load(folder / "x.npy", mmap_mode="r"),
        "table": pd.DataFrame(x, index=np.arange(len(x))[::-1]),
        "sparse": scipy.sparse.csc_array(x),
    }


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["array", "memory-mapped", "table", "sparse"])
def test_a_share_of_the_rows_is_held_out(kind, optimizer, x, tmp_path):
    """The last 30 % of 23 rows are 7."""
    data = split_kinds(x, tmp_path)[kind]
    one, other = small(), small()
    found = fit(one, data, optimizer=optimizer, iterations=2, validation_split=0.3).history
    expected = fit(other, x[:16], optimizer=optimizer, iterations=2, validation_data=x[16:]).history
    assert found["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-5)
    assert same_weights(one, other) or kind == "sparse"  # which is read in chunks


def test_targets_and_weights_are_split_as_the_rows_are(x, labels):
    weights = np.arange(23.0)
    classifiers = [two_layers(dtype="float32").classifier(3) for _ in range(2)]
    classifiers[1].set_weights(classifiers[0].get_weights())
    found = fit(classifiers[0], x, labels, sample_weight=weights, validation_split=0.3).history
    held_out = x[16:], labels[16:], weights[16:]
    expected = fit(classifiers[1], x[:16], labels[:16], sample_weight=weights[:16], validation_data=held_out).history
    assert found == expected


def test_a_split_that_cannot_be_is_refused(x):
    for share in (0.01, 0.99, 1.5, -0.5):
        with raises(
            ValueError, "Expected a validation_split that leaves a row or more on either side", f"{share} of 23"
        ):
            fit(small(), x, validation_split=share)
    with raises(ValueError, "Expected validation_data or validation_split. Received: both"):
        fit(small(), x, validation_split=0.3, validation_data=x)
    with raises(ValueError, "Expected x as an array", "Received: Batches", "Give it two data sets"):
        fit(small(), Batches(x), validation_split=0.3)


@pytest.mark.parametrize("again", [False, True])
def test_early_stopping_leaves_the_best_weights_with_lbfgs(again, x, tmp_path):
    """Few rows to learn from, so that held-out rows get worse; a call that finds the training finished has them too."""
    ae = small(weight_decay=0.0)
    stop = keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)
    options = {"iterations": 100, "validation_data": x[5:], "checkpoint": tmp_path / "checkpoint.npz"}
    history = fit(ae, x[:5], callbacks=[stop], **options)
    losses = history.history["val_loss"]
    assert history.result["stopped"] == "a callback set stop_training"
    assert losses.index(min(losses)) == len(losses) - 4
    if again:
        ae = small(weight_decay=0.0)
        fit(ae, x[:5], **options)
    assert keras_sae.objective(ae, x[5:]).value == pytest.approx(min(losses), rel=1e-5)


TERMS = {"loss", "reconstruction", "weight_decay", "sparsity", "rho_hat"}


@pytest.mark.parametrize("model", [small, lambda: two_layers(dtype="float32")], ids=["autoencoder", "stack"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_terms_of_both_sets_are_in_the_history(optimizer, model, x):
    """By the same names and with the same values, whatever the optimizer; here the model stays as it is."""
    model = model()
    held_out = x[:9]
    if optimizer == "lbfgs":
        history = fit(model, x, iterations=2, validation_data=held_out).history
    else:
        history = fit(model, x, optimizer=keras.optimizers.SGD(0.0), validation_data=held_out, batch_size=23).history
    of_steps = {"gradient_norm", "step_length", "evaluations"} if optimizer == "lbfgs" else set()
    assert set(history) == TERMS | {f"val_{name}" for name in TERMS} | of_steps
    for prefix, rows in {"": x, "val_": held_out}.items():
        expected = keras_sae.objective(model, rows)
        values = {"loss": expected.value, **expected.parts, "rho_hat": np.concatenate(expected.rho_hat).mean()}
        for name, value in values.items():
            assert history[prefix + name][-1] == pytest.approx(value, rel=1e-4)


def test_terms_are_means_over_the_examples_of_an_epoch(x):
    """Of batches of 8, 8 and 7 rows: the sum of squares, and the decay, are what one batch of all has."""
    ae = small(weight_decay=0.1)
    ae.compile(keras.optimizers.SGD(0.0))
    history = ae.fit(x, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    expected = keras_sae.objective(ae, x)
    for name in ("reconstruction", "weight_decay"):
        assert history[name] == pytest.approx([expected.parts[name]] * 2, rel=1e-5)
    assert history["rho_hat"] == pytest.approx([expected.rho_hat[0].mean()] * 2, rel=1e-5)
    assert history["loss"][0] == pytest.approx(sum(history[name][0] for name in TERMS - {"loss", "rho_hat"}), rel=1e-5)


@pytest.mark.parametrize("sparsity", [None, keras.regularizers.L1(0.1)])
def test_without_a_kl_there_is_no_rho_hat(sparsity, x):
    ae = autoencoder(dtype="float32", sparsity=sparsity)
    ae.compile(keras.optimizers.SGD(0.0))
    history = ae.fit(x, batch_size=23, verbose=0).history
    assert set(history) == TERMS - {"rho_hat"}
    features = np.asarray(ae.encode(x.astype("float32")))
    expected = 0 if sparsity is None else 0.1 * np.abs(features).sum(axis=1).mean()
    assert history["sparsity"][0] == pytest.approx(expected, rel=1e-5)


def test_evaluate_returns_the_loss_and_what_is_compiled(x):
    ae = small()
    ae.compile("adam")
    loss = ae.evaluate(x, verbose=0)
    assert isinstance(loss, float)
    assert ae.test_on_batch(x) == pytest.approx(loss, rel=1e-5)
    found = ae.evaluate(x, verbose=0, return_dict=True)
    assert set(found) == TERMS
    assert found["loss"] == pytest.approx(loss)
    ae.compile("adam", metrics=["mae"])
    assert ae.evaluate(x, verbose=0) == pytest.approx([loss, np.abs(ae.reconstruct(x) - x).mean()], rel=1e-5)


def test_the_terms_of_an_autoencoder_are_not_those_of_the_stack_that_holds_it(x):
    stack = two_layers(dtype="float32")
    for one, inputs in stack.stages(x):
        fit(one, inputs, optimizer="adam", iterations=1)
    stack.compile("adam")
    assert [metric.name for metric in stack.metrics] == [
        "loss",
        "reconstruction",
        "weight_decay",
        "sparsity",
        "rho_hat",
    ]
    assert not any("mean" in variable.path for variable in stack.variables)


def test_why_a_training_ended_is_told(x):
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(ae, "stop_training", epoch == 1))
    ae = small()
    assert fit(ae, x, optimizer="adam").result["stopped"] == "the limit of epochs"
    assert fit(ae, x, optimizer="adam", callbacks=[stop]).result["stopped"] == "a callback set stop_training"
