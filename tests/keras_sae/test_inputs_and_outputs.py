"""Rows of every kind in, arrays out: transform, reconstruct, reconstruction_error, and the decoder alone."""

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf
from keras import ops

import keras_sae
from keras_sae.data.preprocessing import fit_preprocessing
from tests.keras_sae.conftest import Batches, autoencoder, raises, two_layers


def memory_mapped(x, folder):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


KINDS = {
    "array": lambda x, folder: x,
    "integers": lambda x, folder: np.round(x).astype("uint8"),
    "list": lambda x, folder: x.tolist(),
    "tensor": lambda x, folder: ops.convert_to_tensor(x),
    "table with an index of its own": lambda x, folder: pd.DataFrame(x, index=np.arange(len(x))[::-1]),
    "memory-mapped": memory_mapped,
    "sparse": lambda x, folder: scipy.sparse.csc_array(x),
    "tf.data": lambda x, folder: tf.data.Dataset.from_tensor_slices((x, x[:, 0])).batch(9),
    "PyDataset": lambda x, folder: Batches(x),
}


@pytest.mark.parametrize("model", [autoencoder, two_layers])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_kind_give_arrays(kind, model, x, tmp_path):
    model = model(dtype="float32")
    data = KINDS[kind](x, tmp_path)
    x = np.round(x) if kind == "integers" else x
    features, xhat = np.asarray(model.encode(x.astype("float32"))), np.asarray(model(x.astype("float32")))
    for expected, found in [
        (features, model.transform(data, batch_size=7)),
        (xhat, model.reconstruct(data, batch_size=7)),
        (0.5 * ((xhat - x) ** 2).sum(axis=1), model.reconstruction_error(data, batch_size=7)),
        (0.5 * (xhat - x) ** 2, model.reconstruction_error(data, per_feature=True)),
    ]:
        assert type(found) is np.ndarray
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_mean_error_is_the_term_of_the_objective(x):
    ae = autoencoder()
    errors = ae.reconstruction_error(x)
    assert errors.dtype == "float64"
    assert errors.shape == (23,)
    assert errors.mean() == pytest.approx(keras_sae.objective(ae, x).parts["reconstruction"], rel=1e-12)


def test_the_error_by_hand():
    ae = keras_sae.SparseAutoencoder(1, dtype="float64", output_activation="linear")
    ae.build((None, 2))
    ae.set_weights([np.zeros((2, 1)), np.zeros(1), np.array([[2.0, 4.0]]), np.array([0.0, 1.0])])  # gives (1, 3)
    x = [[1.0, 1.0], [4.0, 2.0]]
    np.testing.assert_array_equal(ae.reconstruction_error(x), [2.0, 5.0])
    np.testing.assert_array_equal(ae.reconstruction_error(x, per_feature=True), [[0.0, 2.0], [4.5, 0.5]])


def test_a_stack_with_preprocessing_takes_raw_rows(x):
    scaling = keras.layers.Rescaling(0.1)
    ae = autoencoder(dtype="float32")
    stack = keras_sae.StackedAutoencoder([ae], preprocessing=scaling)
    stack.build((None, 6))
    np.testing.assert_allclose(stack.transform(10 * x), ae.transform(x), rtol=1e-5)
    np.testing.assert_allclose(stack.reconstruct(10 * x), ae.reconstruct(x), rtol=1e-5)
    np.testing.assert_allclose(stack.reconstruction_error(10 * x), ae.reconstruction_error(x), rtol=1e-4)


def test_a_row_far_outside_the_training_data_has_an_error_of_its_distance(x):
    """Preprocessing cuts it off at the range of the training data; the error is measured before."""
    stack = keras_sae.StackedAutoencoder([autoencoder(dtype="float32")], preprocessing=fit_preprocessing(x))
    stack.build((None, 6))
    near, far, farther = stack.reconstruction_error([np.full(6, value) for value in (0.5, 10.0, 100.0)])
    assert near < far < farther / 50


def test_half_precision_comes_as_single(x):
    ae = autoencoder(dtype="mixed_bfloat16")
    for found in (ae.transform(x), ae.reconstruct(x)):
        assert found.dtype == "float32"
    assert ae.reconstruction_error(x).dtype == "float64"


def test_noise_is_for_training_alone(x):
    noisy, plain = autoencoder(corruption=0.5), autoencoder()
    np.testing.assert_array_equal(noisy.reconstruct(x), plain.reconstruct(x))


@pytest.mark.parametrize("method", ["transform", "reconstruct", "reconstruction_error"])
def test_what_cannot_be_used_is_said(method, x):
    with raises(ValueError, "The SparseAutoencoder has no weights yet", "fit it, or call build((None, features))"):
        getattr(keras_sae.SparseAutoencoder(3), method)(x)
    with raises(ValueError, "Expected data of shape (examples, 6), as the model takes. Received shape: (23, 5)"):
        getattr(autoencoder(), method)(x[:, :5])
    with raises(ValueError, "Expected data of shape (examples, features)", "Received shape: (6,)"):
        getattr(autoencoder(), method)(x[0])


@pytest.mark.parametrize("tied", [False, True])
def test_the_decoder_shares_the_weights(tied, x):
    ae = autoencoder(tied=tied)
    decoder = ae.decoder
    features = ae.transform(x)
    np.testing.assert_array_equal(keras_sae.predict_in_chunks(decoder, features), ae.reconstruct(x))
    ae.set_weights([w / 2 for w in ae.get_weights()])
    np.testing.assert_array_equal(decoder(features), ae.decode(features))
    assert decoder.input_shape == (None, 4)
    assert decoder.output_shape == (None, 6)


def test_the_decoder_of_a_stack(x):
    stack = two_layers()
    np.testing.assert_array_equal(np.asarray(stack.decoder(stack.encode(x))), stack.reconstruct(x))


def test_the_decoder_changes_nothing_of_a_file(tmp_path):
    """Keras names what it saves by the first attribute that leads to it: those of files that exist already."""
    ae = autoencoder(dtype="float32")
    assert ae.decoder.count_params() == 4 * 6 + 6
    ae.save_weights(tmp_path / "own.weights.h5")
    names = []
    with h5py.File(tmp_path / "own.weights.h5") as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    assert names == [f"{place}layers/dense/vars/{i}" for place in ("encoder/", "") for i in (0, 1)]


def test_loaded_encoders_and_classifiers(x, tmp_path):
    stack = two_layers(dtype="float32")
    keras_sae.save(stack, tmp_path / "stack")
    encoder = keras_sae.load_encoder(tmp_path / "stack")
    table = pd.DataFrame(x, index=np.arange(len(x))[::-1])
    np.testing.assert_allclose(keras_sae.predict_in_chunks(encoder, table), stack.transform(x), rtol=1e-6)
    np.testing.assert_allclose(keras_sae.load(tmp_path / "stack").transform(table), stack.transform(x), rtol=1e-6)
