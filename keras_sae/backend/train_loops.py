"""Many steps of Keras' own training in one compiled loop, for blocks of minibatches."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from . import omit_tracing_warning


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


def compile_train_loop(model: keras.Model, blocks: Any) -> Callable:
    """Return what Keras' `fit` is to call as `model.train_function`: it trains on all minibatches of a block.

    Its data are `block_numbers`.

    Args:
        model: a compiled model; what is unknown until the first step is to be built.
        blocks: `blocks[number]` -> (tensors, how many minibatches they are), and `blocks.batch(tensors, step)` -> the
            data of this step, (x,), (x, y) or (x, y, weights).
    """
    return _LOOPS[keras.backend.backend()](model, blocks)


def block_numbers(number: int) -> dict[str, Any]:
    """Return the arguments of Keras' `fit` for data that are the numbers of so many blocks, one a batch."""
    if keras.backend.backend() != "tensorflow":
        return {"x": np.arange(number), "batch_size": 1}
    import tensorflow as tf

    # A thread that tunes a data set sleeps up to twice as long each time, and the end of an epoch waits until it wakes.
    options = tf.data.Options()
    options.autotune.enabled = False
    return {"x": tf.data.Dataset.range(number).batch(1).with_options(options)}


def _tensorflow_loop(model: keras.Model, blocks: Any) -> Callable:
    import tensorflow as tf

    @tf.function(jit_compile=True, autograph=False)
    def loop(tensors: list, steps: Any) -> dict[str, Any]:
        def step(i: Any) -> Any:
            model.train_step(blocks.batch(tensors, i))
            return i + 1

        tf.while_loop(lambda i: i < steps, step, [tf.constant(0)])
        return model.get_metrics_result()

    omit_tracing_warning(loop)
    return lambda numbers: loop(*blocks[_next(numbers)])


def _jax_loop(model: keras.Model, blocks: Any) -> Callable:
    import jax

    def loop(state: Any, tensors: list, steps: Any) -> tuple:
        def step(i: Any, state: Any) -> Any:
            return model.train_step(state, blocks.batch(tensors, i))[1]

        state = jax.lax.fori_loop(0, steps, step, state)
        with keras.StatelessScope(state_mapping=list(zip(model.metrics_variables, state[3], strict=True))):
            return model.get_metrics_result(), state

    compiled = jax.jit(loop, donate_argnums=0)
    return lambda state, numbers: compiled(state, *blocks[_next(numbers)])


def _next(numbers: Any) -> int:
    [number] = keras.utils.unpack_x_y_sample_weight(next(numbers))[0]
    return int(number)


_LOOPS = {"tensorflow": _tensorflow_loop, "jax": _jax_loop}
