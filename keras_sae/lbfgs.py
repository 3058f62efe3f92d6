"""Full-batch training with L-BFGS on the exact objective."""

import math

import keras
import numpy as np
import scipy.optimize

from keras_sae.callbacks import ProgressBar
from keras_sae.chunks import CHUNK_SIZE
from keras_sae.objective import ObjectiveFunction


def fit_lbfgs(model, x, y=None, max_iterations=400, tolerance=1e-9, chunk_size=CHUNK_SIZE, callbacks=None, verbose=1):
    """Minimise `keras_sae.objective` over the model's trainable weights, in place, with SciPy's L-BFGS-B.

    Works on autoencoders, stacks and classifiers; layers with `trainable = False` stay as they are. A denoising
    autoencoder is given one corrupted copy of x, drawn at the start, because L-BFGS needs an objective that does not
    change between evaluations. When training is interrupted (Ctrl-C, an error in a callback), the model holds the
    weights of the last completed iteration.

    Args:
        model, x, y, chunk_size: as for `keras_sae.objective`.
        max_iterations: steps at most. A step evaluates the objective on all of x once, sometimes more often.
        tolerance: stop when a step lowers J by less than this fraction of it.
        callbacks: Keras callbacks; an iteration counts as an epoch. `model.stop_training = True` stops.
        verbose: 1 shows a progress bar with the objective, the mean rho_hat and the time left; 0 is silent.

    Returns:
        A keras History. Per iteration: "loss" (all of J) and its terms "error" (the mean loss of an example),
        "weight_decay" and "sparsity"; "rho_hat" (mean over units) where there is a KLSparsity. `history.params` holds
        "evaluations" (of the objective) and "stopped" (why, in SciPy's words).

    Raises:
        FloatingPointError: the objective is NaN or infinite.

    Reference: Liu & Nocedal 1989. UFLDL's exercises call minFunc's L-BFGS in the same way, 400 iterations.
    """
    x, y = corrupted_once(model, x, y)
    search = _Search(ObjectiveFunction(model, x, y, chunk_size))
    shown = [ProgressBar()] if verbose else []
    callbacks = keras.callbacks.CallbackList(
        [*(callbacks or []), *shown], add_history=True, model=model, epochs=max_iterations, verbose=verbose
    )

    def iteration_ended(intermediate_result):
        logs = search.accept(intermediate_result.x)
        search.assign()  # callbacks see the weights of this iteration
        callbacks.on_epoch_end(search.iterations, logs)
        search.iterations += 1
        if model.stop_training:
            raise StopIteration
        if search.iterations < max_iterations:
            callbacks.on_epoch_begin(search.iterations)

    model.stop_training = False
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    try:
        found = scipy.optimize.minimize(
            search,
            search.accepted,
            jac=True,
            method="L-BFGS-B",
            callback=iteration_ended,
            options={"maxiter": max_iterations, "maxfun": 20 * max_iterations, "ftol": tolerance, "gtol": 0.0},
        )
        search.accepted = found.x
        model.history.params.update(evaluations=int(found.nfev), stopped=str(found.message))
    finally:
        search.assign()
        callbacks.on_train_end()
    return model.history


def corrupted_once(model, x, y):
    """(inputs, targets) for training a denoising autoencoder on fixed noise; x and y themselves for other models."""
    corrupt = getattr(model, "corrupt", None)
    if corrupt is None:
        return x, y
    if not hasattr(x, "shape"):
        raise ValueError("L-BFGS on a denoising autoencoder needs x as an array, which it corrupts once and keeps.")
    return keras.ops.convert_to_numpy(corrupt(x, training=True)), x if y is None else y


class _Search:
    """The objective as SciPy calls it: a flat float64 vector in, (J, gradient) out; remembers the last accepted."""

    def __init__(self, function):
        self.function = function
        self.shapes = [tuple(v.shape) for v in function.variables]
        self.ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1]
        self.accepted = np.concatenate(
            [
                keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(v)).astype("float64").ravel()
                for v in function.variables
            ]
        )
        self.iterations = 0
        self.evaluated = None

    def __call__(self, theta):
        result = self.function(self.split(theta))
        if not math.isfinite(result.value):
            raise FloatingPointError(
                f"The objective is {result.value} at iteration {self.iterations + 1} (terms: {result.parts}). Expected "
                "finite data on the scale of the output units: look for NaN, infinities and very large values in x."
            )
        self.evaluated = theta.copy(), result
        return result.value, np.concatenate([g.ravel() for g in result.gradients])

    def accept(self, theta):
        """Makes theta the last completed iteration; returns its logs."""
        if not np.array_equal(theta, self.evaluated[0]):
            self(theta)
        self.accepted, result = self.evaluated
        logs = {"loss": result.value, **result.parts}
        if result.rho_hat:
            logs["rho_hat"] = float(np.concatenate(result.rho_hat).mean())
        return logs

    def split(self, theta):
        return [a.reshape(s) for a, s in zip(np.split(theta, self.ends), self.shapes, strict=True)]

    def assign(self):
        for variable, value in zip(self.function.variables, self.split(self.accepted), strict=True):
            variable.assign(value)
