"""The core of the library under the backend that KERAS_BACKEND names: test_backends.py runs this."""

import importlib.util
import os
import sys

import keras
import numpy as np
import pytest

import keras_sae
from benchmarks import classic
from keras_sae import layers, runs, sparsity
from keras_sae.backend import has_float64, has_float64_on_gpu
from keras_sae.backend.assignment import assign_in_blocks
from keras_sae.backend.precision import PRECISIONS
from keras_sae.data.preprocessing import fit_zca
from keras_sae.sparsity import L1, Contractive, WinnerTakeAll
from keras_sae.sparsity.largest import nth_largest
from keras_sae.training import blocks, lbfgs
from keras_sae.training.quasi_newton import LBFGS
from tests import generated
from tests.gradients import compare
from tests.keras_sae.events import Events, projector

BACKEND = os.environ["KERAS_BACKEND"]
FLOAT64 = {"dtype": "float64"} if has_float64() else {}


@pytest.fixture
def x():
    return np.random.default_rng(0).random((60, 12)).astype(FLOAT64.get("dtype", "float32"))


def autoencoder(**options):
    keras.utils.set_random_seed(0)
    return keras_sae.SparseAutoencoder(5, keras_sae.KLSparsity(0.1, 3.0), weight_decay=3e-3, **options)


def test_the_environment_is_what_it_should_be():
    assert keras.backend.backend() == BACKEND
    assert importlib.util.find_spec("tensorflow") is None
    assert runs.versions()["backend"] == BACKEND
    assert BACKEND in runs.versions()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_the_objective_and_its_gradients_are_those_of_the_numpy_version(tied, activation, x):
    ae = autoencoder(tied=tied, activation=activation, **FLOAT64)
    ae.build((None, 12))
    twin = classic.Autoencoder(activation=activation, tied=tied)
    tolerance = 1e-10 if has_float64([keras.activations.get(activation)]) else 1e-5
    value, gradients = twin.cost([w.astype("float64") for w in ae.get_weights()], x.astype("float64"))
    for chunk_size in (7, 60):
        found = keras_sae.objective(ae, x, chunk_size=chunk_size)
        assert found.value == pytest.approx(value, rel=tolerance)
        for ours, theirs in zip(found.gradients, gradients, strict=True):
            assert np.linalg.norm(ours - theirs) <= tolerance * np.linalg.norm(theirs)


def test_gradients_agree_with_central_differences(x):
    if not has_float64():
        pytest.skip(f"{BACKEND} does not compute in float64")
    assert keras_sae.check_gradients(autoencoder(), x) < 1e-6


@generated.property_test(3, ["float32", "mixed_bfloat16", *FLOAT64.values()])
def test_the_objective_is_what_evaluate_and_the_numpy_twin_say(case):
    generated.check(case)


def test_checking_gradients_says_which_activation_is_rounded(x):
    if BACKEND != "jax":
        pytest.skip("Keras rounds none under this backend")
    message = "Received: the activation tanh of 'hidden', which Keras rounds to float32 under jax"
    with pytest.raises(ValueError, match=message):
        keras_sae.check_gradients(autoencoder(activation="tanh"), x)
    assert not has_float64([keras.activations.tanh])


@pytest.mark.parametrize("chunk_size", [7, 60])
def test_lbfgs_takes_the_path_that_it_takes_in_one_chunk(chunk_size, x):
    losses = keras_sae.fit_lbfgs(autoencoder(), x, max_iterations=8, verbose=0, chunk_size=chunk_size).history["loss"]
    reference = keras_sae.fit_lbfgs(autoencoder(), x, max_iterations=8, verbose=0).history["loss"]
    np.testing.assert_allclose(losses, reference, rtol=1e-3)
    assert losses[-1] < losses[0] / 3


def test_keras_own_fit_trains(x):
    ae = autoencoder()
    ae.build((None, 12))
    before = keras_sae.objective(ae, x).value
    ae.compile("adam")
    losses = ae.fit(x, epochs=20, batch_size=len(x), verbose=0).history["loss"]
    assert losses[0] == pytest.approx(before, rel=1e-3)
    assert losses[-1] < losses[0]


def test_the_terms_are_in_the_history_of_keras_own_fit(x):
    ae = autoencoder()
    ae.compile(keras.optimizers.SGD(0.0))
    history = ae.fit(x, batch_size=len(x), verbose=0, validation_data=(x[:20],)).history
    for prefix, rows in {"": x, "val_": x[:20]}.items():
        expected = keras_sae.objective(ae, rows)
        for name, value in {**expected.parts, "rho_hat": expected.rho_hat[0].mean()}.items():
            assert history[prefix + name] == pytest.approx([value], rel=1e-3)
    assert isinstance(ae.evaluate(x, verbose=0), float)


def test_arrays_come_out(x):
    ae = autoencoder()
    ae.build((None, 12))
    features, xhat = ae.transform(x, batch_size=7), ae.reconstruct(x, batch_size=7)
    assert type(features) is type(xhat) is np.ndarray
    np.testing.assert_allclose(features, np.asarray(ae.encode(x)), rtol=1e-5)
    np.testing.assert_allclose(xhat, np.asarray(ae.decoder(features)), rtol=1e-5)
    np.testing.assert_allclose(ae.reconstruction_error(x), ((xhat - x) ** 2).sum(axis=1) / 2, rtol=1e-5)


def test_fit_minibatches_repeats_itself(x):
    histories = [keras_sae.fit_minibatches(autoencoder(), x, epochs=3, seed=1, verbose=0) for _ in range(2)]
    assert histories[0].history["loss"] == histories[1].history["loss"]


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_one_door_trains_and_resumes(optimizer, x, tmp_path):
    whole, part, resumed = (autoencoder() for _ in range(3))
    for model in (whole, part, resumed):
        model.build((None, x.shape[1]))
    part.set_weights(whole.get_weights())  # `resumed` starts elsewhere, and takes all from the checkpoint
    options = {"optimizer": optimizer, "iterations": 4, "verbose": 0, "validation_data": x}
    losses = keras_sae.fit(whole, x, **options).history["loss"]
    assert losses[-1] < losses[0]

    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    options["checkpoint"] = tmp_path / "checkpoint.npz"
    if optimizer == "lbfgs":
        with pytest.raises(KeyboardInterrupt):
            keras_sae.fit(part, x, **options, callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)])
    else:  # writes at Ctrl-C nothing, but at the end
        keras_sae.fit(part, x, **options | {"iterations": 2})
    history = keras_sae.fit(resumed, x, **options).history
    assert history["loss"] == pytest.approx(losses, rel=1e-4)
    assert history["val_loss"][-1] == pytest.approx(keras_sae.objective(resumed, x).value, rel=1e-3)


def test_a_tied_functional_model_and_a_moving_average_train(x, tmp_path):
    hidden = layers.SparseDense(5, sparsity=keras_sae.KLSparsity(0.1, 3.0, window=32), name="hidden")
    model = keras.Sequential([keras.Input((12,)), hidden, layers.DenseTranspose(hidden, "sigmoid")])
    model.compile("adam", loss=keras_sae.HalfSquaredError())
    losses = model.fit(x, x, epochs=20, batch_size=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    kernel, bias, rho_hat, weight_sum, output_bias = model.get_weights()
    assert ((rho_hat > 0) & (rho_hat < 1)).all()
    assert weight_sum > 0.9
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    expected = sigmoid(sigmoid(x @ kernel + bias) @ kernel.T + output_bias)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(copy(x)), expected, rtol=1e-4)


def test_a_run_comes_back(x, tmp_path):
    stack = keras_sae.StackedAutoencoder([autoencoder(name="one"), autoencoder(name="two")])
    stack.pretrain(x, iterations=3, verbose=0)
    classifier = stack.classifier(3)
    labels = np.arange(len(x)) % 3
    keras_sae.fit_head(classifier, x, labels, iterations=3, verbose=0)
    keras_sae.fit(classifier, x, labels, iterations=3, verbose=0)
    for name, model in {"stack": stack, "classifier": classifier}.items():
        keras_sae.save(model, tmp_path / name)
        copy = keras_sae.load(tmp_path / name)
        ours, theirs = (keras.ops.convert_to_numpy(m(x)) for m in (model, copy))
        np.testing.assert_allclose(theirs, ours, rtol=1e-6)
        encoder = keras_sae.load_encoder(tmp_path / name)
        assert keras.ops.convert_to_numpy(encoder(x)).shape == (60, 5)


def test_a_convolution_is_the_encoder_at_every_place():
    stack = keras_sae.StackedAutoencoder([autoencoder()], preprocessing=fit_zca(np.eye(12), 0.1))
    stack.build((None, 12))
    images = np.random.default_rng(0).random((6, 3, 5)).astype("float32")
    found = keras_sae.convolutional_encoder(stack, (3, 5), (3, 4), pool_size=1)(images.reshape(6, -1))
    places = [stack.transform(images[:, :, left : left + 4].reshape(6, -1)) for left in (0, 1)]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), np.hstack(places), rtol=1e-5, atol=1e-6)


METHODS = [
    sparsity.JumpReLU(2, bandwidth=0.3),
    sparsity.Gated(0.2),
    sparsity.TopK(2),
    sparsity.BatchTopK(2),
    sparsity.MatryoshkaBatchTopK(2, (1, 3)),
    sparsity.WinnerTakeAll(0.3),
    sparsity.L1(0.2),
    sparsity.L1(0.2, decoder_norms=True),
    sparsity.Contractive(0.3),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_methods_of_sparsity_are_those_of_the_numpy_version(method, x):
    keras.utils.set_random_seed(0)
    ae = keras_sae.SparseAutoencoder(5, method, **FLOAT64)
    ae.build((None, x.shape[1]))
    ae.start(x)
    for weight in ae.sparsity.trainable_variables:
        weight.assign(np.linspace(0.05, 0.5, 5))
    compare(ae, x, np.linspace(0, 2, len(x)), tolerance=1e-10 if FLOAT64 else 1e-4)


@pytest.mark.parametrize("method", METHODS[:2], ids=lambda method: type(method).__name__)
def test_methods_with_weights_of_their_own_train_them(method, x):
    ae = keras_sae.SparseAutoencoder(5, method, input_scale=True)
    losses = keras_sae.fit(ae, x, optimizer="adam", iterations=20, batch_size=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    [weight, *_] = ae.sparsity.trainable_variables
    trained = keras.ops.convert_to_numpy(weight)
    assert len(np.unique(trained)) == 5
    ae.sparsity.revive(np.arange(5) < 2)
    revived = keras.ops.convert_to_numpy(weight)
    assert revived[0] == revived[1] != trained[0]
    np.testing.assert_array_equal(revived[2:], trained[2:])


@pytest.mark.parametrize("kind", [sparsity.TopK, sparsity.BatchTopK], ids=lambda kind: kind.__name__)
def test_active_units_become_fewer(kind, x):
    ae = keras_sae.SparseAutoencoder(8, kind(2, k_start=6, anneal=3 * len(x)))
    l0 = keras_sae.fit(ae, x, optimizer="adam", iterations=5, batch_size=len(x), verbose=0).history["l0"]
    assert l0[0] > l0[2] > 2 >= l0[3] > 1.5  # of some rows fewer are above 0
    assert float(keras.ops.convert_to_numpy(ae.sparsity.seen)) == 3 * len(x)


def test_the_preset_loads(x):
    assert keras_sae.from_preset(keras_sae.list_presets()[0]).output_shape == (None, 10)


def test_an_autoencoder_in_place_of_a_layer(x, tmp_path):
    hidden = keras.layers.Dense(8, "relu", name="hidden")
    model = keras.Sequential([keras.Input((12,)), hidden, keras.layers.Dense(2)])
    model.compile(loss="mse")
    rows = keras_sae.activations(model, "hidden", x, tmp_path / "rows.npy", None, batch_size=7, verbose=0)
    np.testing.assert_allclose(rows, keras_sae.predict_in_chunks(hidden, x), rtol=1e-5, atol=1e-6)
    sae = autoencoder()
    sae.build((None, 8))
    expected = keras_sae.predict_in_chunks(model.layers[1], sae.reconstruct(rows))
    spliced = keras_sae.Splice(model, "hidden", sae)
    np.testing.assert_allclose(keras_sae.predict_in_chunks(spliced, x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(spliced.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)
    kept = keras_sae.Splice(model, "hidden", sae, keep_error=True)
    assert keras_sae.loss_recovered(kept, x, x[:, :2]).value == 1
    found = keras_sae.loss_recovered(spliced, x, x[:, :2])
    assert found.spliced == pytest.approx(np.mean((expected - x[:, :2]) ** 2), rel=1e-4)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_training_is_shown_in_tensorboard(optimizer, x, tmp_path):
    ae, labels = autoencoder(), np.arange(60) % 3
    board = keras_sae.callbacks.TensorBoard(tmp_path, x, labels, (3, 4), hparams={"rho": 0.1})
    history = keras_sae.fit(ae, x, None, optimizer, 3, callbacks=[board], verbose=0).history
    found, exact = Events(tmp_path), keras_sae.objective(ae, x)
    assert found.scalars("loss") == pytest.approx(dict(enumerate(history["loss"], 1)), rel=1e-6)
    assert found.scalars("units/rho_hat")[3] == pytest.approx(exact.rho_hat[0].mean(), rel=1e-5)
    norm = np.linalg.norm(np.concatenate([gradient.ravel() for gradient in exact.gradients]))
    assert found.scalars("gradient_norm")[3] == pytest.approx(norm, rel=1e-4)
    assert found.picture_tags == {"features", "reconstructions"}
    np.testing.assert_array_equal(found.pictures("features")[3], keras_sae.display_network(ae.kernel, (3, 4)))
    assert {"units/distribution", "activations"} <= found.histogram_tags
    assert any(name.endswith("/hidden") for name in found.graph())
    codes, names, thumbnails = projector(tmp_path)
    np.testing.assert_allclose(codes, ae.transform(x), rtol=1e-3)
    assert (names, thumbnails.shape) == (list(map(str, labels)), (60, 3, 4))


def test_tensorflow_was_never_imported():
    """The last test here."""
    assert "tensorflow" not in sys.modules


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch has no XLA")
def test_many_minibatches_in_one_loop_train_as_single_steps_do(x, monkeypatch):
    compiled, compile_loop = [], blocks.compile_train_loop
    monkeypatch.setattr(blocks, "compile_train_loop", lambda *args: compiled.append(args) or compile_loop(*args))
    monkeypatch.setattr(blocks, "STEPS", 3)
    models = []
    for pays in (1, 10**9):
        monkeypatch.setattr(blocks, "PAYS", pays)
        models.append(autoencoder())
        options = {"optimizer": "adam", "iterations": 2, "batch_size": 8, "verbose": 0}
        keras_sae.fit(models[-1], x.astype("float32"), sample_weight=np.arange(60.0), **options)
    assert len(compiled) == 1
    for looped, single in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(looped, single, atol=1e-5)


def test_a_sweep_and_classifiers_leave_what_they_are_made_of_whole(x, monkeypatch):
    """JAX takes the arrays of a training, so that none may be shared."""
    monkeypatch.setattr("keras_sae.training.blocks.PAYS", 1)
    kinds = [keras_sae.SparseAutoencoder(8, sparsity.BatchTopK(3), name="a"), autoencoder(name="b")]
    options = {"iterations": 2, "batch_size": 16, "verbose": 0}
    keras_sae.fit(keras_sae.Sweep(kinds), x, optimizer="adam", sample_weight=np.linspace(0, 2, len(x)), **options)
    stack = keras_sae.StackedAutoencoder(kinds[:1])
    stack.build((None, 12))
    codes = stack.transform(x)
    for _ in range(2):
        classifier = stack.classifier(3)
        keras_sae.fit(classifier, x, np.arange(len(x)) % 3, optimizer="adam", **options)
    active = keras.ops.convert_to_numpy(classifier.get_layer("encoder")(x)) != 0
    assert active.sum(axis=1).mean() == pytest.approx(3)
    np.testing.assert_array_equal(stack.transform(x), codes)


@pytest.mark.parametrize("method", [L1(0.3), L1(0.3, decoder_norms=True), Contractive(0.3)], ids=lambda m: m.name)
def test_the_terms_of_methods_are_in_the_objective_and_its_gradient(method, x):
    ae = keras_sae.SparseAutoencoder(5, method, **FLOAT64)
    ae.compile(keras.optimizers.SGD(0.0))
    ae.fit(x, batch_size=len(x), verbose=0)
    found = keras_sae.objective(ae, x, chunk_size=7)
    history = ae.fit(x, batch_size=len(x), verbose=0).history
    assert history["sparsity"] == pytest.approx([found.parts["sparsity"]], rel=1e-4)
    assert history["loss"] == pytest.approx([found.value], rel=1e-4)
    if has_float64():
        assert keras_sae.check_gradients(ae, x) < 1e-6


def test_weights_are_set_some_rows_at_a_time(x):
    variable = keras.Variable(np.zeros(x.shape))
    assign_in_blocks(variable, [x[:25], x[25:50], x[50:]])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), x.astype(variable.dtype))


def test_the_nth_largest_is_what_numpy_finds(x):
    for n in (1, 7, 60):
        found = keras.ops.convert_to_numpy(nth_largest(keras.ops.convert_to_tensor(x), n, axis=0))
        np.testing.assert_array_equal(found, np.sort(x, axis=0)[-n][None])


@pytest.mark.parametrize("pays", [1, 10**9])
def test_winners_take_all_and_dead_units_start_again(pays, x, monkeypatch):
    """In a compiled loop, and in single steps."""
    monkeypatch.setattr(blocks, "PAYS", pays)
    x = x.astype("float32")
    ae = keras_sae.SparseAutoencoder(6, WinnerTakeAll(0.5, window=50))
    ae.build((None, 12))
    hidden = ae.encoder.get_layer("hidden")
    hidden.bias.assign([0.1, 0.1, 0.1, 0.1, -50.0, -50.0])
    resampling = keras_sae.callbacks.ResampleDeadUnits(x, every=1)
    options = {"optimizer": "adam", "iterations": 2, "batch_size": 20, "verbose": 0, "callbacks": [resampling]}
    history = keras_sae.fit(ae, x, **options).history
    assert history["resampled_units"] == [2, 0]
    assert history["l0"][0] <= 0.5 * 4
    biases = keras.ops.convert_to_numpy(hidden.bias)
    assert (np.abs(biases) < 0.2).all()  # the new ones have been trained on
    assert (biases != 0).all()


def test_every_precision_of_products_is_taken(x):
    """On a CPU, JAX and PyTorch may multiply in float32 all the same."""
    ae = autoencoder()
    values = [keras_sae.objective(ae, x.astype("float32"), precision=precision).value for precision in PRECISIONS]
    assert values == pytest.approx([values[0]] * 3, rel=1e-2)


@pytest.mark.skipif(BACKEND != "jax", reason="vectors of JAX")
def test_lbfgs_with_its_vectors_on_the_device_takes_the_same_path_and_resumes(x, monkeypatch, tmp_path):
    import jax

    optimizers, options = [], {"iterations": 12, "verbose": 0, "chunk_size": 20, "precision": "bfloat16"}

    def remember(*args, **options):
        optimizers.append(LBFGS(*args, **options))
        return optimizers[-1]

    def losses(**more):
        ae = autoencoder()
        ae.build((None, 12))
        return keras_sae.fit(ae, x.astype("float32"), **options, **more).history["loss"]

    monkeypatch.setattr(lbfgs, "LBFGS", remember)
    on_host = losses()
    monkeypatch.setattr(lbfgs, "has_float64_on_gpu", lambda: True)
    on_device = losses()
    assert on_device == pytest.approx(on_host, rel=1e-6)
    resume = {"checkpoint": tmp_path / "checkpoint.npz"}
    stop = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: 1 / (7 - epoch))
    with pytest.raises(ZeroDivisionError):
        losses(callbacks=[stop], **resume)
    assert losses(**resume) == on_device
    vectors = [[o.theta, o.gradient, *o.steps, *o.changes] for o in optimizers]
    assert {type(vector) for vector in vectors[0]} == {np.ndarray}
    for of_device in vectors[1:]:
        assert len(of_device) > 10
        assert all(isinstance(vector, jax.Array) and vector.dtype == "float64" for vector in of_device)


def test_no_cpu_keeps_vectors():
    assert not has_float64_on_gpu()


@pytest.mark.skipif(BACKEND != "jax", reason="the form in JAX")
def test_the_form_in_jax_computes_what_numpy_does(x):
    from benchmarks.contenders import jax_form, numpy_form

    x = x.astype("float32")
    assert jax_form.objective(x, 5)() == pytest.approx(numpy_form.objective(x, 5)(), rel=1e-6)
    assert jax_form.epoch(x, 5, 16)() > 0
    jax_form.product(60, 12, 5)()
