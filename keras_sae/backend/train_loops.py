"""Many steps of Keras' own training in one compiled loop, for the rows of arrays that are in memory."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def can_loop(model: keras.Model) -> bool:
    """Return whether `compile_train_loop` can compile the steps of a compiled model.

    Not in PyTorch, on several devices, if a layer does without XLA, or if the model runs eagerly. (Whether it was
    compiled with jit_compile=False cannot be told: without a GPU that is what TensorFlow makes of "auto".)
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        one_device = model.distribute_strategy.num_replicas_in_sync == 1 and not tf.config.list_physical_devices("GPU")
    else:
        one_device = backend == "jax" and keras.distribution.distribution() is None
    supported = all(layer.supports_jit for layer in model._flatten_layers())
    return one_device and supported and not model.run_eagerly


def compile_train_loop(model: keras.Model, batch: Callable[[Any, Any], tuple]) -> Callable:
    """Return what Keras' `fit` is to call as `model.train_function`: it does as many steps as its batch of data says.

    The data of a call are (rows, steps): row numbers of minibatches, (any,), and how many of these there are, (1,).

    Args:
        model: a compiled model; what is unknown until the first step is to be built.
        batch: (rows, step) -> the data of this step, (x,), (x, y) or (x, y, weights).
    """
    return _LOOPS[keras.backend.backend()](model, batch)


def _tensorflow_loop(model: keras.Model, batch: Callable[[Any, Any], tuple]) -> Callable:
    import tensorflow as tf

    def step(i: Any, rows: Any) -> tuple:
        model.train_step(batch(rows, i))
        return i + 1, rows

    @tf.function(jit_compile=True, autograph=False)  # traced for each number of rows, which is to be constant
    def loop(rows: Any, steps: Any) -> dict[str, Any]:
        tf.while_loop(lambda i, _: i < steps[0], step, (tf.constant(0), rows))
        return model.get_metrics_result()

    return lambda iterator: loop(*next(iterator))


def _jax_loop(model: keras.Model, batch: Callable[[Any, Any], tuple]) -> Callable:
    import jax

    def loop(state: Any, rows: Any, steps: Any) -> tuple:
        def step(i: Any, state: Any) -> Any:
            return model.train_step(state, batch(rows, i))[1]

        state = jax.lax.fori_loop(0, steps[0], step, state)
        with keras.StatelessScope(state_mapping=list(zip(model.metrics_variables, state[3], strict=True))):
            return model.get_metrics_result(), state

    compiled = jax.jit(loop, donate_argnums=0)
    return lambda state, iterator: compiled(state, *map(ops.convert_to_tensor, next(iterator)))


_LOOPS = {"tensorflow": _tensorflow_loop, "jax": _jax_loop}
