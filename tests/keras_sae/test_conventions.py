"""What modern sparse autoencoders have in common: pre-bias, unit norm, transposed start, the scale of the inputs."""

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae import SparseAutoencoder
from keras_sae.conventions import first_rows, geometric_median, norm_scale, unit_rows
from keras_sae.sparsity import AuxK, BatchTopK, TopK
from tests.gradients import loss_and_gradients
from tests.keras_sae.conftest import dictionary, raises


@pytest.fixture
def far():
    """Rows far from 0, of norms far from 1."""
    return 5 + 3 * np.random.default_rng(0).normal(size=(40, 6)).astype("float32")


def test_a_method_brings_its_conventions_and_arguments_come_before_them():
    ae = SparseAutoencoder(4, TopK(2))
    assert (ae.pre_bias, ae.unit_norm, ae.transposed_start, ae.weight_decay) == (True, True, True, 0.0)
    assert ae.output_activation is keras.activations.linear
    ae = SparseAutoencoder(4, TopK(2), 0.1, None, "sigmoid", pre_bias=False, unit_norm=False, transposed_start=False)
    assert (ae.pre_bias, ae.unit_norm, ae.transposed_start, ae.weight_decay) == (False, False, False, 0.1)
    assert ae.output_activation is keras.activations.sigmoid
    classic = SparseAutoencoder(4)
    assert (classic.pre_bias, classic.unit_norm, classic.transposed_start) == (False, False, False)
    assert (classic.activation, classic.output_activation) == (keras.activations.sigmoid,) * 2


def test_arguments_survive_get_config():
    ae = SparseAutoencoder(
        4, TopK(2), 0.1, pre_bias=False, unit_norm=False, transposed_start=False, input_scale=True, revive=AuxK(3)
    )
    copy = SparseAutoencoder.from_config(ae.get_config())
    for name in ("weight_decay", "pre_bias", "unit_norm", "transposed_start", "input_scale", "started"):
        assert getattr(copy, name) == getattr(ae, name)
    assert copy.revive.get_config() == {"k": 3, "weight": 1 / 32}


def test_what_does_not_go_together_is_refused():
    for name in ("pre_bias", "input_scale"):
        with raises(ValueError, f"{name}=True is for linear outputs", "Received: output_activation='sigmoid'"):
            SparseAutoencoder(4, **{name: True})
    for name in ("unit_norm", "transposed_start"):
        with raises(ValueError, f"{name}=True is for a decoder with a kernel of its own. Received: tied=True."):
            SparseAutoencoder(4, tied=True, **{name: True})


@pytest.mark.parametrize(
    "options",
    [{"pre_bias": True}, {"unit_norm": True}, pytest.param({"transposed_start": True}, marks=pytest.mark.slow)],
    ids=str,
)
def test_each_is_an_option_of_the_classic_autoencoder_too(far, options):
    ae = SparseAutoencoder(4, output_activation="linear", dtype="float64", **options)
    keras_sae.fit(ae, far, iterations=1, verbose=0)
    assert keras_sae.check_gradients(ae, far, samples=2) < 1e-6


def test_tied_weights_with_a_pre_bias(far):
    ae = SparseAutoencoder(4, TopK(2), tied=True, dtype="float64")
    ae.fit(far, verbose=0)
    hidden = ae.encoder.get_layer("hidden")
    np.testing.assert_allclose(ae.decode(np.eye(4)), np.asarray(hidden.kernel).T + np.asarray(ae.output_layer.bias))


def test_the_decoder_starts_as_the_encoder_transposed_with_unit_rows():
    ae = SparseAutoencoder(8, TopK(2))
    ae.build((None, 6))
    kernel = np.asarray(ae.kernel).T
    expected = kernel / np.linalg.norm(kernel, axis=1, keepdims=True)
    np.testing.assert_allclose(ae.output_layer.own_kernel, expected, rtol=1e-6)


def test_a_step_is_normalise_project_step_normalise():
    """As openai's sparse_autoencoder has it: without the projection, Adam's step would turn the rows less."""
    x = np.random.default_rng(0).normal(size=(16, 6))
    keras.config.set_floatx("float64")
    try:
        ae = dictionary(TopK(3), units=8)
        ae.compile(keras.optimizers.Adam(0.05))
        own = ae.output_layer.own_kernel
        unit = own.constraint(own)
        own.assign(unit)
        unit = np.asarray(unit)
        found = loss_and_gradients(ae, x)[1][own.path]
        np.testing.assert_allclose((found * unit).sum(axis=1), 0, atol=1e-12)
        plain = dictionary(TopK(3), units=8, unit_norm=False)
        plain.set_weights(ae.get_weights())
        whole = loss_and_gradients(plain, x)[1][plain.output_layer.own_kernel.path]
        projected = whole - (whole * unit).sum(axis=1, keepdims=True) * unit
        np.testing.assert_allclose(found, projected, atol=1e-12)
        ae.fit(x, batch_size=16, verbose=0)
        stepped = unit - 0.05 * projected / (np.abs(projected) + 1e-7)  # the first step of Adam
        expected = stepped / np.linalg.norm(stepped, axis=1, keepdims=True)
        np.testing.assert_allclose(ae.output_layer.own_kernel, expected, atol=1e-4)
    finally:
        keras.config.set_floatx("float32")


def test_unit_rows_leave_rows_of_zeros():
    np.testing.assert_allclose(unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]], "float32")), [[0.6, 0.8], [0, 0]])


def test_the_geometric_median_is_hardly_moved_by_a_row_far_away():
    x = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0], [1000.0, 1000.0]])
    median = geometric_median(x)
    assert np.linalg.norm(median - 1) < 1
    steps = 1e-4 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    distances = [np.linalg.norm(x - point, axis=1).sum() for point in (median, *(median + steps))]
    assert distances[0] <= min(distances[1:])


def test_rows_at_the_median_itself_are_no_division_by_zero():
    assert np.isfinite(geometric_median(np.ones((5, 3)))).all()


def test_scale_and_rows_are_of_all_batches(far):
    batches = [(far[:25],), (far[25:],)]
    assert norm_scale(batches) == pytest.approx(np.sqrt(6) / np.linalg.norm(far, axis=1).mean(), rel=1e-6)
    assert norm_scale([(np.zeros((2, 3), "float32"),)]) == 1.0
    np.testing.assert_array_equal(first_rows(batches, 30), far[:30])
    np.testing.assert_array_equal(first_rows(batches), far)


@pytest.mark.parametrize("trainer", ["fit", "keras_sae.fit"])
def test_what_begins_with_the_data_begins_once(far, trainer):
    ae = SparseAutoencoder(8, TopK(2), input_scale=True)
    ae.compile(keras.optimizers.SGD(0.0))
    for data in (far, 100 * far):
        if trainer == "fit":
            ae.fit(data, verbose=0)
        else:
            keras_sae.fit(ae, data, optimizer=None, iterations=1, verbose=0)
        assert float(ae.centring.scale) == pytest.approx(np.sqrt(6) / np.linalg.norm(far, axis=1).mean(), rel=1e-6)
        np.testing.assert_allclose(
            np.asarray(ae.output_layer.bias) / float(ae.centring.scale), geometric_median(far), rtol=1e-5
        )


def test_data_that_can_be_read_once_are_refused(far):
    ae = SparseAutoencoder(8, TopK(2))
    ae.compile()
    ae.build((None, 6))
    with raises(
        ValueError,
        "Expected data that can be, and have an end. Received: generator. Call start(rows)",
    ):
        ae.fit((batch for batch in [far[:20], far[20:]]), steps_per_epoch=2, shuffle=False, verbose=0)
    ae.start(far)
    ae.fit(((batch,) for batch in [far[:20], far[20:]]), steps_per_epoch=2, shuffle=False, verbose=0)


@pytest.mark.parametrize("make", [pytest.param(TopK, marks=pytest.mark.slow), BatchTopK])
def test_raw_rows_go_in_and_come_out(far, tmp_path, make):
    """What is saved takes raw rows, at the end and between, and has codes of scaled ones."""
    ae = SparseAutoencoder(8, make(3), input_scale=True)

    class Between(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.save(tmp_path / "between.keras")
            self.check()

        def check(self):
            loaded, model = keras.saving.load_model(tmp_path / "between.keras"), self.model
            scale, bias = float(model.centring.scale), np.asarray(model.centring.bias)
            assert scale != 1
            hidden = model.encoder.get_layer("hidden")
            codes = model.sparsity((scale * far - bias) @ np.asarray(hidden.kernel) + np.asarray(hidden.bias))
            np.testing.assert_allclose(loaded.encode(far), codes, rtol=1e-5, atol=1e-5)
            outputs = np.asarray(codes) @ np.asarray(model.output_layer.kernel) + bias
            np.testing.assert_allclose(scale * np.asarray(loaded(far)), outputs, rtol=1e-4)

    keras_sae.fit(ae, far, optimizer="adam", iterations=2, callbacks=[Between()], verbose=0)
    w1, b1, w2, b2 = ae.folded()
    codes = ae.sparsity(far @ w1 + b1)
    np.testing.assert_allclose(ae.encode(far), codes, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ae(far), np.asarray(codes) @ w2 + b2, rtol=1e-3, atol=1e-3)


def test_the_loss_is_in_the_units_of_the_data_and_training_that_of_scaled_data(far):
    scale = np.sqrt(6) / np.linalg.norm(far, axis=1).mean()
    histories = []
    for data, options in ((far, {"input_scale": True}), ((scale * far).astype("float32"), {})):
        keras.utils.set_random_seed(0)
        ae = SparseAutoencoder(8, TopK(3), **options)
        ae.compile(keras.optimizers.Adam(0.01, epsilon=1e-12))
        histories.append(np.array(keras_sae.fit(ae, data, None, None, 3, batch_size=40, verbose=0).history["loss"]))
    np.testing.assert_allclose(histories[0] * scale**2, histories[1], rtol=1e-3)
