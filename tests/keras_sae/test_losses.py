import keras
import numpy as np
import pytest
from keras import ops

from keras_sae import HalfSquaredError, SummedBinaryCrossentropy

LOSSES = [HalfSquaredError, SummedBinaryCrossentropy]


def test_half_squared_error_by_hand():
    y_true = np.array([[1.0, 2.0], [0.0, 0.0]])
    y_pred = np.array([[0.0, 2.0], [3.0, 4.0]])
    # row 1: 1/2 (1 + 0) = 0.5; row 2: 1/2 (9 + 16) = 12.5; their mean is 6.5
    np.testing.assert_allclose(HalfSquaredError().call(y_true, y_pred), [0.5, 12.5])
    assert float(HalfSquaredError()(y_true, y_pred)) == 6.5


def test_summed_cross_entropy_by_hand():
    y_true = np.array([[1.0, 0.0], [0.5, 0.0]])
    y_pred = np.array([[0.8, 0.2], [0.5, 0.5]])
    # row 1: -ln 0.8 - ln 0.8; row 2: -(1/2 ln 1/2 + 1/2 ln 1/2) - ln 1/2 = 2 ln 2
    expected = [-2 * np.log(0.8), 2 * np.log(2)]
    np.testing.assert_allclose(SummedBinaryCrossentropy().call(y_true, y_pred), expected, rtol=1e-12)
    assert float(SummedBinaryCrossentropy()(y_true, y_pred)) == pytest.approx(sum(expected) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "keras_loss", "factor"),
    [(HalfSquaredError, "mse", 6 / 2), (SummedBinaryCrossentropy, "binary_crossentropy", 6)],
)
def test_sums_over_features_where_keras_averages(loss, keras_loss, factor, x):
    y_pred = x[::-1].copy()
    np.testing.assert_allclose(loss().call(x, y_pred), factor * np.asarray(keras.losses.get(keras_loss)(x, y_pred)))


@pytest.mark.parametrize("loss", LOSSES)
def test_reductions(loss, x):
    y_pred = x[::-1].copy()
    each = np.asarray(loss().call(x, y_pred))
    assert each.shape == (23,)
    np.testing.assert_allclose(loss(reduction=None)(x, y_pred), each, rtol=1e-6)
    assert float(loss(reduction="sum")(x, y_pred)) == pytest.approx(each.sum(), rel=1e-6)
    assert float(loss()(x, y_pred)) == pytest.approx(each.mean(), rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_call_keeps_the_precision_of_the_prediction(loss, dtype):
    result = loss().call(np.array([[0, 1]]), ops.convert_to_tensor([[0.25, 0.5]], dtype))
    assert keras.backend.standardize_dtype(result.dtype) == dtype


def test_cross_entropy_of_certain_and_wrong_predictions_is_finite():
    wrong = SummedBinaryCrossentropy().call(np.array([[1.0, 0.0]], "float32"), np.array([[0.0, 1.0]], "float32"))
    # Keras clips p to [1e-7, 1 - 1e-7]: -ln 1e-7 = 16.118 each, within the rounding of 1 - 1e-7 in float32
    np.testing.assert_allclose(wrong, [2 * 16.118], rtol=0.01)


@pytest.mark.parametrize("loss", LOSSES)
def test_serialisation(loss):
    original = loss(reduction="sum", name="own")
    copy = keras.losses.deserialize(keras.losses.serialize(original))
    assert type(copy) is loss
    assert (copy.reduction, copy.name) == ("sum", "own")
