"""Half precision and double: sums over examples are right in each, and training works in each or says what to set."""

import pathlib
import re

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae import KLSparsity, SparseAutoencoder
from tests.keras_sae.conftest import autoencoder, raises, relative, two_layers

pytestmark = pytest.mark.usefixtures("compiled")  # which precision products have is a matter of graphs
HALF = ["mixed_bfloat16", "bfloat16", "mixed_float16", "float16"]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", HALF)
def test_gradients_of_many_rows_are_those_of_float64_at_any_chunk_size(dtype, tied):
    """A sum of 3,000 rows in bfloat16 would be wrong by half: it stands still once it is 256 times a row."""
    rng = np.random.default_rng(0)
    x = rng.random((3000, 12)).astype("float32")
    ae, exact = (SparseAutoencoder(8, KLSparsity(0.1, 3.0), tied=tied, dtype=d) for d in (dtype, "float64"))
    for model in (ae, exact):
        model.build(x.shape)
    ae.set_weights([0.3 * rng.standard_normal(w.shape) for w in ae.get_weights()])
    exact.set_weights([w.astype("float64") for w in ae.get_weights()])
    expected = keras_sae.objective(exact, x)
    for chunk_size in (100, 3000):
        found = keras_sae.objective(ae, x, chunk_size=chunk_size)
        assert found.value == pytest.approx(expected.value, rel=2e-3)
        for ours, theirs in zip(found.gradients, expected.gradients, strict=True):
            assert relative(ours, theirs) < 0.01


@pytest.mark.parametrize("dtype", [HALF[0], *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in HALF[1:3])])
def test_lbfgs_ends_where_it_ends_in_float32(dtype, digits):
    x, ends = digits.x_train[::10, 200:600], []
    for policy in ("float32", dtype):
        keras.utils.set_random_seed(0)
        ae = SparseAutoencoder(10, KLSparsity(0.1, 3.0), weight_decay=3e-3, dtype=policy)
        keras_sae.fit(ae, x, iterations=200, verbose=0)
        exact = SparseAutoencoder(10, KLSparsity(0.1, 3.0), weight_decay=3e-3)
        exact.build(x.shape)
        exact.set_weights([w.astype("float32") for w in ae.get_weights()])
        ends.append(keras_sae.objective(exact, x).value)
    assert ends[1] < 1.01 * ends[0]  # how far the paths part depends on how a processor rounds products


@pytest.mark.parametrize("dtype", ["float64", *HALF])
def test_keras_own_fit_takes_every_dtype(dtype, x):
    ae = autoencoder(sparsity=KLSparsity(0.1, 3.0), weight_decay=0.01, dtype=dtype)
    ae.compile(keras.optimizers.SGD(0.05))
    before = keras_sae.objective(ae, x).value
    losses = ae.fit(x, epochs=3, batch_size=23, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(before, rel=1e-6 if dtype == "float64" else 0.02)
    assert losses[-1] < losses[0]
    history = keras_sae.fit(ae, x, optimizer="sgd", iterations=1, verbose=0).history
    assert history["loss"][0] < losses[-1]


def test_other_models_say_what_to_set(x, labels):
    classifier = two_layers().classifier(3)
    with raises(
        ValueError, "Expected penalties in float32. Received: float64. Call keras.config.set_floatx('float64')"
    ):
        keras_sae.fit(classifier, x, labels, "adam", verbose=0)
    keras.config.set_floatx("float64")
    try:
        classifier.compile(loss="sparse_categorical_crossentropy")
        assert keras_sae.fit(classifier, x, labels, "adam", 1, verbose=0).history["loss"][0] > 0
    finally:
        keras.config.set_floatx("float32")


def test_a_layer_of_ones_own_has_exact_sums_too():
    """Its vectors are no biases of Keras' layers: a factor and a summand of each unit."""

    class Scaled(keras.layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=shape[-1:], initializer="ones", name="factor")
            self.summand = self.add_weight(shape=shape[-1:], initializer="zeros", name="summand")

        def call(self, x):
            return x * self.factor + self.summand

    x = np.random.default_rng(0).random((5000, 6)).astype("float32")
    found = []
    for dtype in ("float64", "mixed_bfloat16"):
        layers = [keras.layers.Dense(6, "tanh", dtype=dtype), Scaled(dtype=dtype), keras.layers.PReLU(dtype=dtype)]
        model = keras.Sequential([keras.Input((6,)), *layers])
        rng = np.random.default_rng(1)
        model.set_weights([rng.standard_normal(w.shape) for w in model.get_weights()])
        model.compile(loss="mse")
        found.append(keras_sae.objective(model, x, x).gradients)
    for exact, ours in zip(*found, strict=True):
        assert relative(ours, exact) < 0.01


# Products in less than single precision, which TensorFlow computes on some processors

CPU = pathlib.Path("/proc/cpuinfo")
HAS_BFLOAT16 = CPU.exists() and re.search("avx512_bf16|amx_bf16", CPU.read_text()) is not None


@pytest.fixture(scope="module")
def trained(digits):
    """An autoencoder on 1,000 digits, trained a little, and the digits."""
    x = digits.x_train[::4]
    keras.utils.set_random_seed(0)
    ae = SparseAutoencoder(25, KLSparsity(0.1, 3.0), weight_decay=3e-3)
    keras_sae.fit(ae, x, iterations=20, verbose=0)
    return ae, x


def test_products_in_bfloat16_cost_thousandths_of_a_gradient(trained):
    """In biases too: TensorFlow's own sum of their gradient would be wrong by nine tenths."""
    ae, x = trained
    exact, rough = (keras_sae.objective(ae, x, precision=precision) for precision in ("float32", "bfloat16"))
    assert rough.value == pytest.approx(exact.value, rel=1e-3)
    for ours, theirs in zip(rough.gradients, exact.gradients, strict=True):
        assert relative(ours, theirs) < 0.05
        assert relative(ours, theirs) > 1e-6 or not HAS_BFLOAT16
    assert keras_sae.objective(ae, x).value == exact.value  # nothing of it stays


def test_precisions_are_named():
    ae = autoencoder()
    expected = "Expected `precision` as one of float32, tensorfloat32, bfloat16. Received: 'float16'"
    with raises(ValueError, expected):
        keras_sae.objective(ae, np.zeros((3, 6)), precision="float16")
    with raises(ValueError, expected):
        keras_sae.fit(ae, np.zeros((3, 6)), precision="float16")


def test_training_in_bfloat16_ends_in_single_precision(trained):
    x, ends = trained[1], []
    for precision in ("float32", "bfloat16"):
        keras.utils.set_random_seed(0)
        ae = SparseAutoencoder(25, KLSparsity(0.1, 3.0), weight_decay=3e-3)
        history = keras_sae.fit(ae, x, iterations=100, precision=precision, verbose=0)
        assert history.history["loss"][-1] == pytest.approx(keras_sae.objective(ae, x).value, rel=1e-6)
        ends.append(history.history["loss"])
    assert ends[0] != ends[1] or not HAS_BFLOAT16
    assert ends[1][-1] < 1.01 * ends[0][-1]


def test_training_in_bfloat16_resumes_in_the_precision_that_it_had(trained, tmp_path):
    x, models = trained[1][:200], []

    def stop_at(iteration):
        def stop(epoch, logs):
            if epoch + 1 == iteration:
                raise KeyboardInterrupt

        return [keras.callbacks.LambdaCallback(on_epoch_end=stop)]

    for iteration in (None, 5, 19):  # 5: in bfloat16; 19: in float32, from 18 on
        keras.utils.set_random_seed(0)
        ae = SparseAutoencoder(5, KLSparsity(0.1, 3.0), weight_decay=3e-3)
        options = {"iterations": 20, "precision": "bfloat16", "verbose": 0, "checkpoint": tmp_path / f"{iteration}.npz"}
        if iteration:
            with pytest.raises(KeyboardInterrupt):
                keras_sae.fit(ae, x, callbacks=stop_at(iteration), **options)
            ae = SparseAutoencoder(5, KLSparsity(0.1, 3.0), weight_decay=3e-3)
        keras_sae.fit(ae, x, **options)
        models.append(ae.get_weights())
    for weights in models[1:]:
        assert all(map(np.array_equal, weights, models[0]))
