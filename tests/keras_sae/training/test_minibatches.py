import keras
import numpy as np
import pytest

import keras_sae
from keras_sae import KLSparsity
from keras_sae.errors import DivergedError, InputError
from keras_sae.training import checkpoints
from keras_sae.training.minibatches import Minibatches
from tests.keras_sae.conftest import autoencoder, raises, randomise, same_weights, two_layers


def sparse(optimizer="adam", eager=True, **options):
    """In float32: in float64 Keras' own `fit` adds the losses up in float32, which TensorFlow refuses.

    Eager, because of a few batches tracing takes the longest part.
    """
    ae = autoencoder(**{"dtype": "float32", "sparsity": KLSparsity(0.1, 1.0), **options})
    ae.compile(optimizer, run_eagerly=eager)
    return ae


def classifier():
    model = randomise(two_layers(dtype="float32").classifier(3))
    model.run_eagerly = True
    return model


def fit(model, *data, **options):
    return keras_sae.fit_minibatches(model, *data, **{"epochs": 3, "batch_size": 12, "verbose": 0, **options})


def weights_of(variables):
    return [keras.ops.convert_to_numpy(variable.value) for variable in variables]


def same_state(one, other):
    """Weights, random states, the optimizer's state."""
    pairs = [(one.get_weights(), other.get_weights())]
    pairs += [(weights_of(one.optimizer.variables), weights_of(other.optimizer.variables))]
    pairs += [(weights_of(one.non_trainable_variables), weights_of(other.non_trainable_variables))]
    return all(np.array_equal(a, b) for group in pairs for a, b in zip(*group, strict=True))


class At(keras.callbacks.Callback):
    """Raises KeyboardInterrupt at a batch of an epoch, both counted from 0."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.epoch, self.batch = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, self.batch):
            raise KeyboardInterrupt


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "layer_1.npz"


@pytest.fixture
def every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)


# The order


@pytest.mark.parametrize(("batch_size", "sizes"), [(7, [7, 7, 7, 2]), (23, [23]), (100, [23]), (1, [1] * 23)])
def test_an_epoch_has_every_row_once(batch_size, sizes):
    x = np.arange(23.0)[:, None]
    batches = Minibatches(x, batch_size=batch_size)
    found = [batches[i][0] for i in range(len(batches))]
    assert [len(batch) for batch in found] == sizes
    assert sorted(np.concatenate(found).ravel()) == sorted(x.ravel())


def rows(batches):
    return np.concatenate([batches[i][0] for i in range(len(batches))]).ravel().astype(int).tolist()


def test_the_order_depends_on_seed_and_epoch_alone():
    x = np.arange(23.0)[:, None]
    batches, orders = Minibatches(x, batch_size=7, seed=3), []
    for epoch in (0, 1, 2):
        batches.begin(epoch)
        orders.append(rows(batches))
    keras.utils.set_random_seed(9)
    again = Minibatches(x, batch_size=7, seed=3)
    assert rows(again) == orders[0]
    again.begin(2)
    assert rows(again) == orders[2]
    assert len({tuple(order) for order in [*orders, rows(Minibatches(x, batch_size=7, seed=4))]}) == 4
    assert orders[0] != sorted(orders[0])


def test_targets_stay_with_their_rows():
    x = np.arange(23.0)[:, None]
    batches = Minibatches(x, np.arange(23) * 2, batch_size=7)
    for i in range(len(batches)):
        inputs, targets = batches[i]
        np.testing.assert_array_equal(targets, 2 * inputs.ravel())


def test_a_memory_mapped_array_is_cast_batch_by_batch(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(46, dtype="uint8").reshape(23, 2))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    batches = Minibatches(x, batch_size=7)
    assert isinstance(batches.x, np.memmap)
    assert batches[0][0].dtype == "float32"
    assert type(batches[0][0]) is np.ndarray
    assert Minibatches(x, batch_size=7, dtype="float64")[0][0].dtype == "float64"


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_without_rows(batch_size, x):
    with raises(ValueError, "`batch_size` expects 1 row or more", f"Received: {batch_size}"):
        Minibatches(x, batch_size=batch_size)


# Training


@pytest.mark.parametrize("with_targets", [False, True])
def test_trains_on_these_batches_in_this_order(with_targets, x, labels):
    """The same as by hand, batch after batch, each epoch in its own order."""

    make, data = (classifier, (x, labels)) if with_targets else (sparse, (x,))
    one, other = make(), make()
    fit(one, *data, seed=5)
    batches = Minibatches(*data, batch_size=12, seed=5)
    for epoch in range(3):
        batches.begin(epoch)
        for i in range(len(batches)):
            other.train_on_batch(*batches[i])
    for found, expected in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_learns_and_says_so(x):
    ae = sparse()
    before = keras_sae.objective(ae, x).value
    history = fit(ae, x)
    assert isinstance(history, keras.callbacks.History)
    assert len(history.history["loss"]) == len(history.epoch) == 3
    assert history.result["seconds"] > 0
    assert keras_sae.objective(ae, x).value < before


def test_neither_built_nor_compiled(x):
    ae = keras_sae.SparseAutoencoder(4)
    fit(ae, x, epochs=1)
    assert ae.kernel.shape == (6, 4)
    assert isinstance(ae.optimizer, keras.optimizers.Adam)


def test_a_memory_mapped_array_gives_the_weights_of_one_in_memory(x, tmp_path):
    np.save(tmp_path / "x.npy", x.astype("float32"))
    one, other = sparse(), sparse()
    fit(one, x.astype("float32"))
    fit(other, np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert same_weights(one, other)


def test_other_options_are_those_of_fit(x, capsys):
    history = fit(sparse(), x, validation_data=(x, x), validation_freq=1, verbose=1)
    assert len(history.history["val_loss"]) == 3
    assert "100%" in capsys.readouterr().err


# Training that goes on


RESUMABLE = {
    "sparse": lambda: sparse(eager=False),
    "masking": lambda: sparse(corruption=0.4),
    "gaussian": lambda: sparse(corruption=keras.layers.GaussianNoise(0.3)),
    "classifier": classifier,
}


@pytest.mark.parametrize("kind", RESUMABLE)
@pytest.mark.usefixtures("every_epoch")
def test_goes_on_to_the_same_bits(kind, x, labels, checkpoint):
    """Stopped in the midst of epochs, in a fresh model each time, whose noise would be another."""
    keras.utils.set_random_seed(0)
    whole = RESUMABLE[kind]()
    data = (x, labels) if kind == "classifier" else (x,)
    expected = fit(whole, *data, epochs=3)
    keras.utils.set_random_seed(0)
    for place in [(1, 1), (2, 0)]:
        twin = RESUMABLE[kind]()
        with pytest.raises(KeyboardInterrupt):
            fit(twin, *data, epochs=3, checkpoint=checkpoint, callbacks=[At(*place)])
        keras.utils.set_random_seed(place[0])
    twin, epochs = RESUMABLE[kind](), []
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
    found = fit(twin, *data, epochs=3, checkpoint=checkpoint, callbacks=[watch])
    assert same_state(whole, twin)
    assert found.history == expected.history
    assert found.epoch == expected.epoch == [0, 1, 2]
    assert epochs == [2]


@pytest.mark.usefixtures("every_epoch")
def test_stopped_in_the_first_epoch_it_begins_again(x, checkpoint):
    with pytest.raises(KeyboardInterrupt):
        fit(sparse(), x, checkpoint=checkpoint, callbacks=[At(0, 1)])
    assert not checkpoint.exists()


def test_checkpoints_come_every_20_seconds_at_most(x, checkpoint):
    with pytest.raises(KeyboardInterrupt):
        fit(sparse(), x, checkpoint=checkpoint, callbacks=[At(2, 1)])
    assert not checkpoint.exists()


def test_finished_training_is_not_begun_again(x, checkpoint):
    one, other = sparse(), sparse(seed=7)
    expected = fit(one, x, checkpoint=checkpoint)
    before = checkpoints.read(checkpoint)[1]["seconds"]
    found = fit(other, x, checkpoint=checkpoint, callbacks=[At(0, 0)])
    assert same_state(one, other)
    assert (found.history, found.epoch) == (expected.history, expected.epoch)
    assert found.result["seconds"] >= before


def test_training_that_a_callback_stopped_is_finished(x, checkpoint):
    def stop(epoch, logs):
        one.stop_training = True

    one, other = sparse(), sparse(seed=7)
    expected = fit(one, x, checkpoint=checkpoint, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=stop)])
    for _ in range(2):
        found = fit(other, x, checkpoint=checkpoint, callbacks=[At(1, 0)])
        assert same_state(one, other)
        assert (found.history, found.epoch) == (expected.history, expected.epoch)
    assert found.epoch == [0]


def test_more_epochs_go_on_from_finished_training(x, checkpoint):
    one, other = sparse(), sparse()
    fit(one, x, epochs=2)
    fit(sparse(), x, epochs=1, checkpoint=checkpoint)
    fit(other, x, epochs=2, checkpoint=checkpoint)
    assert same_state(one, other)


def test_checkpoint_of_another_model(x, checkpoint):
    fit(sparse(), x, epochs=1, checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    expected = [
        "a model and optimizer with weights of shapes [(6, 3)",
        f"Received: {checkpoint} with [(6, 4)",
        "Remove",
    ]
    with raises(InputError, *expected):
        fit(sparse(units=3), x, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_checkpoint_of_lbfgs(x, checkpoint):
    keras_sae.fit_lbfgs(sparse(), x, max_iterations=1, checkpoint=checkpoint, verbose=0)
    with raises(InputError, "Expected a checkpoint of a model and optimizer", f"Received: {checkpoint} with []"):
        fit(sparse(), x, checkpoint=checkpoint)


def test_broken_checkpoint(x, checkpoint):
    checkpoint.write_bytes(b"")
    with raises(InputError, "Expected a checkpoint to resume from", f"Received: {checkpoint}"):
        fit(sparse(), x, checkpoint=checkpoint)


# Numbers that are not finite


def linear(rate):
    return sparse(keras.optimizers.SGD(rate), sparsity=None, activation="linear", output_activation="linear")


def test_a_learning_rate_that_is_too_large(x):
    expected = ["The loss of autoencoder_of_x is ", "at batch 2 of epoch 1", "Lower the learning rate (now 1e+30)"]
    ae = linear(1e30)
    ae.name = "autoencoder_of_x"
    with raises(DivergedError, *expected) as raised:
        fit(ae, x)
    assert "last good weights" not in str(raised.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.usefixtures("every_epoch")
def test_the_checkpoint_keeps_the_last_good_weights(bad, x, checkpoint):
    """Data that become bad in epoch 2: the checkpoint is that of epoch 1."""
    good, data = linear(0.01), x.copy()
    fit(good, x, epochs=1)

    def spoil(epoch, logs):
        if epoch == 1:
            data[:] = bad

    watch = keras.callbacks.LambdaCallback(on_epoch_begin=spoil)
    expected = ["at batch 1 of epoch 2. Expected finite numbers. ", f"The last good weights are in {checkpoint}."]
    with raises(DivergedError, *expected, "Lower the learning rate (now 0.01) or beta"):
        fit(linear(0.01), data, checkpoint=checkpoint, callbacks=[watch])
    arrays, record = checkpoints.read(checkpoint)
    assert record["epoch"] == 1
    assert all(np.array_equal(a, b) for a, b in zip(arrays["variables"], good.get_weights(), strict=False))


@pytest.mark.parametrize("epochs", [1, 2], ids=["at the end of training", "before the next epoch"])
@pytest.mark.usefixtures("every_epoch")
def test_weights_that_the_last_batch_spoils(epochs, x, checkpoint):
    """Its loss was finite; its step was not. There is no finite checkpoint then, rather than a bad one."""
    with raises(DivergedError, "Weights of ", "are not finite at the end of epoch 1. Expected finite numbers. Lower"):
        fit(linear(1e38), 1e3 * x, epochs=epochs, batch_size=23, checkpoint=checkpoint)
    assert not checkpoint.exists()
