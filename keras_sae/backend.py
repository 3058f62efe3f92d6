"""Compiled functions and gradients under each Keras backend: the only file that asks which backend runs.

Both take a Python function of the model's state and make it a function of the weights' values: `variables` hold
`values` while it runs and keep their own afterwards. Tensors in, tensors out.
"""

import keras


def widest_float():
    """The dtype for sums: float64, or float32 where JAX runs without `jax_enable_x64`."""
    if keras.backend.backend() == "jax":
        import jax

        return "float64" if jax.config.jax_enable_x64 else "float32"
    return "float64"


def has_float64():
    """Whether a float64 model computes in float64: not in JAX without `jax_enable_x64`, nor in PyTorch.

    (Keras 3.15 multiplies float64 matrices in float32 there.)
    """
    return keras.backend.backend() != "torch" and widest_float() == "float64"


def compile_function(function, variables):
    """`run(values, *arguments)`, which returns `function(*arguments)`, traced and compiled where the backend can."""

    def run(values, *arguments):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*arguments)

    return _compile(run)


def compile_gradients(function, variables):
    """`run(values, *arguments)`, which returns (result, gradients) for a `function` that returns (scalar, result).

    The gradients are those of the scalar with respect to the values, a list in their order.
    """

    def stateless(values, arguments):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*arguments)

    return _compile(_GRADIENTS[keras.backend.backend()](stateless))


def _compile(function):
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        graph = tf.function(function, reduce_retracing=True)
        # Each model and data set has a graph of its own, so tracing anew is no mistake to warn of (private name).
        graph._omit_frequent_tracing_warning = True
        return graph
    if backend == "jax":
        import jax

        return jax.jit(function)
    return function


def _tensorflow_gradients(stateless):
    import tensorflow as tf

    def run(values, *arguments):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            scalar, result = stateless(values, arguments)
        return result, tape.gradient(scalar, values, unconnected_gradients="zero")

    return run


def _jax_gradients(stateless):
    import jax

    gradient = jax.grad(stateless, has_aux=True)

    def run(values, *arguments):
        gradients, result = gradient(values, arguments)
        return result, gradients

    return run


def _torch_gradients(stateless):
    import torch

    def run(values, *arguments):
        values = [value.detach().requires_grad_() for value in values]
        scalar, result = stateless(values, arguments)
        gradients = torch.autograd.grad(scalar, values, allow_unused=True, materialize_grads=True)
        return keras.tree.map_structure(lambda tensor: tensor.detach(), result), gradients

    return run


_GRADIENTS = {"tensorflow": _tensorflow_gradients, "jax": _jax_gradients, "torch": _torch_gradients}
