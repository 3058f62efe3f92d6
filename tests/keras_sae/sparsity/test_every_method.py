"""What holds for every method: files, copies, stacks, checkpoints, exports."""

import inspect

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.sparsity import L1, Contractive, TopK, WinnerTakeAll
from tests.export.conftest import export_here, litert, saved_model
from tests.keras_sae.conftest import FEATURES, same_weights
from tests.keras_sae.sparsity.dictionaries import dictionary

# A method with no argument at its default, options of a model that suit it, and whether L-BFGS takes it.
METHODS = {
    "top_k": (TopK(2, 3, relu=False, window=50), {}, False),
    "l1": (L1(0.3, decoder_norms=True, window=50), {"input_scale": True}, True),
    "winner_take_all": (WinnerTakeAll(0.2, window=50), {}, False),
    "contractive": (Contractive(0.3, window=50), {"tied": True, "activation": "tanh"}, True),
}
every_method = pytest.mark.parametrize(("method", "options"), [values[:2] for values in METHODS.values()], ids=METHODS)


def slow_but(one):
    """Every method, those besides one only with --run-slow."""
    cases = [
        pytest.param(*values[:2], id=name, marks=() if name == one else pytest.mark.slow)
        for name, values in METHODS.items()
    ]
    return pytest.mark.parametrize(("method", "options"), cases)


def arguments(layer):
    return set(inspect.signature(type(layer)).parameters) - {"kwargs"}


@every_method
def test_get_config_has_every_argument(method, options):
    config = method.get_config()
    parameters = inspect.signature(type(method)).parameters
    for name in arguments(method):
        assert config[name] == getattr(method, name) != parameters[name].default
    again = type(method).from_config(config)
    assert again.get_config() == config
    assert again.conventions == method.conventions


@every_method
def test_models_come_back_from_files(method, options, x, tmp_path):
    ae = dictionary(method, **options)
    ae.sparsity.silent.assign([1.0, 60.0, 3.0, 70.0])
    ae.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.sparsity.get_config() == ae.sparsity.get_config()
    assert {name: again.sparsity.get_config()[name] for name in arguments(method)} == {
        name: method.get_config()[name] for name in arguments(method)
    }
    assert same_weights(again, ae)
    np.testing.assert_array_equal(again.sparsity.dead(), [0, 1, 0, 1])
    np.testing.assert_array_equal(again(x), ae(x))
    for name in ("pre_bias", "unit_norm", "transposed_start", "tied", "input_scale"):
        assert getattr(again, name) == getattr(ae, name)


@slow_but("l1")
def test_in_a_stack_a_classifier_has_the_same_codes(method, options, x):
    above = keras_sae.SparseAutoencoder(3, "kl", output_activation="linear", dtype="float64")
    stack = keras_sae.StackedAutoencoder([dictionary(method, **options), above], dtype="float64")
    above.compile("adam", run_eagerly=True)
    histories = stack.pretrain(x, optimizer=None, iterations=1, verbose=0)
    assert all(np.isfinite(history.history["loss"]).all() for history in histories)
    encoder = stack.classifier(2).get_layer("encoder")
    below = keras.Model(encoder.inputs[0], encoder.get_layer("sparsity_1").output)
    np.testing.assert_allclose(below(x), stack.autoencoders[0].encode(x), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(encoder(x), stack.encode(x), rtol=1e-6)


@slow_but("contractive")
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_training_that_resumes_is_the_same_bit_for_bit(method, options, optimizer, x, tmp_path):
    if optimizer == "lbfgs" and not METHODS[method.name][2]:
        pytest.skip("L-BFGS does not take it")

    def trained(iterations, interrupted=False, **more):
        ae = dictionary(method, dtype="float32", **options)

        def interrupt(epoch, logs):
            if interrupted and epoch == 1:
                raise KeyboardInterrupt

        more["callbacks"] = [keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)]
        optimizers = {"optimizer": "lbfgs"} if optimizer == "lbfgs" else {"optimizer": None, "batch_size": 12}
        return ae, keras_sae.fit(ae, x, iterations=iterations, verbose=0, **optimizers, **more).history

    whole, history = trained(2)
    path = tmp_path / "checkpoint.npz"
    if optimizer == "lbfgs":
        with pytest.raises(KeyboardInterrupt):
            trained(2, interrupted=True, checkpoint=path)
    else:
        trained(1, checkpoint=path)
    resumed, again = trained(2, checkpoint=path)
    assert again == history
    assert same_weights(resumed, whole)
    assert history["loss"][-1] < history["loss"][0]


@every_method
def test_as_a_layer_of_any_model_it_adds_no_term(method, options, x):
    copy = method.fresh(4, "float32")
    hidden = keras.layers.Dense(4, method.conventions.activation)
    model = keras.Sequential([keras.Input((FEATURES,)), hidden, copy, keras.layers.Dense(FEATURES)])
    assert model(x.astype("float32"), training=True).shape == x.shape
    assert model.losses == []
    assert np.asarray(copy.silent).max() in (0, len(x))
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(x.astype("float32")), model(x.astype("float32")))


@pytest.mark.slow
@every_method
@pytest.mark.parametrize("formats", [["saved_model", "litert"], ["onnx"]], ids="+".join)
def test_exports_give_what_keras_does(method, options, formats, x, tmp_path):
    if "onnx" in formats:
        pytest.importorskip("tf2onnx")
    rows = x.astype("float32")
    ae = dictionary(method, dtype="float32", **options)
    measured = export_here(ae, tmp_path / "out", formats=formats, examples=rows)
    assert max(values["difference"] for values in measured.values()) < 1e-5
    codes = np.asarray(ae.encode(rows))
    assert codes.std() > 0.02
    if "litert" in formats:
        for call in (saved_model(tmp_path / "out" / "saved_model" / "1"), litert(tmp_path / "out" / "encoder.tflite")):
            np.testing.assert_allclose(call("encode", inputs=rows)["features"], codes, atol=1e-5)
            np.testing.assert_allclose(call("reconstruct", inputs=rows)["outputs"], ae(rows), atol=1e-5)
