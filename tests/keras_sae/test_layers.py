"""The layers by value, in models of every kind, beside a NumPy twin and hand-worked numbers."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_sae
from keras_sae import KLSparsity
from keras_sae.layers import DenseTranspose, MaskingNoise, SparseDense, SparsityRegularization
from tests.keras_sae.conftest import raises, randomise

ROOT = pathlib.Path(__file__).parents[2]
KL = KLSparsity(0.1, 3.0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def kl(means, rho=0.1, beta=3.0):
    """beta sum_j KL(rho || means_j)"""
    return beta * np.sum(rho * np.log(rho / means) + (1 - rho) * np.log((1 - rho) / (1 - means)))


# --- the penalty of mean activations ---


def test_penalty_of_a_batch_by_hand():
    layer = SparsityRegularization(KL, dtype="float64")
    activations = np.array([[0.1, 0.6], [0.3, 0.8]])  # means 0.2, 0.7
    np.testing.assert_array_equal(layer(activations), activations)
    assert [float(loss) for loss in layer.losses] == pytest.approx([kl(np.array([0.2, 0.7]))], rel=1e-12)


def test_other_penalties_are_averaged_over_examples():
    layer = SparsityRegularization(keras.regularizers.L1(0.5), dtype="float64")
    layer(np.array([[1.0, -2.0], [3.0, 0.0], [0.0, 0.0]]))
    assert float(layer.losses[0]) == pytest.approx(0.5 * (1 + 2 + 3) / 3, rel=1e-12)


@pytest.mark.parametrize("window", [None, 32])
@pytest.mark.parametrize("shape", [(6, 4), (6, 3, 4), (6, 2, 3, 4)])
def test_mean_is_over_all_axes_but_the_last(shape, window):
    activations = np.random.default_rng(0).uniform(size=shape)
    layer = SparsityRegularization(KLSparsity(0.1, 3.0, window=window), dtype="float64")
    layer(activations, training=True)
    assert float(layer.losses[0]) == pytest.approx(kl(activations.reshape(-1, 4).mean(axis=0)), rel=1e-12)


@pytest.fixture
def halving():
    """A moving average, in float64, of which each batch of two examples makes up half."""
    return SparsityRegularization(KLSparsity(0.1, 3.0, window=2 / np.log(2)), dtype="float64")


def test_moving_average_of_two_batches_by_hand(halving):
    halving(np.array([[0.1, 0.6], [0.3, 0.8]]), training=True)
    # the first batch alone, whatever its share: means 0.2, 0.7
    np.testing.assert_allclose(halving.rho_hat, [0.2, 0.7], rtol=1e-12)
    assert float(halving.weight_sum) == pytest.approx(1 / 2, rel=1e-12)
    halving(np.array([[0.5, 0.1], [0.5, 0.1]]), training=True)
    # shares 1/4 and 1/2: (1/4 * 0.2 + 1/2 * 0.5) / (3/4) = 0.4 and (1/4 * 0.7 + 1/2 * 0.1) / (3/4) = 0.3
    np.testing.assert_allclose(halving.rho_hat, [0.4, 0.3], rtol=1e-12)
    assert float(halving.weight_sum) == pytest.approx(3 / 4, rel=1e-12)


def test_moving_average_forgets_by_examples_not_by_batches(halving):
    """Two batches of two with the same mean leave what one batch of four does."""
    twin = SparsityRegularization(halving.sparsity, dtype="float64")
    start, then = np.full((2, 1), 0.6), np.full((4, 1), 0.2)
    halving(start, training=True)
    halving(then[:2], training=True)
    halving(then[2:], training=True)
    twin(start, training=True)
    twin(then, training=True)
    np.testing.assert_allclose(halving.rho_hat, twin.rho_hat, rtol=1e-12)
    np.testing.assert_allclose(halving.weight_sum, twin.weight_sum, rtol=1e-12)


def test_moving_average_of_tanh_units_is_a_rate():
    layer = SparsityRegularization(KLSparsity(0.1, 3.0, inactive=-1.0, window=8), dtype="float64")
    layer(np.array([[-1.0], [0.0]]), training=True)
    np.testing.assert_allclose(layer.rho_hat, [0.25], rtol=1e-12)  # from 0 at rest, -1, to 1


@pytest.mark.parametrize("copies", [1, 3])
def test_penalty_of_a_moving_average_has_its_value_and_the_gradient_of_the_batch_mean(halving, copies):
    halving(np.full((2, 1), 0.2), training=True)
    batch = tf.constant([[0.4], [0.6]] * copies, "float64")
    with tf.GradientTape() as tape:
        tape.watch(batch)
        halving(batch, training=True)
        (loss,) = halving.losses
    rho_hat = float(halving.rho_hat[0])
    if copies == 1:
        assert rho_hat == pytest.approx(0.4, rel=1e-12)  # (1/4 * 0.2 + 1/2 * 0.5) / (3/4)
    slope = 3 * (-0.1 / rho_hat + 0.9 / (1 - rho_hat))
    assert float(loss) == pytest.approx(kl(np.array([rho_hat])), rel=1e-7)
    # not of the batch's own KL, and not scaled by the batch's share in the average
    np.testing.assert_allclose(tape.gradient(loss, batch), np.full(batch.shape, slope / len(batch)), rtol=1e-7)


def test_only_training_moves_the_average(halving):
    x = np.array([[0.3], [0.5]])
    np.testing.assert_array_equal(halving(x), x)
    assert float(halving.weight_sum) == 0
    by_hand = kl(np.array([0.4]))
    assert float(halving.losses[0]) == pytest.approx(by_hand, rel=1e-7)  # of the batch, as there is no average yet
    np.testing.assert_array_equal(halving(x, training=True), x)
    halving(np.array([[0.9], [0.9]]), training=False)
    np.testing.assert_allclose(halving.rho_hat, [0.4], rtol=1e-12)
    assert float(halving.losses[0]) == pytest.approx(by_hand, rel=1e-7)  # of the average, whatever the batch


def test_moving_average_is_an_ordinary_weight_that_does_not_train():
    layer = SparsityRegularization(KLSparsity(window=128), dtype="float16")
    layer.build((None, 3))
    assert layer.trainable_weights == []
    assert [(w.name, w.shape, w.dtype) for w in layer.non_trainable_weights] == [
        ("rho_hat", (3,), "float32"),
        ("weight_sum", (), "float32"),
    ]


def test_a_penalty_is_needed():
    with raises(ValueError, "Expected a KLSparsity or another Keras regularizer", "Received: sparsity="):
        SparsityRegularization(None)


# --- SparseDense ---


def test_sparse_dense_in_sequential_trains_and_reports_its_penalty(x):
    model = keras.Sequential([keras.Input((6,)), SparseDense(4, sparsity=KL), keras.layers.Dense(6, "sigmoid")])
    model.compile("adam", loss=keras_sae.HalfSquaredError())
    randomise(model)
    w1, b1, w2, b2 = model.get_weights()
    hidden = sigmoid(x @ w1 + b1)
    error = 0.5 * np.mean(np.sum((sigmoid(hidden @ w2 + b2) - x) ** 2, axis=1))
    by_hand = error + kl(hidden.mean(axis=0))
    assert model.evaluate(x, x, batch_size=23, verbose=0) == pytest.approx(by_hand, rel=1e-5)
    assert keras_sae.objective(model, x, x).value == pytest.approx(by_hand, rel=1e-5)
    history = model.fit(x, x, batch_size=23, epochs=5, verbose=0).history["loss"]
    assert history[0] == pytest.approx(by_hand, rel=1e-5)
    assert history[-1] < history[0]


def test_sparse_dense_takes_the_arguments_of_dense(x):
    layer = SparseDense(
        4, "tanh", KLSparsity(0.2), use_bias=False, kernel_initializer="ones", dtype="float64", name="own",
        kernel_regularizer=keras_sae.WeightDecay(0.5),
    )  # fmt: skip
    outputs = layer(x)
    np.testing.assert_allclose(outputs, np.tanh(x.sum(axis=1, keepdims=True) * np.ones(4)), rtol=1e-12)
    assert layer.sparsity.inactive == -1.0  # tanh rests there
    penalty, decay = (float(loss) for loss in layer.losses)
    assert penalty == pytest.approx(kl((1 + np.asarray(outputs).mean(axis=0)) / 2, rho=0.2), rel=1e-12)
    assert decay == pytest.approx(0.5 / 2 * 24, rel=1e-12)
    assert (layer.name, layer.dtype, [w.shape for w in layer.get_weights()]) == ("own", "float64", [(6, 4)])


def test_sparse_dense_without_a_penalty_is_dense(x):
    layer = SparseDense(4, "relu", sparsity=None)
    layer(x)
    assert layer.losses == []
    with raises(ValueError, "needs units bounded by 1", "sparsity=keras.regularizers.L1(1e-3)", "'relu'"):
        SparseDense(4, "relu")


def test_sparse_dense_shared_by_two_inputs_counts_both(x):
    """Two uses, two means, two penalties; the layer's weights are there once."""
    first, second = keras.Input((6,)), keras.Input((6,))
    layer = SparseDense(4, sparsity=KL)
    model = keras.Model([first, second], keras.layers.Add()([layer(first), layer(second)]))
    randomise(model)
    kernel, bias = model.get_weights()
    model([x, 2 * x])
    expected = [kl(sigmoid(scale * x @ kernel + bias).mean(axis=0)) for scale in (1, 2)]
    assert sorted(float(loss) for loss in model.losses) == pytest.approx(sorted(expected), rel=1e-5)


def test_sparse_dense_nested_in_a_model_is_seen_by_the_objective(x):
    inputs = keras.Input((6,))
    inner = keras.Sequential([keras.Input((6,)), SparseDense(4, sparsity=KL)])
    model = keras.Model(inputs, keras.layers.Dense(6, "sigmoid")(inner(inputs)))
    model.compile(loss=keras_sae.HalfSquaredError())
    randomise(model)
    found = keras_sae.objective(model, x, x, chunk_size=7)
    np.testing.assert_allclose(found.rho_hat[0], np.asarray(inner(x)).mean(axis=0), rtol=1e-5)
    assert found.value == pytest.approx(model.evaluate(x, x, batch_size=23, verbose=0), rel=1e-5)


def test_sparse_dense_on_four_dimensions():
    x = np.random.default_rng(0).uniform(size=(5, 2, 3, 6))
    layer = SparseDense(4, sparsity=KL, dtype="float64")
    outputs = np.asarray(layer(x))
    assert outputs.shape == (5, 2, 3, 4)
    assert float(layer.losses[0]) == pytest.approx(kl(outputs.reshape(-1, 4).mean(axis=0)), rel=1e-12)


def test_clone_model_and_weights_hold_the_moving_average(x):
    model = keras.Sequential([keras.Input((6,)), SparseDense(4, sparsity=KLSparsity(window=32))])
    model.compile("sgd", loss="mse")
    model.fit(x, np.zeros((23, 4)), batch_size=8, verbose=0)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    average = copy.layers[0].regularization.rho_hat
    np.testing.assert_array_equal(average, model.layers[0].regularization.rho_hat)
    assert float(ops.min(average)) > 0
    model(x), copy(x)
    assert float(copy.losses[0]) == float(model.losses[0])


# --- a tied decoder ---


def tied_model(nested=False):
    """6-4-6 with one kernel, functional; the encoder as a model of its own if nested."""
    inputs = keras.Input((6,), dtype="float64")
    hidden = SparseDense(4, sparsity=KL, kernel_regularizer=keras_sae.WeightDecay(0.1), name="hidden", dtype="float64")
    if nested:
        encoder_inputs = keras.Input((6,), dtype="float64")
        features = keras.Model(encoder_inputs, hidden(encoder_inputs), name="encoder")(inputs)
    else:
        features = hidden(inputs)
    outputs = DenseTranspose(hidden, "sigmoid", name="output", dtype="float64")(features)
    model = keras.Model(inputs, outputs)
    model.compile(loss=keras_sae.HalfSquaredError(dtype="float64"))
    return randomise(model)


def tied_sequential():
    hidden = SparseDense(4, sparsity=KL, kernel_regularizer=keras_sae.WeightDecay(0.1), name="hidden", dtype="float64")
    output = DenseTranspose(hidden, "sigmoid", name="output", dtype="float64")
    model = keras.Sequential([keras.Input((6,), dtype="float64"), hidden, output])
    model.compile(loss=keras_sae.HalfSquaredError(dtype="float64"))
    return randomise(model)


TIED = {"functional": tied_model, "nested": lambda: tied_model(nested=True), "sequential": tied_sequential}


def twin_of(model, x):
    """(J, gradients) of the independent NumPy version for the same weights."""
    from benchmarks import classic

    twin = classic.Autoencoder(rho=0.1, beta=3.0, weight_decay=0.1, tied=True)
    return twin.cost(model.get_weights(), x)


def test_tied_decoder_by_hand():
    dense = keras.layers.Dense(2, dtype="float64")
    dense.build((None, 3))
    dense.set_weights([np.array([[1.0, 0.0], [2.0, 1.0], [0.0, -1.0]]), np.zeros(2)])
    layer = DenseTranspose(dense, activation="relu", dtype="float64")
    h = np.array([[2.0, 5.0]])
    layer.build(h.shape)
    layer.set_weights([np.array([0.5, 0.0, 1.0])])
    # h W^T = [2, 2*2 + 5, -5] = [2, 9, -5]; plus the bias [2.5, 9, -4]; relu
    np.testing.assert_array_equal(layer(h), [[2.5, 9.0, 0.0]])
    assert layer.compute_output_shape((7, 4, 2)) == (7, 4, 3)


def test_tied_decoder_owns_the_bias_alone():
    dense = keras.layers.Dense(2)
    dense.build((None, 3))
    layer, plain = DenseTranspose(dense), DenseTranspose(dense, use_bias=False)
    layer.build((None, 2))
    plain.build((None, 2))
    assert [w.path.split("/")[-1] for w in layer.weights] == ["bias"]
    assert plain.weights == []
    layer.trainable = False
    assert dense.trainable


@pytest.mark.parametrize("kind", TIED)
def test_tied_kernel_gets_the_gradient_of_both_uses_and_counts_once(kind, x):
    model = TIED[kind]()
    assert [w.shape for w in model.get_weights()] == [(6, 4), (4,), (6,)]
    assert model.count_params() == 24 + 4 + 6
    found = keras_sae.objective(model, x, x, chunk_size=7)
    value, gradients = twin_of(model, x)
    assert found.value == pytest.approx(value, rel=1e-10)
    for gradient, expected in zip(found.gradients, gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)
    assert keras_sae.check_gradients(model, x, x) < 1e-6


@pytest.mark.parametrize("kind", TIED)
@pytest.mark.parametrize("how", ["clone_model", "from_config"])
def test_a_tied_model_stays_tied_when_it_is_built_anew(kind, how, x):
    model = TIED[kind]()
    copy = keras.models.clone_model(model) if how == "clone_model" else type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    np.testing.assert_allclose(copy(x), model(x), rtol=1e-12)
    kernel = copy.trainable_variables[0]
    kernel.assign(2 * kernel)  # of the copy: its decoder follows, the original stays
    expected = sigmoid(sigmoid(x @ kernel.numpy() + copy.get_weights()[1]) @ kernel.numpy().T + copy.get_weights()[2])
    np.testing.assert_allclose(copy(x), expected, rtol=1e-12)
    assert not np.allclose(copy(x), model(x))


def test_tied_models_survive_files_in_a_fresh_process(x, tmp_path):
    """Trained on after loading, each has one kernel still, and gives what the model here gives."""
    models = {kind: make() for kind, make in TIED.items()}
    np.save(tmp_path / "x.npy", x)
    for kind, model in models.items():
        model.save(tmp_path / f"{kind}.keras")
    code = (
        "import os, sys, keras, numpy as np, keras_sae\n"
        "os.chdir(sys.argv[1])\n"
        "x = np.load('x.npy')\n"
        "for kind in sys.argv[2:]:\n"
        "    model = keras.saving.load_model(kind + '.keras')\n"
        "    found = np.asarray(model(x))\n"
        "    keras_sae.fit_lbfgs(model, x, x, max_iterations=3, verbose=0)\n"
        "    np.savez(kind + '.npz', *model.get_weights(), found=found, outputs=model(x))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), *TIED], cwd=ROOT, check=True, capture_output=True)
    for kind, model in models.items():
        trained = np.load(tmp_path / f"{kind}.npz")
        np.testing.assert_allclose(trained["found"], model(x), rtol=1e-12)
        kernel, bias, output_bias = (trained[f"arr_{i}"] for i in range(3))
        expected = sigmoid(sigmoid(x @ kernel + bias) @ kernel.T + output_bias)
        np.testing.assert_allclose(trained["outputs"], expected, rtol=1e-12)
        keras_sae.fit_lbfgs(model, x, x, max_iterations=3, verbose=0)
        np.testing.assert_allclose(kernel, model.get_weights()[0], rtol=1e-6)


def test_a_tied_decoder_of_another_model_says_what_to_do():
    dense = keras.layers.Dense(4, name="hidden")
    with raises(ValueError, "Expected a Dense layer that was built", "'hidden'", "Call it first"):
        DenseTranspose(dense)(np.ones((2, 4)))
    copy = DenseTranspose.from_config(DenseTranspose(dense).get_config())
    with raises(ValueError, "the Dense layer 'hidden'", "Expected its input to come from that layer"):
        copy(keras.Input((4,)))
    with raises(ValueError, "Expected the Dense layer whose kernel is shared", "Received: dense="):
        DenseTranspose(4)


# --- masking noise ---


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
    with raises(ValueError, "`corruption` expects 0 or more and below 1", f"Received: {rate}"):
        MaskingNoise(rate)


# --- all of them ---


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        (MaskingNoise(0.25, seed=7, name="own", dtype="float64"), {"rate": 0.25, "seed": 7}),
        (
            SparsityRegularization(KL, name="own", dtype="float64"),
            {"sparsity": keras.regularizers.serialize(KL)},
        ),
        (
            SparseDense(3, "tanh", keras.regularizers.L1(0.5), use_bias=False, name="own", dtype="float64"),
            {"units": 3, "activation": "tanh", "use_bias": False},
        ),
        (SparseDense(3, "relu", None, name="own", dtype="float64"), {"sparsity": None}),
        (
            DenseTranspose(keras.layers.Dense(2, name="hidden"), "tanh", False, "ones", name="own", dtype="float64"),
            {"dense": "hidden", "activation": "tanh", "use_bias": False},
        ),
    ],
    ids=["noise", "penalty", "sparse_l1", "sparse_none", "tied"],
)
def test_serialisation(layer, arguments):
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(copy) is type(layer)
    assert arguments.items() <= copy.get_config().items()
    assert (copy.name, copy.dtype) == ("own", "float64")
    assert copy.get_config() == layer.get_config()


REPLICAS = """
import keras, numpy as np, tensorflow as tf, keras_sae
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    ae = keras_sae.SparseAutoencoder(4{options})
    ae.build((None, 6))
    ae.compile("sgd")
x = np.random.default_rng(0).uniform(size=(8, 6)).astype("float32")
{call}
"""


@pytest.mark.parametrize(
    "options", ["", pytest.param(", sparsity=keras_sae.KLSparsity(window=32)", marks=pytest.mark.slow)]
)
def test_several_replicas_are_refused_in_one_line(options, tmp_path):
    script = REPLICAS.replace("{options}", options).replace("{call}", "ae.fit(x, batch_size=8, verbose=0)")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "KLSparsity needs the mean over the whole batch" in done.stderr
    assert "Expected one replica. Received: 2. Train without the strategy." in done.stderr


@pytest.mark.slow
def test_replicas_without_a_mean_over_the_batch_train_as_one_device():
    """L1 is a sum over examples, which replicas may split: the same loss and the same step."""
    call = (
        "before = keras_sae.objective(ae, x)\n"
        "with strategy.scope():\n"
        "    assert abs(keras_sae.objective(ae, x).value - before.value) < 1e-6 * before.value\n"
        "try:\n"
        "    ae.evaluate(x, sample_weight=np.arange(8), batch_size=8, verbose=0)\n"
        "except ValueError as error:\n"
        "    assert 'A weighted loss needs the mean over the whole batch' in str(error)\n"
        "else:\n"
        "    raise AssertionError('the mean of the weighted means of two replicas')\n"
        "weights = ae.get_weights()\n"
        "loss = ae.fit(x, batch_size=8, verbose=0).history['loss'][0]\n"
        "assert abs(loss - before.value) < 1e-6 * before.value, (loss, before.value)\n"
        "for old, new, gradient in zip(weights, ae.get_weights(), before.gradients):\n"
        "    np.testing.assert_allclose(old - new, 0.01 * gradient, atol=1e-7)\n"
    )
    script = REPLICAS.replace("{options}", ", sparsity=keras.regularizers.L1(0.1)").replace("{call}", call)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
