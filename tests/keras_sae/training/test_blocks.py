"""Many minibatches in one compiled loop: what one call for each minibatch gives, and when it is used."""

import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import scipy.sparse

import keras_sae
from keras_sae import KLSparsity, SparseAutoencoder
from keras_sae.data.containers import RowSubset
from keras_sae.errors import DivergedError
from keras_sae.training import blocks, checkpoints
from keras_sae.training.order import Minibatches
from tests.keras_sae.conftest import same_weights

pytestmark = pytest.mark.usefixtures("compiled")
ROWS = np.random.default_rng(0).random((75, 6)).astype("float32")
LABELS = np.arange(75) % 3
WEIGHTS = np.random.default_rng(1).random(75)
BITS = np.random.default_rng(2).integers(0, 2, (75, 6)).astype("float32")  # exact in all types


@pytest.fixture
def loops(monkeypatch):
    """The models for which a loop was compiled: all, however few their steps are; a loop has 4."""
    compiled, compile_loop = [], blocks.compile_train_loop
    monkeypatch.setattr(blocks, "PAYS", 1)
    monkeypatch.setattr(blocks, "STEPS", 4)
    monkeypatch.setattr(blocks, "compile_train_loop", lambda *args: compiled.append(args[0]) or compile_loop(*args))
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
        monkeypatch.setattr(blocks, "PAYS", pays)
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


def mapped(x, path, mode="r"):
    np.save(path, x)
    return np.load(path, mmap_mode=mode)


@pytest.fixture(scope="module")
def by_single_steps():
    """The weights of a training on BITS, and the options of it; a tenth as many steps as pay."""
    options = {"optimizer": "adam", "iterations": 3, "batch_size": 7, "verbose": 0}
    model = autoencoder()
    keras_sae.fit(model, BITS, sample_weight=WEIGHTS, **options)
    return model.get_weights(), {**options, "sample_weight": WEIGHTS}


OTHER_KINDS = {
    "mapped": lambda path: mapped(BITS.astype("uint8"), path),
    "mapped, of another machine": lambda path: mapped(BITS.astype(">f8"), path, "c"),
    "sparse": lambda path: scipy.sparse.csr_matrix(BITS.astype("float64")),
    "subset, scaled": lambda path: RowSubset(
        mapped(2 * np.vstack([BITS, BITS]), path), np.arange(75, 150), keras.layers.Rescaling(0.5)
    ),
    "large": lambda path: BITS,
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_rows_that_are_read_train_as_rows_in_memory(kind, by_single_steps, loops, monkeypatch, tmp_path):
    """A block has two minibatches, so that some are read ahead and the last is short."""
    expected, options = by_single_steps
    monkeypatch.setattr(blocks, "LARGEST_BYTES", BITS.nbytes - 1)
    monkeypatch.setattr(blocks, "STEPS", 2)
    ae = autoencoder()
    keras_sae.fit(ae, OTHER_KINDS[kind](tmp_path / "x.npy"), **options)
    assert loops == [ae]
    assert no_readers()
    for found, theirs in zip(ae.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, theirs, atol=2e-5)


def no_readers():
    return not [thread.name for thread in threading.enumerate() if thread.name.startswith("reader")]


class Watched:
    """An array that is not in memory, tells who reads it, and may fail or wait."""

    shape, dtype = ROWS.shape, ROWS.dtype

    def __init__(self, before=lambda: None):
        self.before, self.threads = before, []

    def __len__(self):
        return len(ROWS)

    def __getitem__(self, rows):
        self.threads.append(threading.current_thread())
        self.before()
        return ROWS[rows]


def test_a_block_is_read_by_a_thread_while_the_one_before_is_computed():
    may_read, reads = threading.Event(), threading.Event()

    def before():
        if len(x.threads) > 4:  # those of the second block
            reads.set()
            assert may_read.wait(10)

    x = Watched(before)
    with ThreadPoolExecutor(1) as pool:
        read = blocks.ReadBlocks(Minibatches(x, batch_size=7), pool)
        read.steps = 4
        first, steps = read[0]  # does not wait for the second
        assert reads.wait(10)
        may_read.set()
        expected = ROWS[np.concatenate([read.minibatches.rows(i) for i in range(4)])]
        np.testing.assert_array_equal(first[0], expected)
        assert first[1:] == [None, None]
        assert steps == 4
        rest = [read[i] for i in (1, 2, 3)]
    assert [int(steps) for _, steps in rest] == [4, 2, 1]
    assert [len(block[0]) for block, _ in rest] == [28, 28, 5]  # of the second last, 14 rows count
    assert threading.current_thread() not in x.threads
    assert len(x.threads) == 11  # each minibatch once


def test_blocks_that_are_read_are_of_few_bytes_and_leave_no_pages(monkeypatch, tmp_path):
    forgotten = []
    monkeypatch.setattr(blocks, "forget", forgotten.append)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(blocks, "FORGET_EVERY", 2)
    x, y = mapped(ROWS, tmp_path / "x.npy"), mapped(ROWS[:, :1], tmp_path / "y.npy")
    with ThreadPoolExecutor(1) as pool:
        read = blocks.ReadBlocks(Minibatches(x, y, batch_size=7), pool)
        assert read.steps == 5  # of 196 bytes
        read[0][0][0]
    assert [id(array) for array in forgotten[:6]] == [id(x), id(y)] * 3  # after 2, 4 and 5 minibatches
    with ThreadPoolExecutor(1) as pool:
        assert blocks.ReadBlocks(Minibatches(x, batch_size=70), pool).steps == 1  # which has more


def test_an_error_of_the_reader_is_the_users(loops):
    def fail():
        if threading.current_thread().name.startswith("reader") and len(x.threads) > 6:
            raise OSError("the disk is gone")

    x, ae = RowSubset(Watched(fail)), autoencoder()
    x.threads = x.x.threads
    with pytest.raises(OSError, match="the disk is gone"):
        keras_sae.fit(ae, x, optimizer="adam", batch_size=7, verbose=0)
    assert loops == [ae]
    assert ae.train_function is None
    assert no_readers()


def test_ctrl_c_leaves_no_reader(loops, monkeypatch, tmp_path):
    compile_loop = blocks.compile_train_loop

    def interrupted(model, data):
        loop, calls = compile_loop(model, data), []

        def run(*arguments):
            calls.append(arguments)
            if len(calls) == 2:
                assert data.ahead.keys() == {1}
                raise KeyboardInterrupt
            return loop(*arguments)

        return run

    monkeypatch.setattr(blocks, "compile_train_loop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keras_sae.fit(autoencoder(), mapped(ROWS, tmp_path / "x.npy"), optimizer="adam", batch_size=7, verbose=0)
    assert no_readers()


def test_noise_is_drawn_anew_at_every_step(loops):
    ae = autoencoder(corruption=0.5)
    history = keras_sae.fit(ae, ROWS, optimizer="adam", iterations=3, batch_size=7, verbose=0).history
    assert loops == [ae]
    assert len(set(history["loss"])) == 3
    assert ae.corrupt.seed_generator.state.numpy()[1] == 3 * 11  # minibatches


@pytest.mark.parametrize("in_memory", [True, False])
def test_training_goes_on_where_it_was_stopped_bit_for_bit(in_memory, loops, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    x = ROWS if in_memory else mapped(ROWS, tmp_path / "x.npy")
    options = {"optimizer": "adam", "iterations": 4, "batch_size": 7, "verbose": 0}
    undisturbed = autoencoder()
    keras_sae.fit(undisturbed, x, **options)

    def stop(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=stop)]
    with pytest.raises(KeyboardInterrupt):
        keras_sae.fit(autoencoder(), x, checkpoint=tmp_path / "ae.npz", callbacks=callbacks, **options)
    resumed = autoencoder()
    keras_sae.fit(resumed, x, checkpoint=tmp_path / "ae.npz", **options)
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


def test_others_go_step_by_step(loops, monkeypatch):
    """Models without XLA or that run eagerly, parts of epochs, and trainings of few steps."""
    options = {"iterations": 1, "verbose": 0}
    eager = autoencoder()
    eager.compile("adam", run_eagerly=True)
    keras_sae.fit(eager, ROWS, optimizer=None, **options)
    without_xla = autoencoder(corruption=keras.layers.GaussianNoise(0.1))
    without_xla.corrupt.supports_jit = False
    keras_sae.fit(without_xla, ROWS, optimizer="adam", **options)
    ae = autoencoder()
    keras_sae.fit(ae, ROWS, optimizer="adam", batch_size=7, steps_per_epoch=3, **options)
    assert ae.optimizer.iterations == 3
    monkeypatch.setattr(blocks, "PAYS", 2)
    keras_sae.fit(autoencoder(), ROWS, optimizer="adam", **options)
    assert loops == []
