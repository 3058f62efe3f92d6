import keras
import numpy as np
import pytest
from keras import ops

import keras_sae
from keras_sae import HalfSquaredError, KLSparsity, SparseAutoencoder, SummedBinaryCrossentropy
from tests.keras_sae.conftest import autoencoder, raises, same_weights

# A value other than the default for every argument.
ARGUMENTS = {
    "units": 5,
    "sparsity": KLSparsity(0.2, 5.0, average="moving"),
    "weight_decay": 0.01,
    "activation": "tanh",
    "output_activation": "linear",
    "tied": True,
    "corruption": 0.25,
    "name": "own",
    "dtype": "float64",
}


def arguments_of(ae):
    """What the autoencoder holds for each name of ARGUMENTS, as plain values."""
    return {
        "units": ae.units,
        "sparsity": ae.sparsity and (type(ae.sparsity), ae.sparsity.get_config()),
        "weight_decay": ae.weight_decay,
        "activation": keras.activations.serialize(ae.activation),
        "output_activation": keras.activations.serialize(ae.output_activation),
        "tied": ae.tied,
        "corruption": ae.corruption,
        "name": ae.name,
        "dtype": ae.dtype,
    }


def test_weights_in_the_order_of_the_contract():
    ae = SparseAutoencoder(4)
    ae.build((None, 6))
    assert [w.shape for w in ae.get_weights()] == [(6, 4), (4,), (4, 6), (6,)]
    assert [v.shape for v in ae.trainable_variables] == [(6, 4), (4,), (4, 6), (6,)]


def test_tied_weights_in_the_order_of_the_contract():
    ae = SparseAutoencoder(4, tied=True, corruption=0.5)
    ae.build((None, 6))
    assert [w.shape for w in ae.get_weights()] == [(6, 4), (4,), (6,)]
    assert [v.shape for v in ae.trainable_variables] == [(6, 4), (4,), (6,)]


@pytest.mark.parametrize("tied", [False, True])
def test_initial_weights(tied):
    ae = SparseAutoencoder(30, tied=tied)
    ae.build((None, 50))
    limit = np.sqrt(6 / 80)
    for weights in ae.get_weights():
        if weights.ndim == 2:
            assert 0.9 * limit < np.abs(weights).max() <= limit
        else:
            assert not weights.any()


def test_forward_pass_by_hand():
    ae = SparseAutoencoder(1, dtype="float64")
    ae.build((None, 2))
    ae.set_weights([np.array([[np.log(3)], [7.0]]), np.zeros(1), np.array([[4.0, 0.0]]), np.array([-3.0, np.log(4)])])
    x = np.array([[1.0, 0.0]])
    # a = sigmoid(ln 3) = 3/4; outputs sigmoid(4 * 3/4 - 3) = 1/2 and sigmoid(ln 4) = 4/5
    np.testing.assert_allclose(ae.encode(x), [[0.75]], rtol=1e-14)
    np.testing.assert_allclose(ae(x), [[0.5, 0.8]], rtol=1e-14)


def test_tied_forward_pass_by_hand():
    ae = SparseAutoencoder(1, tied=True, dtype="float64", output_activation="linear")
    ae.build((None, 2))
    ae.set_weights([np.array([[np.log(3)], [2.0]]), np.zeros(1), np.array([0.0, 1.0])])
    # a = sigmoid(ln 3) = 3/4; a W^T + b = [3/4 ln 3, 3/4 * 2 + 1]
    np.testing.assert_allclose(ae(np.array([[1.0, 0.0]])), [[0.75 * np.log(3), 2.5]], rtol=1e-14)


@pytest.mark.parametrize("tied", [False, True])
def test_call_is_decode_of_encode(tied, x):
    ae = autoencoder(tied=tied, activation="tanh", output_activation="linear")
    features = ae.encode(x)
    assert features.shape == (23, 4)
    np.testing.assert_allclose(ae(x), ae.decode(features), rtol=1e-12)
    np.testing.assert_allclose(ae.encoder.predict(x, verbose=0), features, rtol=1e-5)  # Keras feeds float32


def test_encoder_is_a_model_that_shares_its_weights(x):
    ae = autoencoder()
    encoder, before = ae.encoder, ops.convert_to_numpy(ae.encode(x))
    assert isinstance(encoder, keras.Model)
    assert (encoder.input_shape, encoder.output_shape) == ((None, 6), (None, 4))
    ae.set_weights([2 * w for w in ae.get_weights()])
    after = ops.convert_to_numpy(encoder(x))
    assert not np.allclose(before, after)
    np.testing.assert_array_equal(after, ae.encode(x))
    np.testing.assert_array_equal(encoder.get_weights()[0], ae.kernel)


def test_corruption_masks_the_encoder_input_while_training_only(x):
    ae = autoencoder(corruption=0.5)
    clean = ops.convert_to_numpy(ae(x))
    np.testing.assert_array_equal(ae(x), clean)
    np.testing.assert_array_equal(clean, ae.decode(ae.encode(x)))
    assert not np.allclose(ae(x, training=True), clean)


SPARSITIES = {
    "kl": KLSparsity(0.2, 3.0),
    "moving": KLSparsity(0.2, 3.0, average="moving"),
    "l1": keras.regularizers.L1(0.01),
    "none": None,
}


@pytest.mark.parametrize("loss", [HalfSquaredError, SummedBinaryCrossentropy])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_keras_loss_on_one_full_batch_is_the_objective(sparsity, tied, loss, x):
    ae = autoencoder(sparsity=SPARSITIES[sparsity], tied=tied, weight_decay=0.1, dtype="float32")
    ae.compile(loss=loss())
    expected = keras_sae.objective(ae, x).value
    assert ae.evaluate(x, batch_size=23, verbose=0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_keras_loss_in_fit_on_one_full_batch_is_the_objective(sparsity, x):
    ae = autoencoder(sparsity=SPARSITIES[sparsity], weight_decay=0.1, dtype="float32")
    ae.compile()
    expected = keras_sae.objective(ae, x).value
    loss = ae.fit(x, batch_size=23, epochs=2, verbose=0).history["loss"]
    assert loss[0] == pytest.approx(expected, rel=1e-5)
    assert loss[1] != loss[0]


@pytest.mark.parametrize("average", ["batch", "moving"])
def test_keras_gradient_on_one_full_batch_is_that_of_the_objective(average, x):
    ae = autoencoder(dtype="float32", sparsity=KLSparsity(average=average))
    ae.compile(keras.optimizers.SGD(0.1))
    before, gradients = ae.get_weights(), keras_sae.objective(ae, x).gradients
    ae.fit(x, batch_size=23, epochs=1, verbose=0)
    for old, new, gradient in zip(before, ae.get_weights(), gradients, strict=True):
        np.testing.assert_allclose(old - new, 0.1 * gradient, atol=1e-6)


def test_fit_learns_to_return_its_input(x):
    ae = SparseAutoencoder(4, sparsity=None, weight_decay=0.0)
    ae.compile(optimizer="adam", metrics=["mse"])
    history = ae.fit(x, epochs=3, validation_split=0.25, batch_size=6, verbose=0).history
    assert isinstance(ae.loss, HalfSquaredError)
    assert history["loss"][-1] < history["loss"][0]
    # the mean over 6 features of the square, against half its sum
    assert history["val_loss"][-1] == pytest.approx(6 / 2 * history["val_mse"][-1], rel=1e-5)


def test_fit_takes_other_targets(x):
    ae = autoencoder(dtype="float32", sparsity=None, weight_decay=0.0)
    ae.compile(loss="mse")
    target = np.zeros_like(x)
    expected = np.mean(np.square(ops.convert_to_numpy(ae(x.astype("float32")))))
    assert ae.evaluate(x, target, batch_size=23, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_denoising_targets_stay_clean():
    """With the encoder frozen at 0 the output bias alone learns, and it learns the clean input, 0.8, not 0.1 * 0.8."""
    ae = SparseAutoencoder(1, sparsity=None, weight_decay=0.0, corruption=0.9, output_activation="linear")
    ae.build((None, 3))
    ae.set_weights([np.zeros(w.shape) for w in ae.get_weights()])
    ae.compile(keras.optimizers.SGD(0.5))
    ae.encoder.trainable = False
    ae.fit(np.full((64, 3), 0.8), batch_size=64, epochs=30, verbose=0)
    np.testing.assert_allclose(ae(np.zeros((1, 3))), [[0.8] * 3], atol=0.01)


def test_arguments_survive_get_config():
    ae = SparseAutoencoder(**ARGUMENTS)
    copy = SparseAutoencoder.from_config(ae.get_config())
    assert arguments_of(copy) == arguments_of(ae)
    plain = {**ARGUMENTS, "sparsity": (KLSparsity, {"rho": 0.2, "beta": 5.0, "inactive": -1.0, "average": "moving"})}
    assert arguments_of(copy) == plain


@pytest.mark.parametrize("sparsity", [None, "kl", keras.regularizers.L1(0.5)])
def test_sparsity_survives_get_config(sparsity):
    ae = SparseAutoencoder(3, sparsity=sparsity)
    copy = SparseAutoencoder.from_config(ae.get_config())
    expected = {None: None, "kl": KLSparsity(0.05, 3.0)}.get(sparsity, sparsity)
    assert type(copy.sparsity) is type(expected)
    assert expected is None or copy.sparsity.get_config() == expected.get_config()


@pytest.mark.parametrize("options", [ARGUMENTS, {"units": 5}, {"units": 5, "sparsity": None, "tied": True}])
def test_plain_keras_loads_what_was_saved(options, x, tmp_path):
    ae = SparseAutoencoder(**options)
    ae.build((None, 6))
    ae.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert type(copy) is SparseAutoencoder
    assert arguments_of(copy) == arguments_of(ae)
    assert same_weights(copy, ae)
    np.testing.assert_array_equal(copy(x), ae(x))
    np.testing.assert_array_equal(copy.encoder(x), ae.encoder(x))


def test_compiled_model_keeps_loss_and_optimizer_state_when_saved(x, tmp_path):
    ae = SparseAutoencoder(4)
    ae.compile(keras.optimizers.Adam(0.02), loss=SummedBinaryCrossentropy())
    ae.fit(x, batch_size=12, epochs=3, verbose=0)
    ae.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(copy.loss, SummedBinaryCrossentropy)
    assert float(copy.optimizer.learning_rate) == pytest.approx(0.02)
    assert int(copy.optimizer.iterations) == 6
    assert len(copy.optimizer.variables) == len(ae.optimizer.variables)
    assert keras_sae.objective(copy, x).value == pytest.approx(keras_sae.objective(ae, x).value, rel=1e-12)


def test_default_sparsity_is_that_of_the_documentation():
    assert SparseAutoencoder(3).sparsity.get_config() == {
        "rho": 0.05,
        "beta": 3.0,
        "inactive": 0.0,
        "average": "batch",
    }
    assert SparseAutoencoder(3, activation="tanh").sparsity.inactive == -1.0


def test_relu_units_take_l1(x):
    ae = SparseAutoencoder(3, sparsity=keras.regularizers.L1(1e-3), activation="relu")
    assert ae(x).shape == (23, 6)


@pytest.mark.parametrize("units", [0, -1, 2.5, "3", None])
def test_units_must_be_a_positive_integer(units):
    with raises(ValueError, "`units`", "must be a positive integer", f"Received: units={units}"):
        SparseAutoencoder(units)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"corruption": 1.0}, ["`corruption`", "at least 0 and below 1", "Received: 1.0"]),
        ({"weight_decay": -1}, ["`weight_decay` must be finite and 0 or more", "weight_decay=-1"]),
        ({"activation": "relu"}, ["bounded by 1", "keras.regularizers.L1", "activation='relu'"]),
    ],
)
def test_arguments_out_of_range(options, parts):
    with raises(ValueError, *parts):
        SparseAutoencoder(3, **options)


def test_encoder_before_the_number_of_features_is_known():
    with raises(ValueError, "The SparseAutoencoder has no weights yet", "build((None, features)) first"):
        _ = SparseAutoencoder(3).encoder


@pytest.mark.parametrize("shape", [(None, None), (None, 4, 4), (4,)])
def test_data_must_be_rows_of_features(shape):
    with raises(ValueError, "Expected data of shape (examples, features)", f"Received shape: {shape}"):
        SparseAutoencoder(3).build(shape)
