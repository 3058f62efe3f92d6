import keras
import numpy as np
from keras import ops

from keras_sae import backend


def two_variables():
    return [keras.Variable(np.array([1.0, 2.0]), dtype="float64"), keras.Variable(3.0, dtype="float64")]


def test_sums_are_kept_in_float64():
    assert backend.widest_float() == "float64"
    assert backend.has_float64()


def test_compiled_function_sees_the_given_values_and_leaves_the_variables():
    a, b = two_variables()

    def function(values, factor):
        with backend.at([a, b], values):
            return factor * ops.sum(a * b)

    run = backend.compile_function(function)
    values = [ops.convert_to_tensor(v, "float64") for v in ([1.0, 1.0], 5.0)]
    assert float(run(values, ops.convert_to_tensor(2.0, "float64"))) == 20.0
    np.testing.assert_array_equal(a.numpy(), [1.0, 2.0])
    assert float(b.numpy()) == 3.0


def test_compiled_gradients_are_those_at_the_given_values():
    a, b = two_variables()
    unused = keras.Variable(np.ones(2), dtype="float64")

    def function(values, power):
        with backend.at([a, b, unused], values):
            scalar = b * ops.sum(a**power)
        return scalar, (scalar, power)

    run = backend.compile_gradients(function)
    values = [ops.convert_to_tensor(v, "float64") for v in ([1.0, 3.0], 2.0, [0.0, 0.0])]
    (scalar, power), gradients = run(values, ops.convert_to_tensor(2.0, "float64"))
    # scalar = b (a1^2 + a2^2) = 2 (1 + 9); d/da = 2 b a = [4, 12]; d/db = 1 + 9
    assert (float(scalar), float(power)) == (20.0, 2.0)
    for found, expected in zip(gradients, [[4.0, 12.0], 10.0, [0.0, 0.0]], strict=True):
        np.testing.assert_array_equal(found, expected)
