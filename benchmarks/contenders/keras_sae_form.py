"""keras_sae, on the backend that KERAS_BACKEND names."""

import itertools
import math
import statistics
import tempfile
import time

import keras_sae
from benchmarks.contenders import BETA, PRODUCTS, RHO, WEIGHT_DECAY, Seconds, initial_weights
from keras_sae.data.batches import CHUNK_SIZE


def autoencoder(features, units):
    model = keras_sae.SparseAutoencoder(units, keras_sae.KLSparsity(RHO, BETA), weight_decay=WEIGHT_DECAY)
    model.build((None, features))
    model.set_weights(initial_weights(features, units))
    return model


def objective(x, units, precision="float32", chunk_size=CHUNK_SIZE, rows=None, layers=1):
    """As L-BFGS takes it, in as many iterations as by default.

    Of a stack, if there are several layers, each of so many units; of the first rows, if a number is given.
    """
    from keras_sae.backend import has_float64_on_gpu
    from keras_sae.training.fit import ITERATIONS
    from keras_sae.training.full_batch import ObjectiveFunction

    sizes = [x.shape[1], *[units] * layers]
    models = [autoencoder(*pair) for pair in itertools.pairwise(sizes)]
    model = models[0] if layers == 1 else keras_sae.StackedAutoencoder(models)
    function = ObjectiveFunction(model, x[:rows], chunk_size=chunk_size, evaluations=ITERATIONS)
    there = has_float64_on_gpu()  # where L-BFGS takes the gradient
    return lambda: function(precision=precision, there=there).value


def epoch(x, units, batch_size, precision="float32"):
    """As of a training of the library's default length, which stops after four epochs, of which three count."""
    import keras

    from keras_sae.backend.precision import matmul_precision

    if precision != "float32" and keras.backend.backend() == "tensorflow":
        raise ValueError("minibatches are multiplied in float32 under TensorFlow")

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.times = [*getattr(self, "times", []), time.perf_counter() - self.began]
            self.model.stop_training = len(self.times) == 4

    def run():
        clock = Clock()
        with matmul_precision(precision):
            model = autoencoder(x.shape[1], units)
            keras_sae.fit(model, x, optimizer="adam", batch_size=batch_size, callbacks=[clock], verbose=0)
        return Seconds(statistics.median(clock.times[1:]))

    return run


def product(rows, features, units, precision="float32"):
    import keras

    from keras_sae.backend import compile_function
    from keras_sae.backend.precision import matmul_precision

    x, w = keras.random.normal((rows, features)), keras.random.normal((features, units))
    multiply = compile_function(lambda a, b: keras.ops.matmul(a, b))

    def run():
        with matmul_precision(precision):
            for _ in range(PRODUCTS):
                result = multiply(x, w)
            keras.ops.convert_to_numpy(result[0, 0])  # waits for the device

    return run


def exactness(x, units, precision="float32"):
    """Return the largest error of the gradient of a weight array, relative to it: against NumPy in float64."""
    import numpy as np

    from benchmarks.classic import Autoencoder
    from keras_sae import objective

    weights = [w.astype("float64") for w in initial_weights(x.shape[1], units)]
    _, expected = Autoencoder(rho=RHO, beta=BETA, weight_decay=WEIGHT_DECAY).cost(weights, x.astype("float64"))
    model = autoencoder(x.shape[1], units)

    def run():
        found = objective(model, x, precision=precision).gradients
        return max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, expected, strict=True))

    return run


def training(x, units, iterations, precision="float32", chunk_size=CHUNK_SIZE):
    """Return J after so many iterations of L-BFGS."""

    def run():
        model = autoencoder(x.shape[1], units)
        options = {"precision": precision, "chunk_size": chunk_size}
        return keras_sae.fit(model, x, iterations=iterations, verbose=0, **options).history["loss"][-1]

    return run


def watched(x, units, optimizer, iterations, board):
    """Return the share of the time of a training that the TensorBoard callback takes, if it has one: all else is alike.

    The rows are square pictures. (On a busy machine the share varies less than the times of two trainings.)
    """
    shape, labels = (math.isqrt(x.shape[1]),) * 2, [row % 10 for row in range(len(x))]

    def run():
        model, began = autoencoder(x.shape[1], units), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            callbacks = [_Timed(folder, x, labels, shape)] if board else []
            keras_sae.fit(model, x, None, optimizer, iterations, callbacks=callbacks, verbose=0)
        seconds = time.perf_counter() - began
        return Seconds(seconds, sum(callback.spent for callback in callbacks) / seconds)

    return run


class _Timed(keras_sae.callbacks.TensorBoard):
    """It counts the seconds that it takes: `spent`."""

    spent = 0.0

    def on_epoch_begin(self, *arguments):
        self._time(super().on_epoch_begin, *arguments)

    def on_epoch_end(self, *arguments):
        self._time(super().on_epoch_end, *arguments)

    def on_train_end(self, *arguments):
        self._time(super().on_train_end, *arguments)

    def _time(self, method, *arguments):
        began = time.perf_counter()
        method(*arguments)
        self.spent += time.perf_counter() - began


def reach(x, units, iterations, epochs, then):
    """As of epochs of Adam, then iterations of L-BFGS, both at most, until J is what `iterations` of L-BFGS alone give.

    What J of all rows takes after each epoch of minibatches, which tell but their own, does not count.
    """
    target = training(x, units, iterations)()

    def run():
        model = autoencoder(x.shape[1], units)
        arrival = _arrival(model, x, target)
        began = time.perf_counter()
        if epochs:
            keras_sae.fit(model, x, optimizer="adam", iterations=epochs, callbacks=[arrival], verbose=0)
        if then and arrival.value > target:
            keras_sae.fit(model, x, iterations=then, callbacks=[arrival], verbose=0)
        seconds = time.perf_counter() - began - arrival.seconds
        if arrival.value > target:
            raise ValueError(f"J = {arrival.value:.6g} at the end, not {target:.6g}")
        return Seconds(seconds, arrival.value)

    return run


def _arrival(model, x, target):
    """Return a callback that ends training if J of all rows is no higher: `value`; it takes `seconds` to measure it."""
    import keras

    from keras_sae.training.full_batch import ObjectiveFunction

    function = ObjectiveFunction(model, x)

    class Arrival(keras.callbacks.Callback):
        value, seconds = float("inf"), 0.0

        def on_epoch_end(self, epoch, logs=None):
            began = time.perf_counter()
            self.value = function(gradients=False).value
            self.seconds += time.perf_counter() - began
            self.model.stop_training = self.value <= target

    return Arrival()
