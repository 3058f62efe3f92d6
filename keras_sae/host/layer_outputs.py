"""What a layer inside of any Keras model gives: to read it, or to put something else in its place."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras


class _Reached(BaseException):
    """Ends a forward pass behind a layer. It is no Exception, because Keras adds to the messages of those."""


def find_layer(model: keras.Model, layer: Any) -> keras.layers.Layer:
    """Return a layer of a model, given by its name or itself, however deep inside of other layers it is.

    Of several of one name it is the one among the layers of the model itself, as with Keras' `get_layer`.

    Raises:
        ValueError: there is no such layer in the model, or several have this name.
    """
    every = model._flatten_layers(include_self=False)
    layers = [inner for inner in every if not isinstance(inner, keras.layers.InputLayer)]  # which are never called
    for searched in (model.layers, layers):
        found = [inner for inner in searched if inner is layer or inner.name == layer]
        if len(found) == 1:
            return found[0]
    wanted = layer.name if isinstance(layer, keras.layers.Layer) else layer
    if found:
        raise ValueError(
            f"Expected the name of one layer of {model.name}. Received: {wanted!r}, the name of {len(found)}. Give "
            "each a name of its own."
        )
    names = ", ".join(dict.fromkeys(inner.name for inner in layers)) or "none"
    raise ValueError(f"Expected a layer of {model.name}, which has: {names}. Received: {wanted!r}.")


@contextlib.contextmanager
def replaced_outputs(layer: keras.layers.Layer, function: Callable[[Any], Any]) -> Iterator[None]:
    """Let a layer give function(outputs) in place of its outputs, in every call within the block, traced ones too.

    An attribute of the layer hides the method `call` of its class meanwhile, so one thread at a time can do so.
    """
    hidden = vars(layer).get("call")
    call = layer.call

    def replacing(*args: Any, **kwargs: Any) -> Any:
        return function(call(*args, **kwargs))

    object.__setattr__(layer, "call", replacing)  # past Keras' tracking of what is set
    try:
        yield
    finally:
        if hidden is None:
            object.__delattr__(layer, "call")
        else:
            object.__setattr__(layer, "call", hidden)


def layer_outputs(model: keras.Model, layer: keras.layers.Layer, x: Any) -> Any:
    """Return what a layer gives when the model is called on x, in inference mode; what comes after it is not computed.

    The layer is called once, as `check_called_once` has found.
    """
    found = []

    def stop(outputs: Any) -> Any:
        found.append(outputs)
        raise _Reached

    with contextlib.suppress(_Reached), replaced_outputs(layer, stop):
        model(x, training=False)
    return found[0]


def check_called_once(model: keras.Model, layer: keras.layers.Layer, x: Any) -> Any:
    """Return what a layer gives when the model is called on x, in full.

    Raises:
        ValueError: the model does not call the layer, or more than once, or the layer gives no rows of numbers.
    """
    found: list = []

    def keep(outputs: Any) -> Any:
        found.append(outputs)
        return outputs

    with replaced_outputs(layer, keep):
        model(x, training=False)
    check_calls(model, layer, found)
    check_rows(layer, found[0])
    return found[0]


def check_calls(model: keras.Model, layer: keras.layers.Layer, calls: list) -> None:
    """Raise ValueError unless a layer was called once in a forward pass.  calls: an item for each call."""
    if len(calls) != 1:
        number = f"{len(calls)} calls" if calls else "none"
        raise ValueError(
            f"Expected one call of {layer.name} ({type(layer).__name__}) when {model.name} is called. Received: "
            f"{number}. Name a layer whose outputs pass through the model once, by Keras' own calls of layers."
        )


def check_rows(layer: keras.layers.Layer, outputs: Any) -> None:
    """Raise ValueError unless a layer gives one tensor (examples, ..., units)."""
    if not hasattr(outputs, "shape"):
        raise ValueError(
            f"Expected a layer with one output. Received: {layer.name}, which gives a {type(outputs).__name__}."
        )
    if len(outputs.shape) < 2:
        raise ValueError(
            f"Expected a layer with outputs (examples, ..., units). Received: {layer.name}, which gives shape "
            f"{tuple(outputs.shape)}."
        )


def as_rows(outputs: Any) -> Any:
    """Return outputs (examples, ..., units) as rows, (examples * positions, units)."""
    return keras.ops.reshape(outputs, (-1, outputs.shape[-1]))
