"""Compiled functions and gradients under each Keras backend: only this directory asks which backend runs.

`compile_function` and `compile_gradients` compile a function of the values of weights, which the function passes to
`at`: the variables hold these values while a model runs, and their own again afterwards. Arguments and results are
tensors.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
from keras import ops


def widest_float() -> str:
    """Return the dtype for sums: float64, or float32 if JAX runs without `jax_enable_x64`."""
    if keras.backend.backend() == "jax":
        import jax

        # JAX adds its flags to the class at run time, which type checkers do not see.
        return "float64" if jax.config.jax_enable_x64 else "float32"  # type: ignore[attr-defined]
    return "float64"


def has_float64_on_gpu() -> bool:
    """Return whether gradients are computed on a GPU that keeps float64: in JAX with `jax_enable_x64`."""
    if keras.backend.backend() != "jax" or widest_float() != "float64":
        return False
    import jax

    return jax.default_backend() == "gpu"


def single(dtype: str) -> str:
    """Return "float32" for a half precision, which cannot hold sums over rows; other dtypes as they are."""
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def wide(activations: Any) -> Any:
    """Return half precision as float32, because a sum over many rows would pass its range; others as they are."""
    return ops.cast(activations, single(keras.backend.standardize_dtype(activations.dtype)))


def has_float64(activations: Iterable[Callable] = ()) -> bool:
    """Return whether a model with these activations can compute in float64.

    Not in JAX without `jax_enable_x64`, and not in PyTorch, where Keras 3.15 multiplies float64 matrices in float32.
    Under JAX it also rounds some activations, tanh for one, to float32.
    """
    if keras.backend.backend() == "torch" or widest_float() != "float64":
        return False
    third = ops.convert_to_tensor([[1 / 3, 2 / 3]], dtype="float64")
    return all(keras.backend.standardize_dtype(function(third).dtype) == "float64" for function in activations)


def use_threads(number: int) -> None:
    """Let this process, which has not computed yet, compute on so many threads; JAX has no call for it."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(number)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(number)


def replicas() -> int:
    """Return on how many replicas of tf.distribute this runs, each of which sees a part of each batch."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    if not tf.distribute.has_strategy() or tf.distribute.in_cross_replica_context():
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


def refuse_replicas(what: str) -> None:
    """Raise ValueError if this runs on one of several replicas."""
    if replicas() > 1:
        raise ValueError(
            f"{what} needs the mean over the whole batch, but each replica of a tf.distribute strategy sees its own "
            f"part. Expected one replica. Received: {replicas()}. Train without the strategy."
        )


def _devices() -> int:
    """Return among how many devices a `keras.distribution` shares each batch."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]


def shared(rows: Any) -> Any:
    """Return a tensor with an equal part of its rows on each device of a `keras.distribution`, if there is one.

    All devices have all rows, if these have no equal parts.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return rows
    layout = distribution.get_data_layout(rows.shape)
    if rows.shape[0] % _devices():
        layout = keras.distribution.TensorLayout([None] * len(rows.shape), distribution.device_mesh)
    return keras.distribution.distribute_tensor(rows, layout)


def check_shares(rows: int, batch_size: int) -> None:
    """Raise ValueError if batches of so many rows have no equal parts for the devices of a `keras.distribution`."""
    if rows % _devices() or min(batch_size, rows) % _devices():
        raise ValueError(
            f"Each of the {_devices()} devices of a keras.distribution takes an equal part of a batch. Expected a "
            f"batch_size and a number of rows that {_devices()} divides. Received: batch_size={batch_size} and {rows} "
            'rows. Leave the last rows out, or use optimizer="lbfgs", which takes any number.'
        )


def check_loss_dtypes(model: keras.Model) -> None:
    """Raise ValueError if Keras' `fit` would fail: under TensorFlow it adds a loss and penalties of one dtype only.

    (`model.losses` of a model that was compiled once may hold tensors of that graph.)
    """
    expected = keras.config.floatx()
    for dtype in {v.dtype for v in model.trainable_variables if v.regularizer is not None} - {expected}:
        if keras.backend.backend() == "tensorflow":
            raise ValueError(
                f"Keras adds penalties to a loss of the dtype floatx. Expected penalties in {expected}. Received: "
                f"{dtype}. Call keras.config.set_floatx({dtype!r}) before compiling, or train with L-BFGS."
            )


def placement(model: Any) -> contextlib.AbstractContextManager:
    """Return the scope in which weights of a model are created: that of its tf.distribute strategy, if it has one."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


@contextlib.contextmanager
def at(variables: Iterable[keras.Variable], values: Iterable[Any]) -> Iterator[keras.StatelessScope]:
    """Yield a scope in which the variables hold these values, and which collects the losses of layers.

    The values are `single`. In half precision matrices are rounded to it, so that products are what the model computes.
    Biases stay in single precision: their gradients are sums over rows, which in bfloat16 lose nine tenths of 10,000.
    (Not the `alpha` of Keras' PReLU, which multiplies without promoting its inputs.)
    """
    scope, biases = keras.StatelessScope(collect_losses=True), []
    for variable, value in zip(variables, values, strict=True):
        if len(variable.shape) > 1 or variable.name == "alpha":
            value = ops.cast(value, variable.dtype)
        else:
            biases.append((variable, variable._autocast, variable._dtype))
        scope.add_update((variable, value))
    try:
        for variable, _, dtype in biases:
            variable._autocast, variable._dtype = False, single(dtype)  # as if made with these arguments
        with scope:
            yield scope
    finally:
        for variable, autocast, dtype in biases:
            variable._autocast, variable._dtype = autocast, dtype


def compile_function(function: Callable, fused: bool = False) -> Callable:
    """Return the function, traced and compiled if the backend can.

    fused: whether TensorFlow on CPUs compiles what is between products of matrices into few loops over the rows, which
        takes some tenths of a second for each shape of arguments. Other backends always do, or never.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        function = _tensorflow_fused(function) if fused else function
        graph = tf.function(function, reduce_retracing=True, autograph=False)  # errors stay as they are
        omit_tracing_warning(graph)
        return graph
    if backend == "jax":
        import jax

        return jax.jit(function)
    return function


def omit_tracing_warning(graph: Any) -> None:
    """Turn off TensorFlow's warning of frequent tracing: each model and data set has its own graph.

    The attribute is private.
    """
    graph._omit_frequent_tracing_warning = True


def _tensorflow_fused(function: Callable) -> Callable:
    import tensorflow as tf

    products = ("MatMul", "Conv", "Einsum")  # XLA's own are slower than TensorFlow's on CPUs

    def run(*arguments: Any) -> Any:
        if tf.executing_eagerly():  # as tf.config.run_functions_eagerly has it
            return function(*arguments)
        with tf.xla.experimental.jit_scope(compile_ops=lambda node: not any(name in node.op for name in products)):
            return function(*arguments)

    return function if tf.config.list_physical_devices("GPU") else run


def compile_gradients(function: Callable, fused: bool = False) -> Callable:
    """Return `run(values, *arguments)` -> (result, gradients), for `function(values, *arguments)` -> (scalar, result).

    The gradients are those of the scalar with respect to the values, a list in their order. fused: see above.
    """
    return compile_function(gradients_of(function), fused)


def gradients_of(function: Callable) -> Callable:
    """Return the same, not compiled: for few calls, which compiling would take longer than."""
    return _GRADIENTS[keras.backend.backend()](function)


def _tensorflow_gradients(function: Callable) -> Callable:
    import tensorflow as tf

    def run(values: list, *arguments: Any) -> tuple:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            scalar, result = function(values, *arguments)
        return result, tape.gradient(scalar, values, unconnected_gradients="zero")

    return run


def _jax_gradients(function: Callable) -> Callable:
    import jax

    gradient = jax.grad(function, has_aux=True)

    def run(values: list, *arguments: Any) -> tuple:
        gradients, result = gradient(values, *arguments)
        return result, gradients

    return run


def _torch_gradients(function: Callable) -> Callable:
    import torch

    def run(values: list, *arguments: Any) -> tuple:
        values = [value.detach().requires_grad_() for value in values]
        scalar, result = function(values, *arguments)
        gradients = torch.autograd.grad(scalar, values, allow_unused=True, materialize_grads=True)
        return keras.tree.map_structure(lambda tensor: tensor.detach(), result), gradients

    return run


_GRADIENTS = {"tensorflow": _tensorflow_gradients, "jax": _jax_gradients, "torch": _torch_gradients}
