"""What every method of sparsity has to do as part of a model: files, copies, stacks, resuming, exports, refusals."""

import importlib
import inspect
import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_sae
from keras_sae import sparsity
from keras_sae.sparsity import (
    L1,
    BatchTopK,
    Contractive,
    Gated,
    JumpReLU,
    MatryoshkaBatchTopK,
    SparsityMethod,
    TopK,
    WinnerTakeAll,
)
from keras_sae.sparsity.keeps_largest import KeepsLargest
from tests.export.conftest import export_here, litert, saved_model
from tests.keras_sae.conftest import FEATURES, dictionary, raises, randomise, same_weights

# Trainings are shorter than `anneal`, so that they are interrupted, saved and exported while units become fewer.
pytestmark = pytest.mark.filterwarnings("ignore:Training ended after .* of the `anneal`")
# With every argument unlike its default.
ARGUMENTS = {
    TopK: {"k": 2, "k_inference": 3, "relu": False, "window": 50, "k_start": 4, "anneal": 60},
    BatchTopK: {"k": 2, "window": 50, "k_start": 4, "anneal": 60},
    MatryoshkaBatchTopK: {"k": 2, "prefixes": (1, 3), "window": 50, "k_start": 4, "anneal": 60},
    JumpReLU: {"target_l0": 1.5, "weight": 0.7, "threshold": 0.03, "bandwidth": 0.4, "window": 50},
    Gated: {"l1": 0.2, "window": 50},
    L1: {"weight": 0.3, "decoder_norms": True, "window": 50},
    WinnerTakeAll: {"rate": 0.2, "window": 50},
    Contractive: {"weight": 0.3, "window": 50},
}
# Of a model, beside those that a method brings.
OPTIONS = {L1: {"input_scale": True}, Contractive: {"tied": True, "activation": "tanh"}}
LINEAR = {"output_activation": "linear"}
OTHERS = [{"input_scale": True, "pre_bias": True, **LINEAR}, {"tied": True}]
# Why an autoencoder has no exact objective, and why L-BFGS trains no model with such codes.
NO_OBJECTIVE = {
    BatchTopK: "while it trains, the codes of a row depend on the other rows of its batch",
    MatryoshkaBatchTopK: "while it trains, the codes of a row depend on the other rows of its batch",
    JumpReLU: "its gradients are estimates",
    Gated: "its second error gives the decoder no gradient",
    WinnerTakeAll: "its codes depend on the other examples of a batch",
}
NO_LBFGS = {
    TopK: "its objective jumps if units change places among the k largest",
    BatchTopK: "its objective jumps if a unit crosses the threshold",
    MatryoshkaBatchTopK: "its objective jumps if a unit crosses the threshold",
    JumpReLU: "its objective jumps if a unit crosses its threshold",
    Gated: "its objective jumps if a gate opens",
}
MAKES_CODES = set(ARGUMENTS) - {L1, Contractive}  # of pre-activations, itself


def of(*kinds, slow=()):
    """These methods, and others with --run-slow alone."""
    slowly = [pytest.param(kind, marks=pytest.mark.slow) for kind in slow]
    return pytest.mark.parametrize("kind", [*kinds, *slowly], ids=lambda kind: kind.__name__)


def all_but(*kinds):
    return [kind for kind in ARGUMENTS if kind not in kinds]


every_method = of(*ARGUMENTS)


def make(kind):
    return kind(**ARGUMENTS[kind])


def model(kind, seed=2, **options):
    return dictionary(make(kind), seed=seed, **{"dtype": "float32", **OPTIONS.get(kind, {}), **options})


def arrays(variables):
    return [ops.convert_to_numpy(variable) for variable in variables]


def fit(ae, x, iterations, **options):
    options = {"optimizer": None, "batch_size": 12, "verbose": 0} | options
    return keras_sae.fit(ae, x, iterations=iterations, **options).history


def test_no_method_is_left_out():
    modules = pkgutil.iter_modules(sparsity.__path__)
    found = [importlib.import_module(f"{sparsity.__name__}.{module.name}") for module in modules]
    classes = {kind for module in found for kind in vars(module).values() if isinstance(kind, type)}
    methods = {kind for kind in classes if issubclass(kind, SparsityMethod)} - {SparsityMethod, KeepsLargest}
    assert methods == set(ARGUMENTS)
    assert all(getattr(sparsity, kind.__name__) is kind for kind in methods)


# Files and copies


@every_method
def test_the_configuration_holds_every_argument(kind):
    expected, usual = ARGUMENTS[kind], inspect.signature(kind).parameters
    assert set(expected) == set(usual) - {"kwargs"}
    assert all(usual[name].default != value for name, value in expected.items())
    copy = kind.from_config(make(kind).get_config())
    assert {name: getattr(copy, name) for name in expected} == expected
    assert copy.conventions == make(kind).conventions


def check_file(ae, kind, x, path):
    ae.sparsity.silent.assign([1.0, 60.0, 3.0, 70.0])
    ae.save(path / "model.keras")
    copy = keras.saving.load_model(path / "model.keras")
    assert copy.get_config() == ae.get_config()
    assert {name: getattr(copy.sparsity, name) for name in ARGUMENTS[kind]} == ARGUMENTS[kind]
    assert same_weights(copy, ae)
    np.testing.assert_array_equal(copy.sparsity.dead(), [0, 1, 0, 1])
    np.testing.assert_array_equal(copy.encode(x), ae.encode(x))
    np.testing.assert_array_equal(copy(x), ae(x))
    assert [float(term) for term in copy.losses] == [float(term) for term in ae.losses]


@every_method
def test_a_file_gives_the_same_model_back(kind, x, tmp_path):
    check_file(model(kind), kind, x.astype("float32"), tmp_path)


@pytest.mark.slow
@every_method
@pytest.mark.parametrize("options", OTHERS, ids=str)
def test_a_file_gives_the_same_model_with_other_options_back(kind, options, x, tmp_path):
    check_file(model(kind, **options), kind, x.astype("float32"), tmp_path)


@every_method
def test_a_model_takes_a_copy(kind):
    method, options = make(kind), OPTIONS.get(kind, {})
    ae = keras_sae.SparseAutoencoder(5, method, **options)
    ae.build((None, FEATURES))
    assert not method.built
    again = [keras_sae.SparseAutoencoder(units, ae.sparsity, **options).sparsity for units in (4, 5)]
    assert [(copy.built, copy.units) for copy in again] == [(False, 4), (False, 5)]


def other_model(kind, dtype="float32"):
    """A classifier on 8 codes of the method, which is no copy here."""
    method = kind(**ARGUMENTS[kind], dtype=dtype, name="method")
    layers = [
        keras.Input((FEATURES,), dtype=dtype),
        keras.layers.Dense(8, method.conventions.activation, dtype=dtype),
        method,
        keras.layers.Dense(3, "softmax", dtype=dtype),
    ]
    model = randomise(keras.Sequential(layers))
    for weight in method.weights:
        if weight.name in ("theta", "threshold"):
            weight.assign(ops.full(weight.shape, 0.1))
    return model, method


@every_method
def test_in_another_model_it_is_an_ordinary_layer_without_terms(kind, x):
    model, method = other_model(kind)
    x = x.astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x, training=True) ** 2)
    own = method.trainable_variables
    for weight, gradient in zip(own, tape.gradient(loss, [weight.value for weight in own]), strict=True):
        assert (np.abs(gradient).max() > 0) == (weight.name != "gate_bias")  # which has terms alone to learn from
    assert model.losses == []
    assert np.asarray(method.silent).max() in (0, len(x))
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(x), model(x))


# Training


@of(JumpReLU, slow=all_but(JumpReLU))
def test_compiled_it_trains_as_it_does_in_single_operations(kind, compiled, x):
    models = [model(kind), model(kind)]
    for ae, options in zip(models, ({"jit_compile": True}, {"run_eagerly": True}), strict=True):
        ae.compile(keras.optimizers.SGD(0.01), **options)
        logs = [ae.train_on_batch(x, return_dict=True) for _ in range(2)]
        if ae is models[0]:
            expected = logs
    for found, of_compiled in zip(logs, expected, strict=True):
        assert found == pytest.approx(of_compiled, rel=1e-4)
    for jitted, single in zip(*(ae.get_weights() for ae in models), strict=True):
        np.testing.assert_allclose(jitted, single, atol=1e-5)


@of(JumpReLU, slow=all_but(JumpReLU))
def test_a_training_that_resumes_is_the_same_bit_for_bit(kind, x, tmp_path):
    whole, part, resumed = model(kind), model(kind), model(kind, seed=5)
    history = fit(whole, x, 2)
    fit(part, x, 1, checkpoint=tmp_path / "training.npz")
    assert fit(resumed, x, 2, checkpoint=tmp_path / "training.npz") == history
    assert same_weights(resumed, whole)
    assert history["loss"][-1] < history["loss"][0]


@of(Contractive, slow=[L1])
def test_lbfgs_resumes_bit_for_bit(kind, x, tmp_path):
    def interrupt(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    whole, part, resumed = model(kind), model(kind), model(kind, seed=5)
    options, path = {"optimizer": "lbfgs", "batch_size": 256}, tmp_path / "training.npz"
    history = fit(whole, x, 2, **options)
    with pytest.raises(KeyboardInterrupt):
        fit(part, x, 2, checkpoint=path, callbacks=[keras.callbacks.LambdaCallback(interrupt)], **options)
    assert fit(resumed, x, 2, checkpoint=path, **options) == history
    assert same_weights(resumed, whole)
    assert history["loss"][-1] < history["loss"][0]


@of(Gated, slow=all_but(Gated))
def test_in_a_stack_and_below_a_classifier(kind, x, labels):
    x = x.astype("float32")
    layers = [model(kind, started=False), keras_sae.SparseAutoencoder(4, make(kind), **OPTIONS.get(kind, {}) | LINEAR)]
    layers[1].compile("adam", run_eagerly=True)
    stack = keras_sae.StackedAutoencoder(layers)
    stack.pretrain(x, None, 1, verbose=0)
    stack.compile("adam", run_eagerly=True)
    fit(stack, x, 1)
    assert np.isfinite(stack.history.history["loss"]).all()
    for weight in stack.weights:
        if weight.name == "threshold":  # an activation is at it exactly, which rounding could bring above
            weight.assign(1.001 * weight)
    classifier = stack.classifier(3)
    encoder = classifier.get_layer("encoder")
    np.testing.assert_allclose(encoder(x), stack.encode(x), rtol=1e-4, atol=1e-6)
    below = keras.Model(encoder.inputs[0], encoder.get_layer("sparsity_1").output)
    np.testing.assert_allclose(below(x), layers[0].encode(x), rtol=1e-4, atol=1e-6)
    if kind in NO_LBFGS:
        with raises(ValueError, f"L-BFGS can train. Received: {kind.__name__}"):
            keras_sae.fit(classifier, x, labels, verbose=0)
    before = encoder.get_weights()
    keras_sae.fit(classifier, x, labels, None, 1, verbose=0)  # fine-tuning
    assert not np.array_equal(encoder.get_weights()[0], before[0])


@every_method
def test_units_begin_anew(kind):
    """Some of them, when they are revived, or all: `evaluate_features` compares with an untrained model."""
    fresh = keras_sae.SparseAutoencoder(4, make(kind), **OPTIONS.get(kind, {}))
    fresh.build((None, FEATURES))
    ae = model(kind)
    ae.sparsity.silent.assign([1, 2, 3, 4])
    own = [weight for weight in ae.sparsity.weights if weight.shape]  # the threshold of a batch is of all units
    expected = arrays(weight for weight in fresh.sparsity.weights if weight.shape)
    before, dead = arrays(own), np.array([False, True, False, True])
    ae.sparsity.revive(dead)
    for weight, old, new in zip(arrays(own), before, expected, strict=True):
        np.testing.assert_array_equal(weight, np.where(dead, new, old))
    keras_sae.autoencoder.draw_weights(ae, np.random.RandomState(0))
    for weight, new in zip(arrays(own), expected, strict=True):
        np.testing.assert_array_equal(weight, new)


# What it refuses, and what it does not


@every_method
def test_the_exact_objective_and_lbfgs_take_an_autoencoder_or_say_why_not(kind, x):
    ae = model(kind)
    objective, words = NO_OBJECTIVE.get(kind), NO_OBJECTIVE.get(kind) or NO_LBFGS.get(kind)
    if objective:
        with raises(ValueError, f"the exact objective takes. Received: {kind.__name__}: {objective}", '"adam"'):
            keras_sae.objective(ae, x)
    else:
        assert np.isfinite(keras_sae.objective(ae, x).value)
    if words:
        with raises(ValueError, f"L-BFGS can train. Received: {kind.__name__}: {words}", '"adam"'):
            keras_sae.fit(ae, x, verbose=0)


def test_so_they_do_an_autoencoder_inside_of_another_model(x, labels):
    """Which has its terms, other than a model of its encoder alone."""
    ae = model(WinnerTakeAll)
    whole, encoder = (
        keras.Sequential([keras.Input((FEATURES,)), part, keras.layers.Dense(1)]) for part in (ae, ae.encoder)
    )
    for other in (whole, encoder):
        other.compile("adam", "mse")
    for call in (keras_sae.objective, keras_sae.fit):
        for refused, y in ((whole, labels), (keras_sae.StackedAutoencoder([ae]), None)):
            with raises(ValueError, f"Received: WinnerTakeAll: {NO_OBJECTIVE[WinnerTakeAll]}"):
                call(refused, x, y)
    assert np.isfinite(keras_sae.objective(encoder, x, labels).value)


@every_method
def test_of_models_that_only_encode_lbfgs_trains_those_whose_codes_do_not_jump(kind, x, labels):
    """The objective takes all: its gradient is the slope along a random direction. Codes are those of inference."""
    classifier, _ = other_model(kind, "float64")
    classifier.compile("adam", "sparse_categorical_crossentropy")
    found = keras_sae.objective(classifier, x, labels)
    random, step, values = np.random.default_rng(0), 1e-6, []
    start = arrays(classifier.trainable_variables)
    direction = [random.standard_normal(value.shape) for value in start]
    for sign in (1, -1):
        for variable, value, along in zip(classifier.trainable_variables, start, direction, strict=True):
            # A step has no slope: what says where it is counts as fixed, and its gradient is 0.
            fixed = variable.name in ("theta", "gate_bias")
            variable.assign(value if fixed else value + sign * step * along)
        values.append(keras_sae.objective(classifier, x, labels).value)
    slope = sum((gradient * along).sum() for gradient, along in zip(found.gradients, direction, strict=True))
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)

    if kind in NO_LBFGS:
        words = f"Received: {kind.__name__}: {NO_LBFGS[kind]}", 'optimizer="adam"', "freeze", "trainable = False"
        with raises(ValueError, "L-BFGS can train", *words):
            keras_sae.fit(classifier, x, labels, verbose=0)
        for layer in classifier.layers[:2]:
            layer.trainable = False
    losses = keras_sae.fit(classifier, x, labels, iterations=1, verbose=0).history["loss"]
    assert losses[0] < found.value


@every_method
def test_an_activation_before_it_is_refused_if_it_makes_codes_itself(kind):
    if kind in MAKES_CODES:
        words = f"{kind.__name__} makes codes of pre-activations itself", "Expected activation=None. Received: 'relu'"
        with raises(ValueError, *words):
            keras_sae.SparseAutoencoder(4, make(kind), activation="relu")
    else:
        assert keras_sae.SparseAutoencoder(4, make(kind), activation="relu").activation is keras.activations.relu


# Exports


def away_from_steps(ae, x):
    """The rows of which no pre-activation is so near a step that rounding could bring it to the other side."""
    pre, codes = (ops.convert_to_numpy(tensor) for tensor in ae._both(x))
    steps = {"threshold": 1, "theta": 1, "gate_bias": -1}
    far = np.ones(len(x), bool)
    for weight in ae.sparsity.weights:
        if weight.name in steps:
            far &= np.abs(pre - steps[weight.name] * ops.convert_to_numpy(weight)).min(axis=1) > 1e-4
    assert far.sum() > 15
    return x[far], codes[far]


@pytest.mark.slow
@every_method
@pytest.mark.parametrize("options", [{}, OTHERS[0]], ids=["usual", "scaled"])
@pytest.mark.parametrize("formats", [["saved_model", "litert"], ["onnx"]], ids="+".join)
def test_exports_give_what_keras_does(kind, options, formats, compiled, x, tmp_path):
    if "onnx" in formats:
        pytest.importorskip("tf2onnx")
    ae = model(kind, **options)
    ae.compile()
    ae.finish(x)
    rows, codes = away_from_steps(ae, x.astype("float32"))
    assert codes.std() > 0.02
    measured = export_here(ae, tmp_path / "out", formats=formats, examples=rows, calibration=rows)
    assert max(values["difference"] for values in measured.values()) < 1e-5
    if "onnx" in formats:
        return
    for call in (saved_model(tmp_path / "out" / "saved_model" / "1"), litert(tmp_path / "out" / "encoder.tflite")):
        found = call("encode", inputs=rows)["features"]
        np.testing.assert_array_equal(found != 0, codes != 0)
        np.testing.assert_allclose(found, codes, atol=1e-5)
        np.testing.assert_allclose(call("reconstruct", inputs=rows)["outputs"], ae(rows), atol=1e-5)
    assert b"Flex" not in (tmp_path / "out" / "encoder.tflite").read_bytes()


@pytest.mark.parametrize(
    ("method", "options"),
    [(L1(0.3, decoder_norms=True), {"input_scale": True}), (Contractive(0.3), {"tied": True}), (TopK(2), {})],
    ids=["l1", "contractive", "top_k"],
)
def test_the_objective_is_what_evaluate_says(method, options, x):
    ae = dictionary(method, **options)
    ae.compile()
    expected = keras_sae.objective(ae, x)
    found = ae.evaluate(x, batch_size=len(x), verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(expected.value, rel=1e-6)
    assert found["sparsity"] == pytest.approx(expected.parts["sparsity"], rel=1e-6)
