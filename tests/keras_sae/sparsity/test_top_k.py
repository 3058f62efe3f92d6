import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from keras_sae.sparsity import BatchTopK, MatryoshkaBatchTopK, TopK
from tests.dictionary_twin import twin_of
from tests.gradients import compare, compare_objective
from tests.keras_sae.conftest import dictionary, raises


def test_by_hand():
    pre = np.array([[3.0, 1.0, 2.0, -1.0], [-1.0, -2.0, 0.5, -3.0]], "float32")
    np.testing.assert_array_equal(TopK(2)(pre), [[3, 0, 2, 0], [0, 0, 0.5, 0]])
    np.testing.assert_array_equal(TopK(2, relu=False)(pre), [[3, 0, 2, 0], [-1, 0, 0.5, 0]])


def test_equal_values_at_the_last_place_are_all_kept():
    np.testing.assert_array_equal(TopK(1)(np.array([[2.0, 2.0, 1.0]], "float32")), [[2, 2, 0]])


def test_more_units_for_inference():
    pre = np.array([[3.0, 1.0, 2.0]], "float32")
    method = TopK(1, k_inference=2)
    np.testing.assert_array_equal(method(pre, training=True), [[3, 0, 0]])
    np.testing.assert_array_equal(method(pre), [[3, 0, 2]])


@pytest.mark.parametrize("options", [{}, {"input_scale": True}, {"tied": True}], ids=str)
@pytest.mark.parametrize("relu", [True, False])
def test_the_loss_and_every_gradient_are_those_of_the_numpy_version(relu, options, x):
    ae = dictionary(TopK(3, relu=relu), units=8, **options)
    compare(ae, x, np.linspace(0, 2, len(x)) if options else None)
    twin = twin_of(ae, x)
    np.testing.assert_allclose(ae.encode(x), twin.codes(twin.start, twin.hidden(twin.start)), rtol=1e-12)


def test_the_exact_objective_and_its_gradients_are_those_of_the_numpy_version(x):
    compare_objective(dictionary(TopK(3), units=8, input_scale=True), x, np.arange(len(x)) / 5)


def test_gradients_agree_with_central_differences(x):
    assert keras_sae.check_gradients(dictionary(TopK(3), input_scale=True), x, samples=2) < 1e-6


def test_lbfgs_is_refused_in_words(x):
    message = (
        "Expected a method of sparsity that L-BFGS can train. Received: TopK: its objective jumps if units change "
        'places among the k largest. Train it on minibatches: keras_sae.fit(model, x, optimizer="adam").'
    )
    with raises(ValueError, message):
        keras_sae.fit(dictionary(TopK(3)), x)


@pytest.mark.parametrize("make", [TopK, BatchTopK, MatryoshkaBatchTopK])
def test_k_has_bounds(make):
    with raises(ValueError, "`k` expects 1 or more active units. Received: 0"):
        make(0)
    with raises(ValueError, "Expected k of at most the 4 units. Received: 5."):
        keras_sae.SparseAutoencoder(4, make(5)).build((None, 6))


@pytest.mark.parametrize("relu", [True, False])
def test_active_units_become_fewer_from_k_start_to_k(relu):
    pre = np.array([[8.0, 7, 6, 5, 4, 3, 2, 1]] * 10, "float32")
    method = TopK(2, k_start=6, anneal=40, relu=relu)
    # After n examples: 2 + 4 (1 - n / 40), rounded up.
    assert [int((method(pre, training=True)[0] != 0).numpy().sum()) for _ in range(6)] == [6, 5, 4, 3, 2, 2]
    assert int((method(pre)[0] != 0).numpy().sum()) == 2
    method.start()
    assert int((method(pre, training=True)[0] != 0).numpy().sum()) == 6
    assert int((method(pre)[0] != 0).numpy().sum()) == 2  # as after training


@pytest.mark.parametrize("make", [BatchTopK, MatryoshkaBatchTopK])
def test_active_units_of_a_batch_become_fewer(make):
    pre = np.random.default_rng(0).uniform(1, 2, (10, 8)).astype("float32")
    method = make(2, k_start=6, anneal=40)
    assert [int((method(pre, training=True) != 0).numpy().sum()) for _ in range(6)] == [60, 50, 40, 30, 20, 20]


def test_more_active_units_at_first_leave_fewer_dead():
    """And explain more: 30 epochs of digits, in the first quarter of which active units become fewer."""
    x, found = keras_sae.sample_digits().x_train[:2000], []
    for k_start in (None, 32):
        keras.utils.set_random_seed(0)
        ae = keras_sae.SparseAutoencoder(256, TopK(8, k_start=k_start, anneal=k_start and 15_000), input_scale=True)
        keras_sae.fit(ae, x, optimizer=keras.optimizers.Adam(0.003), iterations=30, batch_size=64, verbose=0)
        found.append(keras_sae.evaluate_features(ae, x))
    plain, annealed = found
    assert annealed.dead_units < 0.5 * plain.dead_units
    assert annealed.explained_variance > plain.explained_variance


@pytest.mark.parametrize("anneal", [300_000, 250_000, 150_000, 123_457, 9999])
@pytest.mark.parametrize("compiled", [{"jit_compile": True}, {}], ids=["XLA", "graph"])
def test_it_comes_to_k_exactly_also_where_xla_rounds(compiled, anneal):
    method = TopK(25, k_start=100, anneal=anneal)
    method.build((None, 200))
    k_now = tf.function(lambda: method.k_now(True), autograph=False, **compiled)
    for seen, expected in ((0, 100), (anneal - 1, 26), (anneal, 25)):
        method.seen.assign(seen)
        assert int(k_now()) == expected


@pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16", "float64"])
def test_fewer_active_units_in_every_precision(dtype):
    method = TopK(2, k_inference=3, k_start=6, anneal=10, dtype=dtype)
    pre = keras.ops.cast(np.arange(1, 9)[None], method.compute_dtype)
    assert [int((method(pre, training=True) != 0).numpy().sum()) for _ in range(12)] == [
        6,
        6,
        6,
        5,
        5,
        4,
        4,
        4,
        3,
        3,
        2,
        2,
    ]
    assert int((method(pre) != 0).numpy().sum()) == 3


def test_a_training_that_ends_before_says_so(x):
    message = (
        "Training ended after 46 of the `anneal` = 60 examples over which k_start = 6 active units of early become 2: "
        "it had 3. Set `anneal` to a third of rows times epochs."
    )
    ae = dictionary(TopK(2, k_start=6, anneal=60), units=8, name="early")
    with pytest.warns(UserWarning, match=re.escape(message)):
        keras_sae.fit(ae, x, optimizer="adam", iterations=2, verbose=0)
    keras_sae.fit(ae, x, optimizer="adam", iterations=1, verbose=0)
    assert float(ae.sparsity.seen) == 60


def test_copies_for_classifiers_have_k_active_units_from_the_start(x):
    ae = dictionary(BatchTopK(2, k_start=6, anneal=60), units=8)
    ae.sparsity.threshold.assign(0.25)
    copy = ae.sparsity.copy("codes")
    assert (copy.k, copy.k_start, copy.anneal, float(copy.threshold)) == (2, None, None, 0.25)
    assert int((copy(np.arange(1.0, 9)[None], training=True) != 0).numpy().sum()) == 2


def test_a_settled_method_has_k_active_units():
    method = TopK(2, k_start=6, anneal=60)
    method.build((None, 8))
    method.settle()
    assert int(method.k_now(True)) == 2


@pytest.mark.parametrize("make", [TopK, BatchTopK, MatryoshkaBatchTopK])
def test_annealing_has_bounds(make):
    with raises(ValueError, "Expected `k_start` of at least k = 3. Received: 2."):
        make(3, k_start=2, anneal=10)
    for number, shown in ((0, "0"), (float("inf"), "inf")):
        with raises(ValueError, f"`anneal` expects a finite number of examples above 0. Received: {shown}"):
            make(3, k_start=4, anneal=number)
    with raises(ValueError, "Expected `k_start` and `anneal`", "Received: k_start=4, anneal=None."):
        make(3, k_start=4)
    with raises(ValueError, "Expected `k_start` and `anneal`", "Received: k_start=None, anneal=10."):
        make(3, anneal=10)
    with raises(ValueError, "Expected k_start of at most the 4 units. Received: 5."):
        keras_sae.SparseAutoencoder(4, make(3, k_start=5, anneal=10)).build((None, 6))


def test_k_inference_has_bounds():
    with raises(ValueError, "Expected k_inference of at most the 4 units. Received: 5."):
        keras_sae.SparseAutoencoder(4, TopK(3, k_inference=5)).build((None, 6))


def test_a_stack_adds_the_terms_of_its_layers(x):
    layers = [dictionary(MatryoshkaBatchTopK(3), units=8), dictionary(MatryoshkaBatchTopK(2), units=4, features=8)]
    stack = keras_sae.StackedAutoencoder(layers, dtype="float64")
    alone = []
    for layer, inputs in ((layers[0], x), (layers[1], layers[0].encode(x, training=True))):
        layer(inputs, training=True)
        alone += [float(loss) for loss in layer.losses]
    stack(x, training=True)
    np.testing.assert_allclose([float(loss) for loss in stack.losses], alone, rtol=1e-12)
    assert len(alone) == 5
