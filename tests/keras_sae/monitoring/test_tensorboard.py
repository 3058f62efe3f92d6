import types

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae import layers
from keras_sae.callbacks import SparsityMonitor, TensorBoard
from keras_sae.monitoring import tensorboard
from tests.keras_sae.conftest import FEATURES, UNITS, autoencoder, raises, two_layers
from tests.keras_sae.events import Events, projector

UNIT_TAGS = {"units/rho_hat", "units/dead", "units/saturated"}
PACE = {"examples_per_second"}


@pytest.fixture
def often(monkeypatch):
    """However long a look takes, it is taken when its step comes."""
    monkeypatch.setattr(tensorboard, "SHARE", 1e9)


def check_logs(found, history, more):
    """Every number of the History is there, at its step, and else these tags alone."""
    for name, values in history.items():
        assert found.scalars(name) == pytest.approx(dict(enumerate(values, 1)), rel=1e-6)
    assert found.scalar_tags == {*history, *more}


def test_lbfgs_writes_its_history_and_what_the_model_has_learned(x, labels, tmp_path, often):
    ae = autoencoder(name="ae")
    board = TensorBoard(tmp_path, x, labels, (2, 3), hparams={"rho": 0.05}, times=2)
    history = keras_sae.fit(ae, x, iterations=5, callbacks=[board], verbose=0).history
    found, exact = Events(tmp_path), keras_sae.objective(ae, x)
    check_logs(found, history, UNIT_TAGS | PACE)
    assert "gradient_norm" in history
    assert min(found.scalars("examples_per_second").values()) > 0
    looks = [3, 5]  # one of two in five steps, and the end
    for tag in UNIT_TAGS:
        assert list(found.scalars(tag)) == looks
    assert found.scalars("units/rho_hat")[5] == pytest.approx(exact.rho_hat[0].mean(), rel=1e-6)
    weights = {f"weights/{variable.path}": np.array(variable) for variable in ae.trainable_variables}
    assert found.histogram_tags == {*weights, "units/distribution", "activations"}
    values = {**weights, "units/distribution": exact.rho_hat[0], "activations": np.asarray(ae.encode(x))}
    for tag, array in values.items():
        assert list(found.histograms(tag)) == looks
        np.testing.assert_array_equal(found.histograms(tag)[5][:, 2], np.histogram(array, 30)[0])
    assert found.picture_tags == {"features", "reconstructions"}
    assert list(found.pictures("reconstructions")) == looks
    np.testing.assert_array_equal(found.pictures("features")[5], keras_sae.display_network(ae.kernel, (2, 3)))
    assert found.hparams()[0] == {"rho": 0.05}
    assert "ae_encoder/hidden" in found.graph()
    codes, names, thumbnails = projector(tmp_path)
    np.testing.assert_allclose(codes, ae.transform(x), rtol=1e-3)
    assert names == list(map(str, labels))
    assert thumbnails.shape == (23, 2, 3)


def test_adam_writes_the_same_and_its_learning_rate(x, tmp_path, often):
    ae = autoencoder(dtype="float32")
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([7], [0.5, 0.25])  # steps, of which an epoch has three
    options = {"iterations": 4, "batch_size": 8, "validation_data": x[:9], "verbose": 0}
    watching = [SparsityMonitor(x), TensorBoard(tmp_path, x, times=2)]
    history = keras_sae.fit(ae, x, None, keras.optimizers.Adam(rate), callbacks=watching, **options).history
    found = Events(tmp_path)
    check_logs(found, history, {*UNIT_TAGS, *PACE, "learning_rate", "gradient_norm"})
    assert {"loss", "val_loss", "reconstruction", "rho_hat", "dead_units"} <= set(history)
    assert found.scalars("learning_rate") == {1: 0.5, 2: 0.5, 3: 0.25, 4: 0.25}
    gradients = keras_sae.objective(ae, x).gradients
    norm = np.linalg.norm(np.concatenate([gradient.ravel() for gradient in gradients]))
    assert list(found.scalars("gradient_norm")) == [2, 4]
    assert found.scalars("gradient_norm")[4] == pytest.approx(norm, rel=1e-4)
    assert found.scalars("units/rho_hat")[4] == pytest.approx(history["rho_hat"][-1], rel=1e-6)
    assert found.picture_tags == set()  # rows are no pictures
    assert projector(tmp_path)[1:] == (None, None)


def test_in_fit_of_keras_on_ordinary_layers(x, labels, tmp_path):
    hidden = layers.SparseDense(UNITS, sparsity=keras_sae.KLSparsity(0.1))
    model = keras.Sequential([hidden, keras.layers.Dense(FEATURES, "sigmoid")])
    model.compile("adam", loss=keras_sae.HalfSquaredError())
    board = TensorBoard(tmp_path, x, labels, (2, 3))
    history = model.fit(x, x, epochs=2, verbose=0, callbacks=[board]).history
    found = Events(tmp_path)
    check_logs(found, history, {*UNIT_TAGS, *PACE, "learning_rate", "gradient_norm"})
    assert found.picture_tags == {"features", "reconstructions"}
    assert list(found.pictures("features")) == [2]  # at the end
    np.testing.assert_allclose(projector(tmp_path)[0], keras_sae.predict_in_chunks(hidden, x), rtol=1e-3)


@pytest.mark.parametrize("train", [keras_sae.fit, keras_sae.fit_head])
def test_a_classifier_has_a_confusion_matrix_and_codes_for_the_head_as_well(train, x, labels, tmp_path):
    """The head is trained on codes, but the callback has the inputs."""
    classifier = two_layers(dtype="float32").classifier(3)
    board = TensorBoard(tmp_path, x, labels, (2, 3), class_names=["red", "green", "blue"])
    history = train(classifier, x, labels, iterations=2, callbacks=[board], verbose=0).history
    found = Events(tmp_path)
    check_logs(found, history, UNIT_TAGS | PACE)
    trained = ["head/kernel", "head/bias"]
    if train is keras_sae.fit:
        trained += [f"hidden_{number}/{name}" for number in (1, 2) for name in ("kernel", "bias")]
    assert {tag for tag in found.histogram_tags if "weights" in tag} == {f"weights/{name}" for name in trained}
    assert found.picture_tags == {"confusion", *(["features"] if train is keras_sae.fit else [])}
    codes, names, thumbnails = projector(tmp_path)
    expected = keras_sae.predict_in_chunks(classifier.get_layer("encoder"), x)
    np.testing.assert_allclose(codes, expected, rtol=1e-3)
    assert names == [["red", "green", "blue"][label] for label in labels]
    assert thumbnails.shape == (23, 2, 3)
    assert {"head", "encoder/hidden_1"} <= set(found.graph())


def test_without_rows_there_are_logs_weights_and_features(x, tmp_path):
    ae = autoencoder()
    history = keras_sae.fit(ae, x, iterations=2, callbacks=[TensorBoard(tmp_path, shape=(2, 3))], verbose=0).history
    found = Events(tmp_path)
    check_logs(found, history, set())
    assert {tag.split("/")[0] for tag in found.histogram_tags} == {"weights"}
    assert found.picture_tags == {"features"}
    assert [path.name.split(".")[0] for path in tmp_path.iterdir()] == ["events"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras_sae.Sweep(
            [autoencoder(name="one", dtype="float32"), autoencoder(2, name="two", dtype="float32")]
        ),
        lambda: keras_sae.LadderClassifier((UNITS,), 3),
    ],
    ids=["sweep", "ladder"],
)
def test_of_models_that_are_no_graph_of_layers_there_are_logs_and_weights(make, x, labels, tmp_path):
    y = labels if isinstance(model := make(), keras_sae.LadderClassifier) else None
    board = TensorBoard(tmp_path, x, labels, (2, 3))
    history = keras_sae.fit(model, x, y, "adam", 1, callbacks=[board], verbose=0).history
    found = Events(tmp_path)
    check_logs(found, history, PACE | {"learning_rate"})
    assert len(found.histogram_tags) == len(model.trainable_variables)
    assert found.picture_tags == {"features"}


def test_looks_take_a_small_share_of_the_time(x, tmp_path, monkeypatch):
    """An iteration takes a second, a look a tenth of one, at first taken to take 0.15: 0.02 of five seconds, of 7.5."""
    clock, looks = types.SimpleNamespace(now=0.0), []

    def look(self):
        looks.append(self.step)
        self.seconds, self.looked, self.last_look = 0.1, clock.now, self.step

    monkeypatch.setattr(tensorboard.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(TensorBoard, "_look", look)
    tick = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: setattr(clock, "now", clock.now + 1))
    board = TensorBoard(tmp_path, x, times=100)
    keras_sae.fit(autoencoder(), x, iterations=15, tolerance=0, callbacks=[board, tick], verbose=0)
    assert looks == [8, 13, 15]
    assert Events(tmp_path).scalars("examples_per_second")[1] == pytest.approx(23 * 1 / 1)


def test_after_ctrl_c_there_is_no_look(x, tmp_path):
    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    stop = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    with pytest.raises(KeyboardInterrupt):
        keras_sae.fit(autoencoder(), x, iterations=5, callbacks=[TensorBoard(tmp_path, x), stop], verbose=0)
    found = Events(tmp_path)
    assert list(found.scalars("loss")) == [1, 2]
    assert found.histogram_tags == set()
    assert not (tmp_path / "projector_config.pbtxt").exists()


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_training_that_was_finished_before_writes_nothing(optimizer, x, tmp_path):
    options = {"optimizer": optimizer, "iterations": 2, "checkpoint": tmp_path / "checkpoint.npz", "verbose": 0}
    keras_sae.fit(autoencoder(dtype="float32"), x, **options)
    keras_sae.fit(autoencoder(dtype="float32"), x, **options, callbacks=[TensorBoard(tmp_path / "logs", x)])
    assert not (tmp_path / "logs").exists()


def test_logs_that_are_no_numbers_are_left_out(x, tmp_path):
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(note="a text", count=np.int64(3))
    )
    keras_sae.fit(autoencoder(), x, iterations=1, callbacks=[note, TensorBoard(tmp_path)], verbose=0)
    found = Events(tmp_path)
    assert "note" not in found.scalar_tags
    assert found.scalars("count") == {1: 3}


def test_what_does_not_fit_is_said_before_training(x, labels, tmp_path):
    with raises(ValueError, "`times` expects 1 or more. Received: 0"):
        TensorBoard(tmp_path, times=0)
    ae = autoencoder()
    before = ae.get_weights()
    with raises(ValueError, "Expected rows of 9 features"):
        keras_sae.fit(ae, x, callbacks=[TensorBoard(tmp_path, x, shape=(3, 3))], verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, ae.get_weights(), strict=True))
