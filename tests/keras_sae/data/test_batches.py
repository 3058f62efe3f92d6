import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sae.data.batches import Chunks, TransformedDataset, predict_in_chunks, predict_to_file
from keras_sae.data.containers import RowSubset, in_memory
from tests.keras_sae.conftest import Batches, autoencoder, raises


def rows(chunks):
    return [(keras.ops.convert_to_numpy(x), None if y is None else keras.ops.convert_to_numpy(y)) for x, y, _ in chunks]


@pytest.mark.parametrize("chunk_size", [1, 7, 23, 100])
def test_chunks_together_are_the_data_at_every_pass(chunk_size, x, labels):
    chunks = Chunks(x, labels, chunk_size, dtype="float64")
    for _ in range(2):
        found = rows(chunks)
        assert [len(a) for a, _ in found[:-1]] == [min(chunk_size, 23)] * (len(found) - 1)
        np.testing.assert_array_equal(np.concatenate([a for a, _ in found]), x)
        np.testing.assert_array_equal(np.concatenate([b for _, b in found]), labels)


def test_there_are_no_targets_but_those_given(x):
    """What a model learns to return where none are given, it says itself: see `Autoencoder.targets`."""
    found = list(Chunks(x, chunk_size=7, dtype="float32"))
    assert all(targets is None for _, targets, _ in found)
    np.testing.assert_array_equal(np.concatenate([inputs for inputs, *_ in found]), x.astype("float32"))


def test_memory_mapped_arrays_are_read_at_every_pass_and_others_converted_once(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    from_disk, in_memory = Chunks(mapped, dtype="float32"), Chunks(x, dtype="float32")
    before = rows(from_disk)[0][0].copy()
    np.testing.assert_array_equal(rows(in_memory)[0][0], before)
    mapped *= 2
    x *= 2
    np.testing.assert_array_equal(rows(from_disk)[0][0], 2 * before)
    np.testing.assert_array_equal(rows(in_memory)[0][0], before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outputs_of_a_model_in_its_own_precision(dtype, x):
    ae = autoencoder(dtype=dtype)
    found = predict_in_chunks(ae.encoder, x, chunk_size=7)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, ae.encode(x), rtol={"float32": 1e-5, "float64": 1e-12}[dtype])


# --- views ---


@pytest.fixture
def mapped(x, tmp_path):
    np.save(tmp_path / "mapped.npy", x)
    return np.load(tmp_path / "mapped.npy", mmap_mode="r")


@pytest.mark.parametrize("key", [slice(2, 9), slice(None), slice(5, 100), slice(-3, None), np.array([4, 0, 4]), [1, 3]])
@pytest.mark.parametrize("rows", [None, np.array([22, 3, 3, 0, 7, 11, 1, 9, 8, 20])])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_views_are_read_as_the_array_of_these_rows_is(where, rows, key, x, mapped):
    view, expected = RowSubset({"memory": x, "disk": mapped}[where], rows), x if rows is None else x[rows]
    assert (len(view), view.shape, view.ndim) == (len(expected), expected.shape, 2)
    assert view[key].dtype == view.dtype == x.dtype
    np.testing.assert_array_equal(view[key], expected[key])


def test_views_of_views(x):
    inner = RowSubset(x, np.array([8, 2, 5, 3]))
    np.testing.assert_array_equal(RowSubset(inner, np.array([3, 0]))[:], x[[3, 8]])


def test_views_are_transformed_as_they_are_read(mapped):
    encoder = autoencoder(dtype="float32").encoder
    view = RowSubset(mapped, np.array([20, 4, 6]), encoder)
    assert (view.shape, view.dtype, view[:].dtype) == ((3, 4), "float32", "float32")
    np.testing.assert_allclose(view[:], encoder(mapped[[20, 4, 6]].astype("float32")), rtol=1e-6)
    np.testing.assert_allclose(predict_in_chunks(keras.layers.Rescaling(2), view, chunk_size=2), 2 * view[:], rtol=1e-6)


def test_chunks_of_a_view(x, mapped, labels):
    rows = np.arange(22, -1, -2)
    found = list(Chunks(RowSubset(mapped, rows), labels[rows], chunk_size=5))
    assert [len(a) for a, *_ in found] == [5, 5, 2]
    np.testing.assert_array_equal(np.concatenate([a for a, *_ in found]), x[rows].astype("float32"))
    np.testing.assert_array_equal(np.concatenate([b for _, b, _ in found]), labels[rows])
    with raises(ValueError, "Expected one target for each of the 12 inputs. Received: 23"):
        Chunks(RowSubset(mapped, rows), labels)
    with raises(ValueError, "at least one row. Received shape: (0, 6)"):
        Chunks(RowSubset(mapped, rows[:0]))


def test_what_is_in_memory(x, mapped):
    for data in (
        x,
        x[3:],
        x.copy(),
        tf.constant(x),
        RowSubset(x),
        RowSubset(RowSubset(x), np.arange(3)),
        np.array(mapped),
    ):
        assert in_memory(data)
    batches = tf.data.Dataset.from_tensor_slices(x).batch(7)
    for data in (
        mapped,
        mapped[3:],
        mapped[:, 1:],
        RowSubset(mapped),
        RowSubset(RowSubset(mapped), np.arange(3)),
        batches,
    ):
        assert not in_memory(data)


# --- data sets that are transformed as they are read ---


@pytest.mark.parametrize("with_labels", [False, True])
@pytest.mark.parametrize("kind", ["tf.data", "PyDataset"])
def test_mapped_data_sets(kind, with_labels, x, labels):
    arrays = (x, labels) if with_labels else (x,)
    batches = tf.data.Dataset.from_tensor_slices(arrays).batch(7) if kind == "tf.data" else Batches(*arrays)
    transformed = TransformedDataset(batches, keras.layers.Rescaling(2, 1))
    for _ in range(2):
        found = list(Chunks(transformed))
        assert [len(a) for a, *_ in found] == [7, 7, 7, 2]
        np.testing.assert_allclose(np.concatenate([a for a, *_ in found]), 2 * x + 1, rtol=1e-6)
        if with_labels:
            np.testing.assert_array_equal(np.concatenate([b for _, b, _ in found]), labels)
        else:
            assert all(b is None for _, b, _ in found)


# --- outputs on disk ---


@pytest.mark.parametrize("chunk_size", [1, 7, 100])
def test_outputs_on_disk_are_those_in_memory(chunk_size, x, mapped, tmp_path):
    encoder = autoencoder(dtype="float32").encoder
    expected = predict_in_chunks(encoder, x)
    for number, data in enumerate(
        (mapped, x, RowSubset(mapped), tf.data.Dataset.from_tensor_slices(x).batch(chunk_size))
    ):
        path = tmp_path / f"{number}.npy"
        found = predict_to_file(encoder, data, path, chunk_size)
        assert isinstance(found, np.memmap)
        assert not found.flags.writeable
        assert (found.shape, found.dtype) == ((23, 4), "float32")
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        np.testing.assert_array_equal(np.load(path), found)


def test_outputs_on_disk_keep_precision_and_shape(x, tmp_path):
    found = predict_to_file(autoencoder().encoder, x, tmp_path / "wide.npy", 7)
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, autoencoder().encode(x), rtol=1e-12)
    found = predict_to_file(keras.layers.Reshape((2, 3)), x, tmp_path / "cubes.npy", 7)
    np.testing.assert_allclose(found, x.reshape(23, 2, 3), rtol=1e-6)


def test_many_rows_fit_into_the_header_that_was_written_for_none(tmp_path):
    found = predict_to_file(keras.layers.Identity(), np.zeros((123_456, 1), "float32"), tmp_path / "x.npy", 50_000)
    assert found.shape == np.load(tmp_path / "x.npy").shape == (123_456, 1)


def test_an_error_in_the_middle_leaves_no_file(x, tmp_path):
    def broken(rows):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(rows))
        return rows

    seen, layer = [], keras.layers.Lambda(broken)
    with pytest.raises(KeyboardInterrupt):
        predict_to_file(layer, x, tmp_path / "x.npy", 7)
    assert seen == [7, 7]
    assert list(tmp_path.iterdir()) == []
    seen.append("and go on")
    assert predict_to_file(layer, x, tmp_path / "x.npy", 7).shape == (23, 6)


def test_a_file_of_the_same_weights_and_data_is_used_again(x, tmp_path):
    """Of other weights, rows or numbers of rows it is written anew, and so is a file of something else."""
    encoder, path = autoencoder().encoder, tmp_path / "x.npy"

    def written(data):
        before = path.stat().st_mtime_ns if path.exists() else None
        np.testing.assert_allclose(predict_to_file(encoder, data, path), encoder(data), rtol=1e-12)
        return path.stat().st_mtime_ns != before

    path.write_bytes(b"else")
    assert [written(x), written(x)] == [True, False]
    encoder.set_weights([weights + 1 for weights in encoder.get_weights()])
    assert [written(x), written(x)] == [True, False]
    assert [written(x[:-1]), written(x[:-1] + 1), written(x[:-1] + 1)] == [True, True, False]


def test_a_data_set_without_rows_leaves_no_file(x, tmp_path):
    empty = tf.data.Dataset.from_tensor_slices(x[:0]).batch(7)
    with raises(ValueError, "at least one row"):
        predict_to_file(autoencoder().encoder, empty, tmp_path / "x.npy")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_what_bfloat16_computes(tmp_path):
    encoder = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, dtype="mixed_bfloat16")])
    x = np.random.default_rng(0).random((9, 6)).astype("float32")
    found = predict_to_file(encoder, x, tmp_path / "x.npy")
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, np.asarray(encoder(x)).astype("float32"))
