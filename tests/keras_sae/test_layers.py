import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_sae import KLSparsity, layers
from keras_sae.layers import MaskingNoise, MovingAverage, TiedDense
from tests.keras_sae.conftest import raises


def test_tied_dense_by_hand():
    layer = TiedDense(3, activation="relu", dtype="float64")
    kernel = np.array([[1.0, 0.0], [2.0, 1.0], [0.0, -1.0]])  # (features 3, hidden 2)
    h = np.array([[2.0, 5.0]])
    layer.build(h.shape)
    layer.set_weights([np.array([0.5, 0.0, 1.0])])
    # h W^T = [2, 2*2 + 5, -5] = [2, 9, -5]; plus the bias [2.5, 9, -4]; relu
    np.testing.assert_array_equal(layer(h, kernel=kernel), [[2.5, 9.0, 0.0]])


def test_tied_dense_owns_the_bias_alone():
    layer = TiedDense(3)
    layer.build((None, 2))
    assert [w.path.split("/")[-1] for w in layer.weights] == ["bias"]
    assert layer.compute_output_shape((7, 2)) == (7, 3)


def test_noise_masks_the_given_fraction_and_leaves_the_rest_as_it_is():
    x = np.random.default_rng(0).uniform(0.1, 1, (200, 100)).astype("float32")
    noisy = np.asarray(MaskingNoise(0.3, seed=1)(x, training=True))
    masked = noisy == 0
    assert masked.mean() == pytest.approx(0.3, abs=0.02)  # 20,000 draws: standard deviation 0.003
    np.testing.assert_array_equal(noisy[~masked], x[~masked])


def test_noise_differs_from_call_to_call_and_repeats_with_the_seed(x):
    layer, twin = MaskingNoise(0.5, seed=3), MaskingNoise(0.5, seed=3)
    first, second = (ops.convert_to_numpy(layer(x, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, twin(x, training=True))


def test_no_noise_in_inference_or_at_rate_0(x):
    x = x.astype("float32")
    np.testing.assert_array_equal(MaskingNoise(0.5)(x), x)
    np.testing.assert_array_equal(MaskingNoise(0.5)(x, training=False), x)
    np.testing.assert_array_equal(MaskingNoise(0.0)(x, training=True), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2, float("nan")])
def test_noise_rate_out_of_range(rate):
    with raises(ValueError, "`corruption`", "set to 0, must be at least 0 and below 1", f"Received: {rate}"):
        MaskingNoise(rate)


MOVING = KLSparsity(0.1, 3.0, average="moving")


@pytest.fixture
def halving(monkeypatch):
    """A moving average, in float64, of which each batch of two examples makes up half."""
    monkeypatch.setattr(layers, "WINDOW", 2 / np.log(2))
    return MovingAverage(MOVING, dtype="float64")


def test_moving_average_of_two_batches_by_hand(halving):
    halving(np.array([[0.1, 0.6], [0.3, 0.8]]), training=True)
    # the first batch alone, whatever its share: means 0.2, 0.7
    np.testing.assert_allclose(halving.mean, [0.2, 0.7], rtol=1e-12)
    assert float(halving.weight) == pytest.approx(1 / 2, rel=1e-12)
    halving(np.array([[0.5, 0.1], [0.5, 0.1]]), training=True)
    # shares 1/4 and 1/2: (1/4 * 0.2 + 1/2 * 0.5) / (3/4) = 0.4 and (1/4 * 0.7 + 1/2 * 0.1) / (3/4) = 0.3
    np.testing.assert_allclose(halving.mean, [0.4, 0.3], rtol=1e-12)
    assert float(halving.weight) == pytest.approx(3 / 4, rel=1e-12)


def test_moving_average_forgets_by_examples_not_by_batches(halving):
    """Two batches of two with the same mean leave what one batch of four does."""
    twin = MovingAverage(MOVING, dtype="float64")
    start, then = np.full((2, 1), 0.6), np.full((4, 1), 0.2)
    halving(start, training=True)
    halving(then[:2], training=True)
    halving(then[2:], training=True)
    twin(start, training=True)
    twin(then, training=True)
    np.testing.assert_allclose(halving.mean, twin.mean, rtol=1e-12)
    np.testing.assert_allclose(halving.weight, twin.weight, rtol=1e-12)


def test_moving_average_of_tanh_units_is_a_rate(halving):
    halving.activity_regularizer.inactive = -1.0
    halving(np.array([[-1.0], [0.0]]), training=True)
    np.testing.assert_allclose(halving.mean, [0.25], rtol=1e-12)  # from 0 at rest, -1, to 1


@pytest.mark.parametrize("copies", [1, 3])
def test_penalty_of_a_moving_average_has_its_value_and_the_gradient_of_the_batch_mean(halving, copies):
    halving(np.full((2, 1), 0.2), training=True)
    batch = tf.constant([[0.4], [0.6]] * copies, "float64")
    with tf.GradientTape() as tape:
        tape.watch(batch)
        halving(batch, training=True)
        (loss,) = halving.losses
    rho_hat = float(halving.mean[0])
    if copies == 1:
        assert rho_hat == pytest.approx(0.4, rel=1e-12)  # (1/4 * 0.2 + 1/2 * 0.5) / (3/4)
    value = 3 * (0.1 * np.log(0.1 / rho_hat) + 0.9 * np.log(0.9 / (1 - rho_hat)))
    slope = 3 * (-0.1 / rho_hat + 0.9 / (1 - rho_hat))
    assert float(loss) == pytest.approx(value, rel=1e-7)
    # not of the batch's own KL, and not scaled by the batch's share in the average
    np.testing.assert_allclose(tape.gradient(loss, batch), np.full(batch.shape, slope / len(batch)), rtol=1e-7)


def test_only_training_moves_the_average(halving):
    x = np.array([[0.3], [0.5]])
    np.testing.assert_array_equal(halving(x), x)
    assert float(halving.weight) == 0
    by_hand = 3 * (0.1 * np.log(0.1 / 0.4) + 0.9 * np.log(0.9 / 0.6))
    assert float(halving.losses[0]) == pytest.approx(by_hand, rel=1e-7)  # of the batch, as there is no average yet
    np.testing.assert_array_equal(halving(x, training=True), x)
    halving(np.array([[0.9], [0.9]]), training=False)
    np.testing.assert_allclose(halving.mean, [0.4], rtol=1e-12)
    assert float(halving.losses[0]) == pytest.approx(by_hand, rel=1e-7)  # of the average, whatever the batch


def test_moving_average_is_state_but_no_weight():
    layer = MovingAverage(MOVING, dtype="float16")
    layer.build((None, 3))
    assert layer.get_weights() == []
    assert [(v.name, v.shape, v.dtype) for v in layer.non_trainable_variables] == [
        ("mean", (3,), "float32"),
        ("weight", (), "float32"),
    ]


def test_moving_average_after_any_layer():
    """On a Dense in another model, with positions between examples and units."""
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, MovingAverage(MOVING)(keras.layers.Dense(3, "sigmoid")(inputs)))
    model.compile("sgd", loss="mse")
    x = np.random.default_rng(0).uniform(size=(8, 5, 4))
    expected = np.asarray(model(x)).mean(axis=(0, 1))
    model.fit(x, np.zeros((8, 5, 3)), batch_size=8, verbose=0)
    np.testing.assert_allclose(model.layers[-1].mean, expected, rtol=1e-5)


@pytest.mark.parametrize("penalty", [KLSparsity(), keras.regularizers.L1(0.1), None])
def test_moving_average_of_another_penalty(penalty):
    with raises(ValueError, "Expected a KLSparsity with average='moving'", "Received: "):
        MovingAverage(penalty)


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        (TiedDense(3, activation="tanh", name="own", dtype="float64"), {"units": 3, "activation": "tanh"}),
        (MaskingNoise(0.25, seed=7, name="own", dtype="float64"), {"rate": 0.25, "seed": 7}),
        (
            MovingAverage(MOVING, name="own", dtype="float64"),
            {"activity_regularizer": keras.regularizers.serialize(MOVING)},
        ),
    ],
)
def test_serialisation(layer, arguments):
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(copy) is type(layer)
    assert arguments.items() <= copy.get_config().items()
    assert (copy.name, copy.dtype) == ("own", "float64")
    assert copy.get_config() == layer.get_config()
