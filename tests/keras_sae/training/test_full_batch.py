import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from benchmarks.classic import Autoencoder, classifier_cost
from keras_sae import HalfSquaredError, KLSparsity, SparseAutoencoder, SummedBinaryCrossentropy
from keras_sae.training.full_batch import ObjectiveFunction
from tests.keras_sae.conftest import Batches, autoencoder, raises, randomise, relative, two_layers

LOSSES = {"squared": HalfSquaredError, "cross-entropy": SummedBinaryCrossentropy}
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


def assert_same(found, expected, tolerance=1e-12):
    """Two `Objective`s, or an Objective and (value, gradients)."""
    value, gradients = expected if isinstance(expected, tuple) else (expected.value, expected.gradients)
    assert found.value == pytest.approx(value, rel=tolerance)
    assert len(found.gradients) == len(gradients)
    for one, other in zip(found.gradients, gradients, strict=True):
        assert one.shape == other.shape
        assert relative(one, other) < tolerance


def test_by_hand():
    ae = SparseAutoencoder(1, sparsity=KLSparsity(rho=0.25, beta=2.0), weight_decay=0.1, dtype="float64")
    ae.build((None, 2))
    log3 = np.log(3)
    ae.set_weights([np.array([[log3], [-log3]]), np.zeros(1), np.zeros((1, 2)), np.zeros(2)])
    found = keras_sae.objective(ae, np.eye(2))
    # a = sigmoid(+-ln 3) = 3/4 and 1/4, so rho_hat = 1/2; every output is sigmoid(0) = 1/2
    np.testing.assert_allclose(found.rho_hat, [[0.5]], rtol=1e-14)
    # error: each row 1/2 (1/4 + 1/4); decay: 0.1/2 (2 ln^2 3); KL: 1/4 ln(1/4 : 1/2) + 3/4 ln(3/4 : 1/2), times 2
    parts = {"reconstruction": 0.25, "weight_decay": 0.1 * log3**2, "sparsity": 0.5 * np.log(0.5) + 1.5 * np.log(1.5)}
    assert found.parts == pytest.approx(parts, rel=1e-12)
    assert found.value == pytest.approx(sum(parts.values()), rel=1e-12)
    # delta2 = (1/2 - x) 1/4 / 2 = [-1/16, 1/16] and [1/16, -1/16]: db2 = 0, dW2 = 3/4 row 1 + 1/4 row 2
    # delta1 = slope * a (1 - a) = 2 (-1/4 : 1/2 + 3/4 : 1/2) / 2 * 3/16 = 3/16 for both rows (W2 is 0)
    w1, b1, w2, b2 = found.gradients
    np.testing.assert_allclose(w1, [[3 / 16 + 0.1 * log3], [3 / 16 - 0.1 * log3]], rtol=1e-12)
    np.testing.assert_allclose(b1, [3 / 8], rtol=1e-12)
    np.testing.assert_allclose(w2, [[-1 / 32, 1 / 32]], rtol=1e-12)
    np.testing.assert_allclose(b2, [0, 0], atol=1e-15)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("tied", [False, True])
def test_is_that_of_the_numpy_twin_at_every_chunk_size(tied, activation, loss, dtype, x):
    ae = autoencoder(tied=tied, activation=activation, sparsity=KLSparsity(0.1, 3.0), weight_decay=0.01, dtype=dtype)
    ae.compile(loss=LOSSES[loss]())
    twin = Autoencoder(rho=0.1, beta=3.0, weight_decay=0.01, activation=activation, loss=loss, tied=tied)
    expected = twin.cost([w.astype("float64") for w in ae.get_weights()], x)
    for chunk_size in (1, 7, 100):  # 23 chunks, 4 chunks of which the last is short, all rows at once
        assert_same(keras_sae.objective(ae, x, chunk_size=chunk_size), expected, TOLERANCE[dtype])


@pytest.mark.parametrize(("activation", "output_activation"), [("sigmoid", "linear"), ("tanh", "tanh")])
def test_other_outputs_are_those_of_the_numpy_twin(activation, output_activation, x):
    ae = autoencoder(activation=activation, output_activation=output_activation, sparsity=KLSparsity(0.1, 3.0))
    twin = Autoencoder(activation=activation, output_activation=output_activation, weight_decay=1e-4)
    assert_same(keras_sae.objective(ae, x), twin.cost(ae.get_weights(), x), 1e-10)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_on_real_digits_is_that_of_the_numpy_twin(dtype, digits):
    x = digits.x_train[::20]
    ae = SparseAutoencoder(25, sparsity=KLSparsity(0.1, 3.0), weight_decay=3e-3, dtype=dtype)
    ae.build(x.shape)
    expected = Autoencoder().cost([w.astype("float64") for w in ae.get_weights()], x.astype("float64"))
    assert_same(keras_sae.objective(ae, x, chunk_size=64), expected, TOLERANCE[dtype])


def test_denoising_objective_is_that_of_the_numpy_twin(x):
    """The corrupted copy as inputs, the clean one as targets."""
    ae = autoencoder(corruption=0.5, sparsity=KLSparsity(0.1, 3.0))
    corrupted = x * (np.random.default_rng(3).uniform(size=x.shape) > 0.5)
    expected = Autoencoder(weight_decay=1e-4).cost(ae.get_weights(), corrupted, target=x)
    assert_same(keras_sae.objective(ae, corrupted, x, chunk_size=7), expected, 1e-10)


def test_denoising_autoencoder_sees_x_as_it_is(x):
    assert_same(keras_sae.objective(autoencoder(corruption=0.5), x), keras_sae.objective(autoencoder(), x))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("chunk_size", [7, 100])
def test_classifier_is_that_of_the_numpy_twin(chunk_size, dtype, x, labels):
    classifier = randomise(two_layers(dtype=dtype).classifier(3, weight_decay=0.1))
    expected = classifier_cost([w.astype("float64") for w in classifier.get_weights()], x, labels, 0.1)
    assert_same(keras_sae.objective(classifier, x, labels, chunk_size), expected, TOLERANCE[dtype])


@pytest.mark.usefixtures("compiled")
def test_compiled_between_products_it_is_that_of_the_numpy_twin(monkeypatch, x, labels):
    """What a long training on many rows takes: 23 rows here, in chunks of 7, of which the last has 2."""
    monkeypatch.setattr("keras_sae.training.full_batch.FUSED_FROM", 1000 * x.size)
    ae = autoencoder(sparsity=KLSparsity(0.1, 3.0), weight_decay=0.01)
    fused, plain = (ObjectiveFunction(ae, x, chunk_size=7, evaluations=number) for number in (1000, 999))
    assert (fused.passes.fused, plain.passes.fused) == (True, False)
    assert_same(fused(), Autoencoder(weight_decay=0.01).cost(ae.get_weights(), x), 1e-10)
    assert fused(gradients=False).value == pytest.approx(plain().value, rel=1e-14)
    classifier = randomise(two_layers().classifier(3, weight_decay=0.1))
    function = ObjectiveFunction(classifier, x, labels, 7, evaluations=1000)
    assert_same(function(), classifier_cost(classifier.get_weights(), x, labels, 0.1), 1e-10)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_between_products_it_is_the_same_in_single_precision(precision, monkeypatch):
    monkeypatch.setattr("keras_sae.training.full_batch.FUSED_FROM", 5 * 640)
    x = np.random.default_rng(0).random((64, 10)).astype("float32")
    ae = SparseAutoencoder(8, KLSparsity(0.1, 3.0))
    fused, plain = (ObjectiveFunction(ae, x, None, 20, np.arange(64.0), number) for number in (5, 1))
    assert_same(fused(precision=precision), plain(precision=precision), 1e-5 if precision == "float32" else 0.02)


def test_a_program_that_runs_eagerly_compiles_nothing(monkeypatch, x):
    monkeypatch.setattr("keras_sae.training.full_batch.FUSED_FROM", 1)
    ae, before = autoencoder(sparsity=KLSparsity(0.1, 3.0)), tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        assert_same(ObjectiveFunction(ae, x)(), Autoencoder(weight_decay=1e-4).cost(ae.get_weights(), x), 1e-10)
    finally:
        tf.config.run_functions_eagerly(before)


def test_the_gradient_of_units_at_rest_is_finite_for_many_rows():
    ae = SparseAutoencoder(2, KLSparsity(0.5, 1000.0), activation="hard_sigmoid", dtype="float32")
    ae.build((None, 3))
    ae.set_weights([np.zeros((3, 2)), np.array([-9.0, 0.0]), np.zeros((2, 3)), np.zeros(3)])
    found = keras_sae.objective(ae, np.ones((60_000, 3), "float32"), chunk_size=60_000)
    assert found.rho_hat[0].tolist() == [0.0, 0.5]
    assert all(np.isfinite(gradient).all() for gradient in found.gradients)


def test_stack_adds_the_penalties_of_every_layer(x):
    stack = two_layers(weight_decay=0.1, sparsity=KLSparsity(0.2, 2.0))
    found = keras_sae.objective(stack, x, chunk_size=7)
    logistic = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    weights = stack.get_weights()
    kernels = [w for w in weights if w.ndim == 2]
    w1, b1, w2, b2 = stack.autoencoders[0].get_weights()
    v1, c1, v2, c2 = stack.autoencoders[1].get_weights()
    h1 = logistic(x @ w1 + b1)
    h2 = logistic(h1 @ v1 + c1)
    xhat = logistic(logistic(h2 @ v2 + c2) @ w2 + b2)
    means = [h1.mean(axis=0), h2.mean(axis=0)]
    kl = sum(np.sum(0.2 * np.log(0.2 / r) + 0.8 * np.log(0.8 / (1 - r))) for r in means)
    parts = {
        "reconstruction": 0.5 * np.sum((xhat - x) ** 2) / 23,
        "weight_decay": 0.05 * sum(np.sum(w * w) for w in kernels),
        "sparsity": 2.0 * kl,
    }
    assert len(kernels) == 4
    assert found.parts == pytest.approx(parts, rel=1e-10)
    for rate, mean in zip(found.rho_hat, means, strict=True):
        np.testing.assert_allclose(rate, mean, rtol=1e-10)


def test_plain_keras_model_with_the_same_layers_has_the_same_objective(x):
    ae = autoencoder(weight_decay=0.1)
    plain = keras.Sequential(
        [
            keras.Input((6,), dtype="float64"),
            keras.layers.Dense(
                4,
                "sigmoid",
                kernel_regularizer=keras_sae.WeightDecay(0.1),
                activity_regularizer=KLSparsity(0.05, 3.0),
                dtype="float64",
            ),
            keras.layers.Dense(6, "sigmoid", kernel_regularizer=keras_sae.WeightDecay(0.1), dtype="float64"),
        ]
    )
    plain.set_weights(ae.get_weights())
    plain.compile(loss=HalfSquaredError())
    assert_same(keras_sae.objective(plain, x, x, chunk_size=7), keras_sae.objective(ae, x))


def test_l1_is_summed_over_units_and_averaged_over_examples(x):
    ae = autoencoder(sparsity=keras.regularizers.L1(0.5), weight_decay=0.0)
    found = keras_sae.objective(ae, x, chunk_size=7)
    features = np.asarray(ae.encode(x))
    assert found.parts["sparsity"] == pytest.approx(0.5 * np.abs(features).sum(axis=1).mean(), rel=1e-10)
    assert found.rho_hat == []


def test_l1_of_many_half_precision_rows_is_finite(x):
    """The sum over 46,000 rows passes 65,504, the largest float16; the mean is about 2."""
    ae = autoencoder(sparsity=keras.regularizers.L1(1.0), weight_decay=0.0, dtype="mixed_float16")
    expected = np.asarray(ae.encode(x)).astype("float64").sum(axis=1).mean()
    found = keras_sae.objective(ae, np.tile(x, (2000, 1)), chunk_size=50_000)
    assert found.parts["sparsity"] == pytest.approx(expected, rel=1e-2)


def test_terms_add_up_and_are_plain_numbers(x):
    found = keras_sae.objective(autoencoder(weight_decay=0.1), x)
    assert list(found.parts) == ["reconstruction", "weight_decay", "sparsity"]
    assert {type(number) for number in [found.value, *found.parts.values()]} == {float}
    assert found.value == pytest.approx(sum(found.parts.values()), rel=1e-15)
    assert all(g.dtype == "float64" for g in found.gradients)


@pytest.mark.parametrize("sparsity", ["kl", "l1"])
def test_duplicated_data_leave_the_objective_unchanged(sparsity, x):
    ae = autoencoder(sparsity=sparsity, weight_decay=0.1)
    twice = keras_sae.objective(ae, np.concatenate([x, x]), chunk_size=9)
    assert_same(twice, keras_sae.objective(ae, x))


def test_tanh_rho_hat_is_on_the_scale_from_0_to_1(x):
    ae = autoencoder(activation="tanh")
    expected = (1 + np.asarray(ae.encode(x)).mean(axis=0)) / 2
    np.testing.assert_allclose(keras_sae.objective(ae, x, chunk_size=7).rho_hat, [expected], rtol=1e-12)


@pytest.mark.parametrize("kind", ["memmap", "list", "tensor", "tf.data", "PyDataset"])
def test_every_kind_of_data_gives_the_in_memory_result(kind, x, tmp_path):
    ae = autoencoder()
    if kind == "memmap":
        np.save(tmp_path / "x.npy", x)
        data = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert isinstance(data, np.memmap)
    elif kind == "list":
        data = x.tolist()
    elif kind == "tensor":
        data = tf.constant(x)
    else:
        data = tf.data.Dataset.from_tensor_slices(x).batch(7) if kind == "tf.data" else Batches(x)
    assert_same(keras_sae.objective(ae, data, chunk_size=7), keras_sae.objective(ae, x))


@pytest.mark.parametrize("kind", ["tf.data", "PyDataset"])
def test_datasets_of_inputs_and_targets(kind, x, labels):
    classifier = two_layers().classifier(3)
    data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(7) if kind == "tf.data" else Batches(x, labels)
    assert_same(keras_sae.objective(classifier, data), keras_sae.objective(classifier, x, labels))


def test_dataset_tells_the_number_of_features(x):
    ae = SparseAutoencoder(4, dtype="float64")
    keras_sae.objective(ae, tf.data.Dataset.from_tensor_slices(x).batch(7))
    assert ae.kernel.shape == (6, 4)


def test_frozen_layers_have_no_gradient(x):
    ae = autoencoder()
    everything = keras_sae.objective(ae, x)
    ae.output_layer.trainable = False
    found = keras_sae.objective(ae, x)
    assert [g.shape for g in found.gradients] == [(6, 4), (4,)]
    assert relative(found.gradients[0], everything.gradients[0]) < 1e-12


def test_leaves_the_model_as_it_is(x, monkeypatch):
    ae = autoencoder(corruption=0.5)
    weights, hidden = ae.get_weights(), ae.encoder.get_layer("hidden")
    regularizer = hidden.activity_regularizer
    keras_sae.objective(ae, x)
    assert hidden.activity_regularizer is regularizer
    assert all(np.array_equal(a, b) for a, b in zip(weights, ae.get_weights(), strict=True))
    monkeypatch.setattr(SparseAutoencoder, "decode", lambda self, h: 1 / 0)  # in the middle of the forward pass
    with pytest.raises(Exception, match="division by zero"):
        keras_sae.objective(ae, x)
    assert hidden.activity_regularizer is regularizer


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_saturated_units_keep_value_and_gradients_finite(activation, dtype, x):
    ae = autoencoder(activation=activation, dtype=dtype)
    kernel, *others = ae.get_weights()
    kernel[:] = [-1e4, -1e4, 1e4, 1e4]
    ae.set_weights([kernel, *others])
    found = keras_sae.objective(ae, x)
    np.testing.assert_allclose(found.rho_hat, [[0, 0, 1, 1]], atol=1e-12)
    assert np.isfinite(found.value)
    assert found.parts["sparsity"] > 1
    assert all(np.isfinite(g).all() for g in found.gradients)


@pytest.mark.parametrize("kind", ["autoencoder", "stack", "classifier"])
def test_data_of_another_shape_than_the_model_takes(kind, x):
    ae = autoencoder()
    stack = keras_sae.StackedAutoencoder([ae])
    stack.build((None, 6))
    model = {"autoencoder": ae, "stack": stack, "classifier": stack.classifier(3)}[kind]
    labels = None if kind != "classifier" else np.zeros(len(x), int)
    narrow = np.asarray(x)[:, :5].astype("float32")
    batches = tf.data.Dataset.from_tensor_slices((narrow, narrow) if labels is None else (narrow, labels)).batch(7)
    for call in (
        lambda: keras_sae.objective(model, narrow, labels),
        lambda: keras_sae.objective(model, batches),
        lambda: keras_sae.fit_lbfgs(model, narrow, labels, max_iterations=1),
        lambda: keras_sae.fit_minibatches(model, narrow, labels, epochs=1),
    ):
        with raises(ValueError, "Expected data of shape (examples, 6), as the model takes. Received shape: (", ", 5)"):
            call()


def test_shape_that_does_not_hold_rows():
    for shape in [(0, 6), (6,)]:
        with raises(ValueError, "shape (examples, features) with at least one row", f"Received shape: {shape}"):
            keras_sae.objective(autoencoder(), np.zeros(shape))


@pytest.mark.parametrize("built", [True, False])
def test_dataset_without_rows(built, x):
    ae = autoencoder() if built else SparseAutoencoder(4)
    with raises(ValueError, "at least one row"):
        keras_sae.objective(ae, tf.data.Dataset.from_tensor_slices(x[:0]).batch(7))


def test_one_target_for_each_input(x, labels):
    with raises(ValueError, "Expected one target for each of the 23 inputs", "Received: 20"):
        keras_sae.objective(two_layers().classifier(3), x, labels[:20])


@pytest.mark.parametrize("chunk_size", [0, -1])
def test_chunk_size_out_of_range(chunk_size, x):
    with raises(ValueError, "`chunk_size` expects 1 row or more", f"Received: {chunk_size}"):
        keras_sae.objective(autoencoder(), x, chunk_size=chunk_size)


def test_targets_beside_a_dataset(x):
    with raises(ValueError, "Give `y` with arrays only", "yields (x, y) or (x, y, weights) itself"):
        keras_sae.objective(autoencoder(), tf.data.Dataset.from_tensor_slices(x).batch(7), x)


def test_model_without_a_loss(x):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)], name="own")
    with raises(ValueError, "needs the model's loss", "own.compile(loss=...) first"):
        keras_sae.objective(model, x, x)


def test_model_without_trainable_weights(x):
    ae = autoencoder()
    ae.trainable = False
    with raises(ValueError, "no trainable weights", "`trainable = True`"):
        keras_sae.objective(ae, x)


def test_an_objective_describes_itself():
    parts = {"reconstruction": 1.5, "weight_decay": 0.25, "sparsity": 1 / 3}
    found = keras_sae.Objective(25 / 12, [np.zeros((2, 2))], parts, [np.array([0.1, 0.2]), np.array([0.6])])
    numbers = "value=2.08333, reconstruction=1.5, weight_decay=0.25, sparsity=0.333333, rho_hat=0.3"
    assert repr(found) == f"Objective({numbers})"
    assert found._repr_html_().startswith("<table><tr><th>value</th><td>2.08333</td></tr><tr><th>reconstruction</th>")
    assert "rho_hat" not in repr(keras_sae.Objective(1.5, [], {"data_loss": 1.5}, []))
