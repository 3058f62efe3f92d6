import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from keras_sae.sparsity import WinnerTakeAll
from keras_sae.training import blocks
from tests.gradients import compare
from tests.keras_sae.conftest import dictionary, raises

PRE = np.array([[3.0, -1.0, 0.0], [1.0, -2.0, 5.0], [2.0, 4.0, 0.0], [-1.0, -3.0, 0.0]])


def test_by_hand():
    """Half of four rows: the two largest of each column; a column with one positive number keeps that one."""
    layer = WinnerTakeAll(0.5)
    np.testing.assert_array_equal(layer(PRE, training=True), [[3, 0, 0], [0, 0, 5], [2, 4, 0], [0, 0, 0]])
    np.testing.assert_array_equal(layer(PRE), np.maximum(PRE, 0))


def test_equal_activations_are_kept_together():
    codes = WinnerTakeAll(0.25)(np.array([[1.0], [2.0], [2.0], [0.0]]), training=True)
    np.testing.assert_array_equal(codes, [[0], [2], [2], [0]])


@pytest.mark.parametrize(
    ("rate", "examples", "kept"),
    [(0.05, 100, 5), (0.29, 100, 29), (0.07, 100, 7), (0.06, 20, 1), (0.01, 7, 1), (1.0, 7, 7), (0.5, 256, 128)],
)
def test_so_many_of_a_batch_are_kept_for_each_unit(rate, examples, kept):
    """0.29 * 100 is 28.999... and 0.05 * 100 in single precision more than 5: neither counts as another number."""
    pre = np.random.default_rng(0).random((examples, 6)).astype("float32") + 0.1
    codes = np.asarray(WinnerTakeAll(rate)(pre, training=True))
    np.testing.assert_array_equal((codes > 0).sum(axis=0), [kept] * 6)
    np.testing.assert_array_equal(np.sort(codes, axis=0)[-kept:], np.sort(pre, axis=0)[-kept:])


def test_positions_count_as_examples():
    pre = np.random.default_rng(0).random((5, 4, 3))
    codes = np.asarray(WinnerTakeAll(0.2)(pre, training=True))
    np.testing.assert_array_equal(codes.reshape(20, 3), WinnerTakeAll(0.2)(pre.reshape(20, 3), training=True))
    np.testing.assert_array_equal((codes > 0).sum(axis=(0, 1)), [4, 4, 4])


def test_after_training_codes_do_not_depend_on_the_other_rows(x):
    ae = dictionary(WinnerTakeAll(0.1))
    np.testing.assert_allclose(ae.encode(x)[:1], ae.encode(x[:1]), rtol=1e-12)
    np.testing.assert_array_equal(ae.encode(x), np.maximum(ae.encode(x), 0))


@pytest.mark.parametrize("options", [{}, {"tied": True, "pre_bias": False}, {"input_scale": True}], ids=str)
def test_the_loss_and_every_gradient_are_those_of_the_numpy_version(options, x):
    ae = dictionary(WinnerTakeAll(0.3), **options)
    compare(ae, x, np.linspace(0, 2, len(x)) if options else None)
    ae(x, training=True)
    assert ae.losses == []


def test_it_compiles_for_batches_of_a_size_that_is_not_known(compiled):
    layer = WinnerTakeAll(0.5)
    layer.build((None, 3))
    compiled = tf.function(
        lambda pre: layer(pre, training=True), [tf.TensorSpec((None, 3))], autograph=False, jit_compile=True
    )
    np.testing.assert_array_equal(compiled(PRE.astype("float32")), [[3, 0, 0], [0, 0, 5], [2, 4, 0], [0, 0, 0]])
    np.testing.assert_array_equal(compiled(PRE[:2].astype("float32")), [[3, 0, 0], [0, 0, 5]])


@pytest.mark.slow
def test_in_a_compiled_loop_and_with_a_rest_it_trains_as_in_single_steps(x, compiled, monkeypatch):
    """XLA compiles the loop; 23 rows in batches of 5 leave one of 3, of which other numbers are kept."""
    monkeypatch.setattr(blocks, "STEPS", 2)
    models = []
    for pays in (1, 10**9):
        monkeypatch.setattr(blocks, "PAYS", pays)
        models.append(dictionary(WinnerTakeAll(0.4), dtype="float32"))
        models[-1].compile("sgd")
        history = keras_sae.fit(models[-1], x, optimizer=None, iterations=1, batch_size=5, verbose=0).history
        assert np.mean(history["l0"]) <= 0.4 * 4
    for looped, single in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(looped, single, atol=1e-6)


def test_every_unit_learns_from_some_rows_however_little_it_is_active(x):
    ae = dictionary(WinnerTakeAll(0.1), units=30)
    ae.trainable_variables[2].assign(np.linspace(-0.5, 8, 30))  # biases: a few units win every row
    active = ae.encode(x).numpy().max(axis=0) > 0
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum((ae(x, training=True) - x) ** 2)
    [gradient] = tape.gradient(loss, [ae.trainable_variables[2].value])
    assert active.sum() > 25
    np.testing.assert_array_equal(gradient.numpy() != 0, active)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_keeps_as_many(dtype):
    layer = WinnerTakeAll(0.25, dtype=dtype)
    pre = keras.ops.cast(np.arange(8.0)[:, None], layer.compute_dtype)
    codes = layer(pre, training=True)
    assert codes.dtype == layer.compute_dtype
    np.testing.assert_array_equal(keras.ops.cast(codes, "float32"), [[0]] * 6 + [[6], [7]])


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, float("nan")])
def test_a_rate_out_of_range(rate):
    with raises(ValueError, "`rate` expects a share of the examples, above 0 and at most 1", f"Received: {rate}"):
        WinnerTakeAll(rate)
