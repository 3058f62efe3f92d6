import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

import keras_sae
from keras_sae.data.containers import RowSubset, as_array, in_memory, is_array
from tests.keras_sae.conftest import autoencoder, randomise, two_layers

pandas = pytest.importorskip("pandas")
SPARSE = [scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_matrix]


def containers(x):
    """The same rows in all kinds of containers; the tables have an index of their own."""
    index = np.random.default_rng(3).permutation(len(x))
    yield x.tolist()
    yield tf.constant(x)
    yield pandas.DataFrame(x, index=index)
    yield RowSubset(x)
    yield from (kind(x) for kind in SPARSE)


def test_the_objective_and_training_read_rows_by_position(x, labels):
    ae = autoencoder(dtype="float32")
    expected = keras_sae.objective(ae, x).value
    for data in containers(x):
        assert is_array(data)
        assert keras_sae.objective(ae, data, chunk_size=7).value == pytest.approx(expected, rel=1e-6)
    trained = []
    column = pandas.Series(labels, index=np.random.default_rng(3).permutation(23))
    for data, y in [(x, labels), *((data, column) for data in containers(x))]:
        keras.utils.set_random_seed(0)
        classifier = randomise(two_layers(dtype="float32").classifier(3))
        keras_sae.fit_head(classifier, data, y, iterations=2, verbose=0)
        keras_sae.fit(classifier, data, y, "adam", 2, batch_size=5, verbose=0)
        trained.append(keras_sae.objective(classifier, x, labels).value)
    np.testing.assert_allclose(trained, trained[0], rtol=1e-5)


def test_stacks_read_rows_by_position(x):
    losses = []
    for data in [x, *containers(x)]:
        stack = two_layers(dtype="float32")
        losses.append([h.history["loss"][-1] for h in stack.pretrain(data, iterations=2, verbose=0)])
    np.testing.assert_allclose(losses, np.tile(losses[0], (len(losses), 1)), rtol=1e-4)


@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_matrices_become_dense_some_rows_at_a_time(kind, x):
    rows = as_array(kind(x))
    assert not in_memory(rows)
    assert (rows.shape, rows.dtype) == (x.shape, x.dtype)
    np.testing.assert_array_equal(rows[2:5], x[2:5])
    np.testing.assert_array_equal(rows[np.array([4, 0])], x[[4, 0]])


def test_encode_takes_lists(x):
    ae = keras_sae.SparseAutoencoder(4)
    np.testing.assert_allclose(ae.encode(x.tolist()), ae.encode(x), rtol=1e-6)


def test_chosen_rows_describe_themselves():
    chosen = RowSubset(np.zeros((5000, 3), "uint8"), np.arange(1200))
    assert repr(chosen) == "RowSubset(1,200 rows of 3 features, uint8)"
