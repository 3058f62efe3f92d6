"""layer_outputs: a layer is found in every kind of model, read, replaced for a while, and refused with the reason."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_sae.host.layer_outputs import as_rows, check_called_once, find_layer, layer_outputs, replaced_outputs
from tests.keras_sae.conftest import raises


def sequential():
    return keras.Sequential([keras.Input((6,)), *layers()], name="model")


def functional():
    inputs = x = keras.Input((6,))
    for layer in layers():
        x = layer(x)
    return keras.Model(inputs, x, name="model")


def nested():
    """The layer is in a model within the model."""
    inner = keras.Sequential([keras.Input((6,)), *layers()[:2]], name="inner")
    return keras.Sequential([keras.Input((6,)), inner, layers()[2]], name="model")


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A model without a graph of Keras: what it computes depends on Python."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.steps = layers()

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return x

    def build(self, input_shape):
        for step, features in zip(self.steps, (6, 4, 3), strict=True):
            step.build((None, features))


def subclassed():
    model = Subclassed(name="model")
    model.build((None, 6))
    return model


def layers():
    """6 -> 4 -> 3 -> 2"""
    return [
        keras.layers.Dense(4, "relu", name="first"),
        keras.layers.Dense(3, "tanh", name="hidden"),
        keras.layers.Dense(2, name="last"),
    ]


MODELS = {function.__name__: function for function in (sequential, functional, nested, subclassed)}


@pytest.mark.parametrize("kind", MODELS)
def test_what_a_layer_gives(kind, x):
    model = MODELS[kind]()
    hidden, first = find_layer(model, "hidden"), find_layer(model, "first")
    assert find_layer(model, hidden) is hidden
    expected = hidden(first(x.astype("float32")))
    np.testing.assert_array_equal(layer_outputs(model, hidden, x), expected)
    np.testing.assert_array_equal(check_called_once(model, hidden, x), expected)


@pytest.mark.parametrize("kind", MODELS)
def test_other_outputs_for_a_while(kind, x):
    model = MODELS[kind]()
    hidden, last = find_layer(model, "hidden"), find_layer(model, "last")
    before = np.array(model(x))
    with replaced_outputs(hidden, lambda a: -a):
        np.testing.assert_allclose(model(x), last(-layer_outputs_without(model, hidden, x)), rtol=1e-6)
    np.testing.assert_array_equal(model(x), before)
    assert "call" not in vars(hidden)


def layer_outputs_without(model, layer, x):
    """What a layer gives if nothing is in its place."""
    replacing = vars(layer).pop("call")
    found = layer_outputs(model, layer, x)
    object.__setattr__(layer, "call", replacing)
    return found


def test_replacements_may_nest_and_end_with_errors(x):
    model = sequential()
    hidden = find_layer(model, "hidden")
    plain = layer_outputs(model, hidden, x)
    with replaced_outputs(hidden, lambda a: 2 * a):
        with pytest.raises(ValueError, match="shape"), replaced_outputs(hidden, lambda a: a[:, :1]):
            model(x)
        np.testing.assert_array_equal(layer_outputs(model, hidden, x), 2 * plain)
    np.testing.assert_array_equal(layer_outputs(model, hidden, x), plain)


def test_what_comes_after_the_layer_is_not_computed(x):
    model, seen = sequential(), []

    def see(outputs):
        seen.append(outputs)
        return outputs

    with replaced_outputs(find_layer(model, "last"), see):
        layer_outputs(model, find_layer(model, "hidden"), x)
        assert seen == []
        check_called_once(model, find_layer(model, "hidden"), x)
        assert len(seen) == 1


def test_an_error_of_the_model_is_its_own(x):
    with pytest.raises(ValueError, match="expected axis -1 of input shape"):
        layer_outputs(sequential(), find_layer(sequential(), "hidden"), x[:, :3])


def test_layers_that_are_not_there():
    model = nested()
    with raises(ValueError, "Expected a layer of model, which has: ", "inner, ", "hidden, ", "last. Received: 'none'."):
        find_layer(model, "none")
    with raises(ValueError, "Expected a layer of model", "Received: 'first'."):
        find_layer(model, layers()[0])
    twice = keras.Sequential([keras.Input((6,)), sequential_in(6, "one"), sequential_in(2, "two")], name="model")
    with raises(ValueError, "Expected the name of one layer of model. Received: 'inner', the name of 2. Give each a"):
        find_layer(twice, "inner")
    above = keras.Sequential([keras.Input((6,)), sequential_in(6, "one"), keras.layers.Dense(3, name="inner")])
    assert find_layer(above, "inner") is above.layers[1]


def sequential_in(features, name):
    return keras.Sequential([keras.Input((features,)), keras.layers.Dense(2, name="inner")], name=name)


def test_layers_that_are_not_called_once(x):
    inputs = keras.Input((6,))
    shared = keras.layers.Dense(6, name="shared")
    model = keras.Model(inputs, shared(shared(inputs)), name="model")
    with raises(ValueError, "Expected one call of shared (Dense) when model is called. Received: 2 calls."):
        check_called_once(model, shared, x)
    with raises(ValueError, "Received: none. Name a layer whose outputs pass through the model once"):
        check_called_once(model, model.layers[0], x)


def test_layers_that_give_no_rows():
    tokens = keras.Input((5, 2))
    states = keras.layers.LSTM(3, return_state=True, name="states")
    model = keras.Model(tokens, states(tokens)[0])
    with raises(ValueError, "Expected a layer with one output. Received: states, which gives a "):
        check_called_once(model, states, np.zeros((2, 5, 2)))
    total = keras.layers.Lambda(lambda a: ops.sum(a, axis=(1, 2)), output_shape=(), name="total")
    model = keras.Model(tokens, total(tokens))
    with raises(
        ValueError, "Expected a layer with outputs (examples, ..., units). Received: total, which gives", "(2,)"
    ):
        check_called_once(model, total, np.zeros((2, 5, 2)))


def test_positions_become_rows():
    outputs = np.arange(24).reshape(2, 2, 2, 3)
    np.testing.assert_array_equal(as_rows(outputs), np.arange(24).reshape(8, 3))
