import keras
import numpy as np
import pytest
from keras import ops

import keras_sae
from keras_sae import HalfSquaredError, KLSparsity, SparseAutoencoder, SummedBinaryCrossentropy
from keras_sae.metrics import mean_activations
from tests.keras_sae.conftest import autoencoder, raises, same_weights

MOVING = KLSparsity(0.1, 3.0, window=128)

# A value other than the default for every argument.
ARGUMENTS = {
    "units": 5,
    "sparsity": KLSparsity(0.2, 5.0, window=128),
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
def test_a_moving_average_is_an_ordinary_weight_that_does_not_train(tied):
    plain, moving = autoencoder(tied=tied), autoencoder(tied=tied, sparsity=MOVING)
    shapes = [w.shape for w in plain.get_weights()]
    assert [w.shape for w in moving.get_weights()] == [*shapes[:2], (4,), (), *shapes[2:]]
    assert [w.name for w in moving.non_trainable_weights] == ["rho_hat", "weight_sum"]
    assert moving.count_params() == plain.count_params() + 5


@pytest.mark.parametrize("tied", [False, True])
def test_summary_shows_the_layers_and_counts_a_tied_kernel_once(tied):
    lines = []
    ae = autoencoder(tied=tied, sparsity=MOVING)
    ae.summary(print_fn=lines.append, expand_nested=True)
    text = "\n".join(lines)
    for name in ("hidden (Dense)", "sparsity", "output"):
        assert name in text
    parameters = 6 * 4 + 4 + 6 + (0 if tied else 4 * 6)
    assert f"Trainable params: {parameters} " in text
    assert "Non-trainable params: 5 " in text


def test_early_stopping_restores_the_moving_average_too(x):
    """The best weights come back with the rho_hat that belonged to them: the loss is again the best one."""
    ae = autoencoder(dtype="float32", sparsity=KLSparsity(0.1, 3.0, window=16))
    ae.compile(keras.optimizers.SGD(1.0))
    worsen = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epoch and spoil(ae))
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    history = ae.fit(x, validation_data=(x,), batch_size=8, epochs=3, verbose=0, callbacks=[worsen, stop]).history
    assert history["val_loss"][-1] > min(history["val_loss"]) + 1
    assert ae.evaluate(x, verbose=0) == pytest.approx(min(history["val_loss"]), rel=1e-5)


def spoil(ae):
    """Set all weights to 3, so that every unit is always active."""
    for weight in ae.trainable_variables:
        weight.assign(np.full(weight.shape, 3.0))


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
    "moving": KLSparsity(0.2, 3.0, window=128),
    "l1": keras.regularizers.L1(0.01),
    "none": None,
}


@pytest.mark.parametrize("loss", [HalfSquaredError, SummedBinaryCrossentropy])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("sparsity", ["kl", "l1", "none"])
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


@pytest.mark.parametrize("window", [None, 128])
def test_keras_gradient_on_one_full_batch_is_that_of_the_objective(window, x):
    ae = autoencoder(dtype="float32", sparsity=KLSparsity(window=window))
    ae.compile(keras.optimizers.SGD(0.1))
    before, gradients = [v.numpy() for v in ae.trainable_variables], keras_sae.objective(ae, x).gradients
    ae.fit(x, batch_size=23, epochs=1, verbose=0)
    for old, new, gradient in zip(before, ae.trainable_variables, gradients, strict=True):
        np.testing.assert_allclose(old - new.numpy(), 0.1 * gradient, atol=1e-6)


def state_of(ae):
    """(rho_hat, weight_sum) of the moving average."""
    layer = ae.encoder.get_layer("sparsity")
    return ops.convert_to_numpy(layer.rho_hat), float(layer.weight_sum)


@pytest.mark.parametrize("window", [None, 128])
def test_objective_and_lbfgs_are_exact_whatever_the_average(window, x):
    """Also when the moving average holds something else."""
    ae, plain = (autoencoder(sparsity=KLSparsity(0.1, 3.0, window=w)) for w in (window, None))
    if window:
        ae.encoder(np.ones((50, 6)), training=True)
        assert abs(state_of(ae)[0] - keras_sae.objective(ae, x).rho_hat[0]).min() > 0.01
    found, expected = keras_sae.objective(ae, x), keras_sae.objective(plain, x)
    assert found.value == expected.value
    for gradient, wanted in zip(found.gradients, expected.gradients, strict=True):
        np.testing.assert_array_equal(gradient, wanted)
    histories = [keras_sae.fit_lbfgs(model, x, max_iterations=3, verbose=0).history for model in (ae, plain)]
    assert histories[0] == histories[1]


def test_fit_moves_the_average_and_nothing_else_does(x):
    ae = autoencoder(dtype="float32", sparsity=MOVING)
    ae.compile(keras.optimizers.SGD(0.0))
    ae.evaluate(x, verbose=0)
    assert state_of(ae)[1] == 0
    ae.fit(x, batch_size=8, epochs=2, verbose=0)
    mean, weight = state_of(ae)
    assert weight == pytest.approx(1 - np.exp(-2 * 23 / 128), rel=1e-5)  # as many examples as there were
    ae.evaluate(x, verbose=0)
    ae.predict(x, verbose=0)
    ae.encode(x)
    ae(x)
    keras_sae.objective(ae, x)
    keras_sae.fit_lbfgs(ae, x, max_iterations=2, verbose=0)
    np.testing.assert_array_equal(state_of(ae)[0], mean)
    assert state_of(ae)[1] == weight


def test_the_moving_average_tends_to_the_mean_of_the_whole_set(compiled):
    """With weights that stay, batches of 4 of 64 rows: nearer than the means of batches are."""
    x = np.random.default_rng(3).uniform(size=(64, 6))
    ae = autoencoder(dtype="float32", sparsity=MOVING)
    ae.compile(keras.optimizers.SGD(0.0))
    ae.fit(x, batch_size=4, epochs=20, verbose=0)
    exact = keras_sae.objective(ae, x).rho_hat[0]
    features = ops.convert_to_numpy(ae.encode(x))
    scatter = features.reshape(16, 4, 4).mean(axis=1).std(axis=0)  # of the means of the batches
    assert (abs(state_of(ae)[0] - exact) < 0.5 * scatter).all()


def test_strength_of_a_moving_average_does_not_depend_on_the_batch_size():
    """One example repeated: every batch has the same mean, so every size of batch the same loss and step."""
    found = []
    for rows in (1, 64, 300):
        ae = autoencoder(dtype="float32", sparsity=MOVING)
        ae.compile(keras.optimizers.SGD(0.5))
        (loss,) = ae.fit(np.full((rows, 6), 0.7), batch_size=rows, epochs=1, verbose=0).history["loss"]
        found.append([loss, *ae.get_weights()[1]])
    np.testing.assert_allclose(found, [found[0]] * 3, atol=1e-4)


def test_a_moving_average_brings_rho_hat_to_rho(digits, compiled):
    """beta is so large that the error hardly counts."""
    keras.utils.set_random_seed(0)
    x = digits.x_train[::2]
    ae = SparseAutoencoder(25, KLSparsity(0.1, 30.0, window=128), weight_decay=3e-3)
    ae.build(x.shape)
    before = abs(mean_activations(ae, x) - 0.1)
    ae.fit(x, batch_size=32, epochs=4, verbose=0)
    after = abs(mean_activations(ae, x) - 0.1)
    assert before.min() > 0.2
    assert after.max() < 0.05


def test_the_loss_of_small_batches_is_nearer_the_objective_with_a_moving_average(digits, compiled):
    """The mean of 8 examples scatters round rho_hat, and KL is convex, so the mean of its KL is too large."""
    x = digits.x_train[::5]
    excess = {}
    for window in (None, 128):
        ae = autoencoder_of_digits(window)
        exact = keras_sae.objective(ae, x).value
        excess[window] = ae.fit(x, batch_size=8, verbose=0).history["loss"][0] - exact
    assert excess[None] > 0.5
    assert abs(excess[128]) < excess[None] / 4


def autoencoder_of_digits(window):
    """25 units near rho = 0.1 that differ between digits, compiled with a learning rate of 0."""
    ae = SparseAutoencoder(25, KLSparsity(0.1, 3.0, window=window))
    ae.build((None, 784))
    kernel, bias = ae.trainable_variables[:2]
    kernel.assign(4 * kernel)
    bias.assign(np.full(25, -3.0))
    ae.compile(keras.optimizers.SGD(0.0))
    return ae


def test_half_precision_moving_average_stays_finite(digits, compiled):
    ae = SparseAutoencoder(16, MOVING, dtype="mixed_float16")
    history = ae.fit(digits.x_train[:256], batch_size=16, epochs=3, verbose=0).history["loss"]
    mean, _ = state_of(ae)
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    assert mean.dtype == "float32"
    assert ((mean > 0) & (mean < 1)).all()


def test_the_moving_average_is_saved_with_model_and_encoder(x, tmp_path):
    ae = SparseAutoencoder(4, MOVING)
    ae.fit(x, batch_size=8, epochs=2, verbose=0)
    ae.save(tmp_path / "model.keras")
    ae.encoder.save(tmp_path / "encoder.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    encoder = keras.saving.load_model(tmp_path / "encoder.keras")
    mean, weight = state_of(ae)
    np.testing.assert_array_equal(state_of(copy)[0], mean)
    np.testing.assert_array_equal(encoder.get_layer("sparsity").rho_hat, mean)
    assert state_of(copy)[1] == weight > 0
    np.testing.assert_array_equal(encoder(x), ae.encode(x))
    # training goes on where it was: the next loss is that of the model that was never saved
    assert copy.evaluate(x, verbose=0) == pytest.approx(ae.evaluate(x, verbose=0), rel=1e-6)


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
    plain = {**ARGUMENTS, "sparsity": (KLSparsity, {"rho": 0.2, "beta": 5.0, "inactive": -1.0, "window": 128})}
    assert arguments_of(copy) == plain


@pytest.mark.parametrize("sparsity", [None, "kl", keras.regularizers.L1(0.5)])
def test_sparsity_survives_get_config(sparsity):
    ae = SparseAutoencoder(3, sparsity=sparsity)
    copy = SparseAutoencoder.from_config(ae.get_config())
    expected = {None: None, "kl": KLSparsity(0.1, None)}.get(sparsity, sparsity)
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
    expected = {"rho": 0.1, "beta": None, "inactive": 0.0, "window": None}
    assert SparseAutoencoder(3).sparsity.get_config() == expected
    assert SparseAutoencoder(3, activation="tanh").sparsity.inactive == -1.0


@pytest.mark.parametrize(("features", "beta", "weight_decay"), [(784, 3.0, 3e-3), (98, 0.375, 3.75e-4)])
def test_default_penalties_are_the_notes_in_proportion_to_the_features(features, beta, weight_decay, tmp_path):
    ae = SparseAutoencoder(3)
    ae.build((None, features))
    ae.save(tmp_path / "model.keras")
    for model in (ae, keras.saving.load_model(tmp_path / "model.keras")):
        assert model.sparsity.beta == pytest.approx(beta, rel=1e-12)
        assert model.weight_decay == pytest.approx(weight_decay, rel=1e-12)
        assert model.encoder.get_layer("sparsity").sparsity.beta == model.sparsity.beta
    x = np.full((2, features), 0.5, "float32")
    ae.set_weights([np.full_like(w, number == 2) for number, w in enumerate(ae.get_weights())])  # W1 = 0, W2 = 1
    parts = keras_sae.objective(ae, x).parts
    assert parts["weight_decay"] == pytest.approx(weight_decay / 2 * 3 * features, rel=1e-6)
    kl = 0.1 * np.log(0.1 / 0.5) + 0.9 * np.log(0.9 / 0.5)  # a = 1/2
    assert parts["sparsity"] == pytest.approx(3 * beta * kl, rel=1e-6)
    assert SparseAutoencoder(3, KLSparsity(0.2), weight_decay=0.5).weight_decay == 0.5
    dense = keras_sae.layers.SparseDense(3)
    dense.build((None, features))
    assert dense.sparsity.beta == pytest.approx(beta, rel=1e-12)


def test_a_penalty_that_waits_for_the_number_of_features_says_so():
    with raises(ValueError, "KLSparsity(beta=None) is for SparseDense and SparseAutoencoder. Expected a number here."):
        KLSparsity(beta=None).penalty(np.array([0.5]))


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
        ({"corruption": 1.0}, ["`corruption` expects 0 or more and below 1", "Received: 1.0"]),
        ({"weight_decay": -1}, ["`weight_decay` expects a finite number of 0 or more", "Received: -1"]),
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


@pytest.mark.parametrize("how", ["set_weights", "load_weights"])
def test_a_training_goes_on_from_weights_that_were_given(how, x, tmp_path):
    x = x.astype("float32")
    trained, other = (keras_sae.SparseAutoencoder(8, keras_sae.sparsity.JumpReLU(3)) for _ in range(2))
    keras_sae.fit(trained, x, optimizer="adam", iterations=2, verbose=0)
    other.build((None, x.shape[1]))
    if how == "set_weights":
        other.set_weights(trained.get_weights())
    else:
        trained.save_weights(tmp_path / "some.weights.h5")
        other.load_weights(tmp_path / "some.weights.h5")
    other.start(x)
    for one, another in zip(trained.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, another)
