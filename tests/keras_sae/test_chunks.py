import keras
import numpy as np
import pytest

from keras_sae.chunks import Chunks, outputs
from tests.keras_sae.conftest import autoencoder


def rows(chunks):
    return [(keras.ops.convert_to_numpy(x), None if y is None else keras.ops.convert_to_numpy(y)) for x, y in chunks]


@pytest.mark.parametrize("chunk_size", [1, 7, 23, 100])
def test_chunks_together_are_the_data_at_every_pass(chunk_size, x, labels):
    chunks = Chunks(x, labels, chunk_size, dtype="float64")
    for _ in range(2):
        found = rows(chunks)
        assert [len(a) for a, _ in found[:-1]] == [min(chunk_size, 23)] * (len(found) - 1)
        np.testing.assert_array_equal(np.concatenate([a for a, _ in found]), x)
        np.testing.assert_array_equal(np.concatenate([b for _, b in found]), labels)


def test_without_targets_there_are_none_and_the_model_says_what_it_is_to_return(x):
    for inputs, targets in rows(Chunks(x, chunk_size=7, dtype="float32")):
        assert inputs.dtype == "float32"
        assert targets is None


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
    found = outputs(ae.encoder, x, chunk_size=7)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, ae.encode(x), rtol={"float32": 1e-5, "float64": 1e-12}[dtype])
