"""activations: what is written, in which order, resumed to the same bytes after a kill, and refused."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from keras_sae.data import readers
from keras_sae.errors import InputError
from keras_sae.host import activation_files
from tests.keras_sae.conftest import Batches, raises

ROWS = 45


@pytest.fixture
def model():
    inputs = keras.Input((6,), name="inputs")
    hidden = keras.layers.Dense(3, "tanh", name="hidden")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="last")(hidden), name="model")


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(-1, 1, (ROWS, 6)).astype("float32")


@pytest.fixture
def expected(model, x):
    kernel, bias = model.get_layer("hidden").get_weights()
    return np.tanh(x @ kernel + bias)


@pytest.fixture
def write(model, x, tmp_path):
    """write(data, name, ...) -> what `activations` returns, in batches of 7 rows."""

    def write(data=x, name="a.npy", **options):
        options = {"seed": None, "batch_size": 7, "verbose": 0} | options
        return keras_sae.activations(model, "hidden", data, tmp_path / name, **options)

    return write


def tf_data(x):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x)))).batch(7)


def mapped(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


DATA = {
    "array": lambda x, folder: x,
    "list": lambda x, folder: x.tolist(),
    "memory-mapped": mapped,
    "PyDataset": lambda x, folder: Batches(x),
    "tf.data": lambda x, folder: tf_data(x),
}


@pytest.mark.parametrize("name", ["a.npy", "a.parquet", "a"])
@pytest.mark.parametrize("kind", DATA)
def test_all_rows_in_their_order(kind, name, x, expected, write, tmp_path):
    found = write(DATA[kind](x, tmp_path), name, block_rows=10)
    assert (type(found), found.dtype) == (np.memmap, "float32")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(readers.read_rows(tmp_path / name).x, found)
    assert {path.name for path in tmp_path.iterdir()} <= {name, "x.npy"}


def test_a_block_is_a_file_of_parquet(write, tmp_path):
    write(name="a.parquet", block_rows=10)
    names = sorted(path.name for path in (tmp_path / "a.parquet").iterdir())
    assert names == [f"part-0000{i}.parquet" for i in range(4)]


def test_rows_are_permuted_in_blocks(expected, write):
    """Batches of 7 and blocks of 10 rows or more: 14, 14, 14, 3."""
    found = write(seed=3, block_rows=10)
    order = [
        start + np.random.default_rng((3, block)).permutation(size)
        for block, (start, size) in enumerate([(0, 14), (14, 14), (28, 14), (42, 3)])
    ]
    np.testing.assert_allclose(found, expected[np.concatenate(order)], rtol=1e-5, atol=1e-6)


def test_the_seed_decides(write):
    one, same, other = (write(name=f"{i}.npy", seed=seed) for i, seed in enumerate((1, 1, 2)))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(np.sort(one, axis=0), np.sort(other, axis=0))


@pytest.mark.parametrize(("shape", "layer"), [((5, 2), "Dense"), ((4, 6, 2), "Conv2D")])
def test_positions_become_rows(shape, layer, tmp_path):
    options = {"name": "hidden"} | ({"kernel_size": 3} if layer == "Conv2D" else {})
    model = keras.Sequential([keras.Input(shape), getattr(keras.layers, layer)(3, **options), keras.layers.Flatten()])
    x = np.random.default_rng(0).normal(size=(9, *shape)).astype("float32")
    found = keras_sae.activations(model, "hidden", x, tmp_path / "a.npy", None, batch_size=4, verbose=0)
    np.testing.assert_allclose(found, np.reshape(model.layers[0](x), (-1, 3)), rtol=1e-5, atol=1e-6)


def test_half_precision_becomes_float32(x, tmp_path):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, name="hidden", dtype="mixed_bfloat16")])
    found = keras_sae.activations(model, "hidden", x, tmp_path / "a.npy", None, verbose=0)
    np.testing.assert_array_equal(found, np.array(model(x)).astype("float32"))


class Killed(BaseException):
    """Ends a call as a kill does."""


@pytest.mark.parametrize("name", ["a.npy", "a.parquet"])
@pytest.mark.parametrize("kind", ["array", "PyDataset", "tf.data"])
@pytest.mark.parametrize("calls", [1, 2, 4])
def test_a_kill_while_a_block_is_written(calls, kind, name, x, write, tmp_path, monkeypatch):
    """The block is on the disk in part, or in full but not counted."""
    data = DATA[kind](x, tmp_path)
    options = {"seed": 5, "block_rows": 10}
    write(data, f"undisturbed-{name}", **options)
    place = activation_files._output_at(tmp_path / name)
    record, count = type(place)._write, []

    def die(self, block):
        count.append(len(block))
        record(self, block if calls == 2 else block[: len(block) // 2])
        if len(count) == calls:
            raise Killed
        record(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(type(place), "_write", die)
        with pytest.raises(Killed):
            write(data, name, **options)
    assert not (tmp_path / name).exists()
    computed = []
    with monkeypatch.context() as patch:
        patch.setattr(type(place), "_write", lambda self, block: (computed.append(len(block)), record(self, block)))
        write(data, name, **options)
    assert computed == [14, 14, 14, 3][calls - 1 :]
    assert content(tmp_path / name) == content(tmp_path / f"undisturbed-{name}")
    assert not (tmp_path / f".{name}.partial").exists()


def content(path):
    return {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else path.read_bytes()


def test_a_kill_before_the_last_rename(write, tmp_path, monkeypatch):
    expected = write(name="undisturbed.npy")
    with monkeypatch.context() as patch:
        patch.setattr(activation_files._Output, "publish", lambda self: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            write()
    np.testing.assert_array_equal(write(), expected)


def test_little_is_in_memory_at_a_time(x, write, monkeypatch):
    blocks, add = [], activation_files._Output.add
    monkeypatch.setattr(activation_files, "BLOCK_BYTES", 10 * 3 * 4)

    def seen(self, block, batches):
        blocks.append(len(block))
        add(self, block, batches)

    monkeypatch.setattr(activation_files._Output, "add", seen)
    write(np.tile(x, (4, 1)))
    assert (max(blocks), sum(blocks)) == (14, 180)


def interrupted(write, data=None, **options):
    """Begin to write, and leave the first block."""
    add = activation_files._Output.add

    def stop(self, block, batches):
        add(self, block, batches)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activation_files._Output, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            write(*([] if data is None else [data]), block_rows=10, **options)


def test_a_resumed_call_is_the_same_call(model, x, write, tmp_path):
    interrupted(write)
    beginning = f"Expected the model and the data that {tmp_path / '.a.npy.partial'} was begun with. Received: another "
    for options, changed in [
        ({"seed": 1}, "seed."),
        ({"batch_size": 8}, "batch_size, first batch."),
        ({"block_rows": 11}, "block_rows."),
        ({"data": x[:40]}, "rows, data."),
        ({"data": -x}, "first batch, data."),
        ({"data": np.concatenate([x[:-1], x[-1:] + 1])}, "data."),
    ]:
        with raises(InputError, beginning + changed, "delete that directory to start anew"):
            write(**{"block_rows": 10} | options)
    model.get_layer("hidden").bias.assign([1.0, 2.0, 3.0])
    with raises(InputError, beginning + "weights."):
        write(block_rows=10)
    (tmp_path / ".a.npy.partial" / "progress.json").unlink()
    expected = np.tanh(x @ model.get_layer("hidden").kernel + [1, 2, 3])
    np.testing.assert_allclose(write(block_rows=10), expected, rtol=1e-5)


def test_what_exists_is_not_overwritten(write, tmp_path):
    write()
    before = content(tmp_path / "a.npy")
    with raises(InputError, f"Expected a new place to write to. Received: {tmp_path / 'a.npy'}, which exists. Read it"):
        write()
    assert content(tmp_path / "a.npy") == before
    write(name="a.parquet")
    with raises(
        InputError, "which exists. Read it with keras_sae.readers.read_rows(path), delete it, or name another."
    ):
        write(name="a.parquet")


def test_one_process_at_a_time(write, tmp_path):
    from keras_sae.locks import held

    with (
        held(tmp_path / ".a.npy.partial", "a"),
        raises(InputError, f"Expected one process at a time to write {tmp_path / 'a.npy'}. Received: another"),
    ):
        write()


def test_a_failure_leaves_nothing_behind(x, write, tmp_path):
    x[-1] = np.nan
    with raises(InputError, "Expected a name that ends in .npy, .parquet or no suffix", "Received: ", "a.csv"):
        write(name="a.csv")
    with raises(
        ValueError,
        "Expected data that can be read again, and have an end. Received: generator. Give an array",
    ):
        write(batch for batch in [x])
    with raises(ValueError, "Expected data of shape (examples, 6), as the model takes. Received shape: (45, 5)"):
        write(x[:, :5])
    for options, message in [
        ({"batch_size": 0}, "`batch_size` expects 1 row or more. Received: 0"),
        ({"block_rows": 0}, "`block_rows` expects 1 row or more. Received: 0"),
        ({"seed": -1}, "`seed` expects a whole number from 0 to 4294967295. Received: -1"),
    ]:
        with raises(ValueError, message):
            write(**options)
    assert list(tmp_path.iterdir()) == []


def test_a_model_has_one_input(x, tmp_path):
    inputs = [keras.Input((6,)), keras.Input((6,))]
    both = keras.layers.Add(name="both")(inputs)
    with raises(ValueError, "Expected a model with one input. Received: two with 2."):
        keras_sae.activations(keras.Model(inputs, both, name="two"), "both", x, tmp_path / "a.npy")


def test_the_disk_has_room(write, monkeypatch):
    usage = activation_files.check_space.__globals__["shutil"].disk_usage
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(folder)._replace(free=539))
    with raises(InputError, "of room on the disk of "):
        write()  # 45 * 3 * 4 = 540 bytes


def test_the_bar(write, capsys):
    write(verbose=1)
    assert re.search(r"hidden: 100%.*45/45", capsys.readouterr().err)
    write(name="b.npy")
    assert capsys.readouterr().err == ""


def test_data_without_an_end_are_refused(write):
    endless = tf.data.Dataset.from_tensor_slices(np.zeros((9, 6), "float32")).batch(8).repeat()
    with raises(ValueError, "and have an end.", "tf.data.Dataset that does not repeat"):
        write(endless)
