import keras
import numpy as np
import pytest
from keras import ops

from keras_sae.layers import MaskingNoise, TiedDense
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


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        (TiedDense(3, activation="tanh", name="own", dtype="float64"), {"units": 3, "activation": "tanh"}),
        (MaskingNoise(0.25, seed=7, name="own", dtype="float64"), {"rate": 0.25, "seed": 7}),
    ],
)
def test_serialisation(layer, arguments):
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(copy) is type(layer)
    assert arguments.items() <= copy.get_config().items()
    assert (copy.name, copy.dtype) == ("own", "float64")
    assert copy.get_config() == layer.get_config()
