import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_sae
from keras_sae import KLSparsity, WeightDecay
from tests.keras_sae.conftest import raises


def dense_penalty(penalty, x, units=5, **options):
    """The activity loss that a Dense layer with this penalty reports for x."""
    options = {"activation": "sigmoid", "kernel_initializer": keras.initializers.RandomNormal(seed=0), **options}
    layer = keras.layers.Dense(units, activity_regularizer=penalty, **options)
    layer(x)
    (loss,) = layer.losses
    return float(loss)


def test_kl_by_hand():
    # rho 1/2, rho_hat 1/4: 1/2 ln(1/2 : 1/4) + 1/2 ln(1/2 : 3/4) = 1/2 ln 2 + 1/2 ln 2/3 = 1/2 ln 4/3
    # rho 1/2, rho_hat 1/2: 0.  Summed over the two units, times beta = 3.
    found = KLSparsity(rho=0.5, beta=3.0).penalty(np.array([0.25, 0.5]))
    assert float(found) == pytest.approx(1.5 * np.log(4 / 3), rel=1e-12)


def test_kl_of_tanh_units_by_hand():
    # units at -1 and 0: mean -1/2, which on the scale from 0 at rest to 1 is 1/4, as above; times 2 rows
    found = KLSparsity(rho=0.5, beta=1.0, inactive=-1.0)(ops.convert_to_tensor([[-1.0], [0.0]], "float64"))
    assert float(found) == pytest.approx(2 * 0.5 * np.log(4 / 3), rel=1e-12)


@pytest.mark.parametrize("rho", [0.01, 0.1, 0.7])
def test_kl_is_least_at_rho(rho):
    penalty = KLSparsity(rho, beta=1.0)
    at_rho, below, above = (float(penalty.penalty(np.array([rho * factor]))) for factor in (1, 0.9, 1.1))
    assert abs(at_rho) < 1e-14
    assert below > 1e-5
    assert above > 1e-5


@pytest.mark.parametrize("inactive", [0.0, -1.0])
def test_gradient_of_kl_by_finite_differences(inactive):
    penalty, row = KLSparsity(0.1, 3.0, inactive), tf.constant([[0.03, 0.1, 0.6]], "float64")
    with tf.GradientTape() as tape:
        tape.watch(row)
        value = penalty(row)
    step = 1e-6
    numeric = [(float(penalty(row + step * e)) - float(penalty(row - step * e))) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(tape.gradient(value, row), [numeric], rtol=1e-7, atol=1e-7)


def test_nearly_dead_units_are_pulled_back_at_full_strength():
    """beta dKL/dz = -rho beta for sigmoid(z) near 0, however near: the rounding guard must not drown it."""
    z = tf.constant([[-10.0, -20.0, -25.0]])
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = KLSparsity(0.1, 3.0)(tf.sigmoid(z))
    np.testing.assert_allclose(tape.gradient(value, z), [[-0.3] * 3], rtol=5e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("inactive", "saturated"), [(0.0, 0.0), (0.0, 1.0), (-1.0, -1.0), (-1.0, 1.0)])
def test_saturated_units_keep_value_and_gradient_finite(dtype, inactive, saturated):
    activations = tf.fill((8, 3), tf.cast(saturated, dtype))
    with tf.GradientTape() as tape:
        tape.watch(activations)
        value = KLSparsity(0.1, 3.0, inactive)(activations) / 8  # Keras divides by the batch size
    gradient = np.asarray(tape.gradient(value, activations)).astype("float64")
    assert float(value) > 1
    assert np.isfinite(float(value))
    assert np.isfinite(gradient).all()
    assert (np.sign(gradient) == (1 if saturated == 1 else -1)).all()  # it pulls the unit back


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_activations_are_averaged_in_float32(dtype):
    """In half precision the sum of 5,000 times 0.75 would stick far below 3,750, and rho_hat far below 0.75."""
    activations = ops.cast(np.full((5000, 2), 0.75), dtype)
    assert float(KLSparsity(rho=0.75, beta=1.0)(activations)) / 5000 == pytest.approx(0, abs=1e-2)


def test_penalty_of_a_large_half_precision_batch_is_finite():
    """Batch size times the penalty passes 65,504, the largest float16, long before either is unusual."""
    x = np.full((512, 4), 100.0)
    found = dense_penalty(KLSparsity(0.1, 3.0), x, units=200, kernel_initializer="ones", dtype="mixed_float16")
    # each unit is stuck at 1: 3 * 200 * (0.1 ln 0.1 + 0.9 ln(0.9 / epsilon)), epsilon the rounding of the computation
    in_float16, in_float32 = (600 * (0.1 * np.log(0.1) + 0.9 * np.log(0.9 * 2.0**bits)) for bits in (10, 23))
    assert 0.99 * in_float16 < found < 1.01 * in_float32


@pytest.mark.parametrize("shape", [(6, 4), (6, 3, 4)])
def test_strength_in_a_dense_layer_does_not_depend_on_the_batch_size(shape):
    x = np.random.default_rng(0).uniform(size=shape).astype("float32")
    penalty = KLSparsity(0.1, 3.0)
    once, twice = dense_penalty(penalty, x), dense_penalty(penalty, np.concatenate([x, x]))
    layer = keras.layers.Dense(5, "sigmoid", kernel_initializer=keras.initializers.RandomNormal(seed=0))
    means = np.asarray(layer(x)).reshape(-1, 5).mean(axis=0)
    by_hand = 3 * np.sum(0.1 * np.log(0.1 / means) + 0.9 * np.log(0.9 / (1 - means)))
    assert once == pytest.approx(by_hand, rel=1e-5)
    assert twice == pytest.approx(once, rel=1e-6)


def test_strength_in_fit_does_not_depend_on_the_batch_size():
    """One constant example repeated: every batch has the same mean, so every batch size the same loss."""
    x = np.ones((12, 4), "float32")
    layer = keras.layers.Dense(5, "sigmoid", activity_regularizer=KLSparsity(0.1, 3.0))
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(loss=lambda y_true, y_pred: 0 * y_pred[:, 0])
    losses = [model.evaluate(x, x, batch_size=size, verbose=0) for size in (1, 4, 12)]
    assert losses[0] > 0.1
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


@pytest.mark.parametrize(
    ("activation", "inactive"), [("sigmoid", 0.0), ("hard_sigmoid", 0.0), ("tanh", -1.0), ("hard_tanh", -1.0)]
)
def test_for_activation_finds_the_resting_value(activation, inactive):
    found = KLSparsity(0.2, 5.0).for_activation(activation)
    assert (found.rho, found.beta, found.inactive) == (0.2, 5.0, inactive)
    resting = float(keras.activations.get(activation)(ops.convert_to_tensor(-100.0)))
    assert float(found.normalize(resting)) == pytest.approx(0.0, abs=1e-6)


def test_softsign_rests_at_minus_one():
    assert KLSparsity().for_activation(keras.activations.softsign).inactive == -1.0


@pytest.mark.parametrize("penalty", [KLSparsity(0.2, 5.0, -1.0, 64), WeightDecay(0.25)])
def test_serialisation(penalty):
    copy = keras.regularizers.deserialize(keras.regularizers.serialize(penalty))
    assert type(copy) is type(penalty)
    assert copy.get_config() == penalty.get_config()


def test_get_config_names_every_argument():
    expected = {"rho": 0.2, "beta": 5.0, "inactive": -1.0, "window": 64}
    assert KLSparsity(0.2, 5, -1, 64).get_config() == expected
    assert WeightDecay(1).get_config() == {"weight_decay": 1.0}


def test_weight_decay_by_hand():
    # 1/2 * 1/2 * (1 + 4 + 9 + 16)
    assert float(WeightDecay(0.5)(np.array([[1.0, 2.0], [3.0, 4.0]]))) == 7.5


def test_weight_decay_is_exact_in_float64():
    kernel = np.array([[1.0, 2.0]])
    assert float(WeightDecay(3e-3)(kernel)) == pytest.approx(3e-3 / 2 * 5, rel=1e-15)


@pytest.mark.parametrize("rho", [0, 1, 1.5, -0.1, float("nan")])
def test_rho_out_of_range(rho):
    with raises(ValueError, "`rho` expects a mean activation between 0 and 1 (exclusive)", f"Received: {rho}"):
        KLSparsity(rho=rho)


@pytest.mark.parametrize("beta", [-1.0, float("inf"), float("nan")])
def test_beta_out_of_range(beta):
    with raises(ValueError, "`beta` expects a finite weight of 0 or more", f"Received: {beta}"):
        KLSparsity(beta=beta)


@pytest.mark.parametrize("inactive", [1.0, 2.0, float("-inf"), float("nan")])
def test_inactive_out_of_range(inactive):
    with raises(ValueError, "`inactive` expects", "below 1: 0 for sigmoid, -1 for tanh", f"Received: {inactive}"):
        KLSparsity(inactive=inactive)


@pytest.mark.parametrize("window", [0, -1, float("inf")])
def test_window_out_of_range(window):
    with raises(ValueError, "`window` expects None, or a number of examples above 0", f"Received: {window}"):
        KLSparsity(window=window)


def test_the_former_spelling_of_the_window_warns():
    with pytest.warns(DeprecationWarning, match="is now window=128 or None"):
        assert KLSparsity(average="moving").window == 128
    with raises(ValueError, '`average` must be "batch" or "moving"', "Received: average='mean'"):
        KLSparsity(average="mean")


@pytest.mark.parametrize(("average", "window"), [("batch", None), ("moving", 128)])
def test_penalties_of_models_saved_by_earlier_versions_load_without_a_warning(average, window):
    config = {"rho": 0.2, "beta": 5.0, "inactive": -1.0, "average": average}
    assert KLSparsity.from_config(config).get_config() == KLSparsity(0.2, 5, -1, window).get_config()
    assert config["average"] == average  # from_config leaves its argument alone


def test_for_activation_keeps_the_window_and_the_class():
    class Own(KLSparsity):
        """A user's own penalty."""

    found = Own(0.2, window=64).for_activation("tanh")
    assert (type(found), found.rho, found.window, found.inactive) == (Own, 0.2, 64, -1.0)


def test_a_layer_without_the_average_says_what_to_do():
    expected = ["keras_sae.layers.SparseDense", "Received: an activity_regularizer", "or window=None"]
    with raises(ValueError, *expected):
        dense_penalty(KLSparsity(window=128), np.ones((2, 3)))


def test_a_dense_layer_reports_the_penalty_itself_whatever_keras_divides_by():
    """Keras divided activity losses by the batch size for the first time in 3.14: this test sees it change again."""
    x = np.random.default_rng(0).uniform(size=(7, 4)).astype("float32")
    layer = keras.layers.Dense(5, "sigmoid", kernel_initializer=keras.initializers.RandomNormal(seed=0))
    by_hand = float(KLSparsity(0.1, 3.0).penalty(np.asarray(layer(x)).mean(axis=0)))
    assert dense_penalty(KLSparsity(0.1, 3.0), x) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("activation", ["relu", "linear", None])
def test_unbounded_units_have_no_kl(activation):
    name = activation or "linear"
    expected = ["bounded by 1", "sigmoid", "tanh", "sparsity=keras.regularizers.L1(1e-3)", f"activation='{name}'"]
    with raises(ValueError, *expected):
        KLSparsity().for_activation(activation)


@pytest.mark.parametrize("weight_decay", [-1.0, float("inf"), float("nan")])
def test_weight_decay_out_of_range(weight_decay):
    with raises(ValueError, "`weight_decay` expects a finite number of 0 or more", f"Received: {weight_decay}"):
        WeightDecay(weight_decay)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("activation", "penalty", "message"),
    [
        ("relu", KLSparsity(), "it needs units bounded by 1: sigmoid, .* Received: activation='relu'"),
        ("linear", KLSparsity(), "Received: activation='linear'"),
        ("softplus", KLSparsity(), "Received: activation='softplus'"),
        (
            "tanh",
            KLSparsity(0.05, 3.0),
            r"Expected KLSparsity\(inactive=-1\) on the layer 'hidden'.*Received: inactive=0",
        ),
        ("sigmoid", KLSparsity(inactive=-1), r"Expected KLSparsity\(inactive=0\) on the layer 'hidden'"),
    ],
)
def test_kl_on_units_that_it_does_not_suit(activation, penalty, message, compiled):
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    hidden = keras.layers.Dense(4, activation, activity_regularizer=penalty, name="hidden")
    model = keras.Sequential([keras.Input((3,)), hidden, keras.layers.Dense(3)])
    model.compile(loss="mse")
    with pytest.raises(ValueError, match=message):
        model.fit(x, x, verbose=0) if compiled else model(x)


def always_half(z):
    return 0 * z + 0.5


@pytest.mark.parametrize(
    "activation", ["sigmoid", keras.layers.Activation("sigmoid"), "softmax", always_half, lambda z: 0 * z + 0.5]
)
def test_kl_on_units_that_it_suits_or_that_are_unknown(activation):
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    layer = keras.layers.Dense(4, activation, activity_regularizer=KLSparsity(0.1, 3.0))
    units = np.asarray(layer(x))
    [found] = layer.losses
    expected = float(KLSparsity(0.1, 3.0).penalty(units.mean(axis=0)))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_means_outside_the_domain_are_named():
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    steep = keras.layers.Lambda(lambda z: 5 * z, activity_regularizer=KLSparsity())
    model = keras.Sequential([keras.Input((3,)), steep, keras.layers.Dense(3)])
    model.compile(loss="mse")
    with raises(ValueError, "Expected means between 0 (at rest) and 1. Received: ", "Use units bounded by 1"):
        keras_sae.objective(model, x, x)


def test_an_activation_layer_is_looked_up_and_kept():
    activation = keras.layers.Activation("tanh")
    ae = keras_sae.SparseAutoencoder(4, activation=activation)
    assert ae.activation is activation
    assert ae.sparsity.inactive == -1


@keras.saving.register_keras_serializable("test_regularizers")
def steep_sigmoid(z):
    return ops.sigmoid(2 * z)


def test_an_activation_of_ones_own_is_taken_as_it_is(tmp_path):
    x = np.random.default_rng(0).uniform(size=(9, 6))
    ae = keras_sae.SparseAutoencoder(4, KLSparsity(0.1, 3.0), activation=steep_sigmoid, dtype="float64")
    ae.build(x.shape)
    kernel, bias, *_ = ae.get_weights()
    rho_hat = (1 / (1 + np.exp(-2 * (x @ kernel + bias)))).mean(axis=0)
    np.testing.assert_allclose(keras_sae.objective(ae, x).rho_hat, [rho_hat], rtol=1e-12)
    ae.save(tmp_path / "own.keras")
    copy = keras.saving.load_model(tmp_path / "own.keras")
    assert copy.activation is steep_sigmoid
    assert keras_sae.objective(copy, x).value == keras_sae.objective(ae, x).value


def test_integers_of_numpy_are_integers(tmp_path):
    units, seed = np.int64(4), np.int64(3)
    hidden = keras_sae.layers.SparseDense(units, sparsity=KLSparsity(np.float32(0.1), np.int32(3), window=np.int64(64)))
    noise = keras_sae.layers.MaskingNoise(np.float32(0.25), seed=seed)
    model = keras.Sequential([keras.Input((6,)), noise, hidden])
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert copy.layers[0].get_config() == noise.get_config()
    assert copy.layers[1].sparsity.window == 64
    stack = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(units, weight_decay=np.float32(0.5))])
    stack.build((None, 6))
    assert stack.classifier(np.int64(3), np.float32(0.5)).output_shape == (None, 3)


@pytest.mark.parametrize(
    ("regularizer", "expected"),
    [
        (KLSparsity(0.1, 3), "KLSparsity(rho=0.1, beta=3)"),
        (KLSparsity(0.05, 0.5, inactive=-1, window=128), "KLSparsity(rho=0.05, beta=0.5, inactive=-1, window=128)"),
        (keras_sae.WeightDecay(3e-3), "WeightDecay(0.003)"),
    ],
)
def test_penalties_describe_themselves(regularizer, expected):
    assert repr(regularizer) == expected
