"""What every method of sparsity has to do as part of a model: files, stacks, resuming, and what it refuses."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import keras_sae
from keras_sae.sparsity import Gated, JumpReLU
from tests.keras_sae.conftest import FEATURES, autoencoder, raises, same_weights

# With every argument unlike its default.
ARGUMENTS = {
    JumpReLU: {"target_l0": 1.5, "weight": 0.7, "threshold": 0.03, "bandwidth": 0.4, "window": 500},
    Gated: {"l1": 0.2, "window": 500},
}
REFUSALS = {JumpReLU: "its gradients are estimates", Gated: "gives the decoder no gradient"}


@pytest.fixture(params=ARGUMENTS, ids=lambda kind: kind.__name__)
def method(request):
    return request.param(**ARGUMENTS[request.param])


def model(method, **options):
    """An autoencoder for `x` with random weights, which trains without being compiled: that takes longer here."""
    ae = autoencoder(sparsity=method, **{"weight_decay": None, "dtype": "float32", **options})
    for variable in ae.sparsity.trainable_variables:
        variable.assign(ops.abs(variable))
    ae.compile("adam", run_eagerly=True)
    return ae


def fit(ae, x, iterations, **options):
    return keras_sae.fit(ae, x, optimizer=None, iterations=iterations, batch_size=8, verbose=0, **options)


def test_the_configuration_holds_every_argument(method):
    expected, usual = ARGUMENTS[type(method)], inspect.signature(type(method)).parameters
    assert set(expected) == set(usual) - {"kwargs"}
    copy = type(method).from_config(method.get_config())
    assert {name: getattr(copy, name) for name in expected} == expected
    assert all(usual[name].default != value for name, value in expected.items())


@pytest.mark.parametrize("options", [{}, {"input_scale": True, "pre_bias": True}, {"tied": True}], ids=str)
def test_a_file_gives_the_same_model_back(method, options, x, tmp_path):
    ae = model(method, **options)
    if options.get("input_scale"):
        ae.centring.scale.assign(1.7)
    ae.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert copy.get_config() == ae.get_config()
    assert same_weights(copy, ae)
    x = x.astype("float32")
    np.testing.assert_array_equal(copy.transform(x), ae.transform(x))
    assert [float(term) for term in losses(copy, x)] == [float(term) for term in losses(ae, x)]


def losses(ae, x):
    ae(x)
    return ae.losses


def test_a_stack_pretrains_and_its_classifier_has_the_same_codes(method, x):
    layers = [
        keras_sae.SparseAutoencoder(units, method, input_scale=number == 0, name=f"layer_{number}")
        for number, units in enumerate((3, 2))
    ]
    for layer in layers:
        layer.compile("adam", run_eagerly=True)
    stack = keras_sae.StackedAutoencoder(layers)
    stack.pretrain(x, None, 3, verbose=0)
    assert layers[0].centring.scale != 1
    codes = stack.transform(x)
    assert 0 < (codes != 0).mean() < 1
    found = keras_sae.predict_in_chunks(stack.classifier(3).get_layer("encoder"), x)
    np.testing.assert_allclose(found, codes, rtol=1e-4, atol=1e-6)


def test_lbfgs_trains_a_classifier_on_its_codes(method, x, labels):
    stack = keras_sae.StackedAutoencoder([model(method, units=8)])
    stack.build((None, FEATURES))
    classifier = stack.classifier(3)
    assert keras_sae.check_gradients(classifier, x, labels) < 1e-4
    losses = keras_sae.fit(classifier, x, labels, iterations=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_a_training_resumes_to_the_same_bits(method, x, tmp_path):
    whole, part, resumed = model(method), model(method), model(method, seed=5)
    expected = fit(whole, x, 6)
    fit(part, x, 3, checkpoint=tmp_path / "training.npz")
    history = fit(resumed, x, 6, checkpoint=tmp_path / "training.npz")
    assert same_weights(resumed, whole)
    assert history.history == expected.history
    assert ops.convert_to_numpy(whole.sparsity.silent).shape == (4,)


def test_the_exact_objective_and_lbfgs_refuse_it(method, x):
    reason = f"Received: {type(method).__name__}: ", REFUSALS[type(method)], 'optimizer="adam"'
    with raises(ValueError, "the exact objective takes", *reason):
        keras_sae.objective(model(method), x)
    with raises(ValueError, "L-BFGS can train", *reason):
        keras_sae.fit(model(method), x)


def test_another_activation_is_refused(method):
    with raises(ValueError, "makes codes of pre-activations itself. Expected activation=None. Received: 'relu'"):
        keras_sae.SparseAutoencoder(4, method, activation="relu")


def test_in_another_model_it_is_an_ordinary_layer(method, x):
    other = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(4), method, keras.layers.Dense(FEATURES)])
    other.compile("adam", "mse", run_eagerly=True)
    before = [ops.convert_to_numpy(variable) for variable in method.trainable_variables]
    other.fit(x, x, epochs=2, verbose=0)
    assert other.losses == []
    after = [ops.convert_to_numpy(variable) for variable in method.trainable_variables]
    assert any(not np.array_equal(*pair) for pair in zip(before, after, strict=True))


def test_an_untrained_model_begins_anew(method):
    """As `evaluate_features` takes it, which has the weights of the trained one first."""
    ae = model(method)
    ae.sparsity.silent.assign([1, 2, 3, 4])
    fresh = keras_sae.SparseAutoencoder(4, method)
    fresh.build((None, FEATURES))
    keras_sae.autoencoder.draw_weights(ae, np.random.RandomState(0))
    for found, expected in zip(ae.sparsity.weights, fresh.sparsity.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(found), ops.convert_to_numpy(expected))
