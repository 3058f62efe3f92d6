import numpy as np
import pytest
import tensorflow as tf

from keras_sae.sparsity.largest import nth_largest

RNG = np.random.default_rng(0)
VALUES = {
    "all different": RNG.random((37, 5)),
    "ties": RNG.integers(0, 4, (37, 5)) / 2,
    "mostly zeros": RNG.random((37, 5)) * (RNG.random((37, 5)) < 0.1),
    "zeros": np.zeros((37, 5)),
    "of every size": 10.0 ** RNG.uniform(-44, 38, (37, 5)),
    "one apart": 1 + np.finfo("float32").eps * RNG.permutation(185).reshape(37, 5),
}


def by_partition(values, n, axis):
    """The n-th largest, as NumPy finds it."""
    place = values.shape[axis] - n
    return np.take(np.partition(values, place, axis=axis), [place], axis=axis)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_what_numpy_finds_exactly(dtype):
    values = np.stack(list(VALUES.values())).astype(dtype)
    for n in (1, 2, 19, 37):
        np.testing.assert_array_equal(nth_largest(values, n, axis=1), by_partition(values, n, 1))
    np.testing.assert_array_equal(nth_largest(values, 3, axis=-1), by_partition(values, 3, 2))
    flat = values.reshape(len(VALUES), -1)
    np.testing.assert_array_equal(nth_largest(flat, 100, axis=1), by_partition(flat, 100, 1))


def test_by_hand():
    found = nth_largest(np.array([[3.0, 1.0, 2.0, 2.0]], "float32"), 3, axis=1)
    np.testing.assert_array_equal(found, [[2.0]])
    assert found.dtype == "float32"
    assert nth_largest(np.array([0.5, 0.25], "float16"), 2, axis=0).numpy() == [0.25]


def test_negative_zeros_count_as_zeros():
    np.testing.assert_array_equal(nth_largest(np.array([-0.0, 1.0, -0.0], "float32"), 2, axis=0), [0.0])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_n_and_the_number_of_values_may_be_known_later(jit_compile, compiled):
    signature = [tf.TensorSpec((None, 5), "float32"), tf.TensorSpec((), "int32")]
    graph = tf.function(
        lambda values, n: (nth_largest(values, n, axis=0), nth_largest(tf.reshape(values, (-1,)), n, axis=0)),
        input_signature=signature, jit_compile=jit_compile, autograph=False,
    )  # fmt: skip
    values = VALUES["ties"].astype("float32")
    for rows, n in [(37, 4), (11, 11), (1, 1)]:
        columns, flat = graph(values[:rows], n)
        np.testing.assert_array_equal(columns, by_partition(values[:rows], n, 0))
        np.testing.assert_array_equal(flat, by_partition(values[:rows].reshape(-1), n, 0))


def test_another_n_for_each_column():
    values = VALUES["all different"].astype("float32")
    found = nth_largest(values, np.array([[1, 2, 3, 36, 37]]), axis=0)
    expected = [np.sort(values[:, column])[-n] for column, n in enumerate([1, 2, 3, 36, 37])]
    np.testing.assert_array_equal(found, [expected])


def test_it_has_no_gradient():
    values = tf.constant(VALUES["all different"])
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = tf.reduce_sum(values * tf.cast(values >= nth_largest(values, 4, axis=0), "float64"))
    kept = VALUES["all different"] >= by_partition(VALUES["all different"], 4, 0)
    np.testing.assert_array_equal(tape.gradient(total, values), kept)
