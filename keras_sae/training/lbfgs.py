"""Full-batch training with L-BFGS on the exact objective."""

import math
import pathlib
import time
from typing import Any

import keras
import numpy as np

from ..autoencoder import Autoencoder, around_training
from ..backend import has_float64_on_gpu
from ..backend.precision import PRECISIONS, check_precision
from ..callbacks import ProgressBar, ResampleDeadUnits
from ..data.batches import CHUNK_SIZE
from ..data.containers import is_array
from ..errors import DivergedError, InputError
from ..sparsity.method import check_methods, check_revive
from . import checkpoints
from .full_batch import ObjectiveFunction, held_out_objective
from .quasi_newton import LBFGS, Vector

LIMIT = "the limit of iterations"  # a reason why training stopped
ROUGH = 0.9  # the share of the iterations that may multiply in less than single precision
SETS_LEARNING_RATE = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)


@around_training
def fit_lbfgs(
    model: keras.Model,
    x: Any,
    y: Any = None,
    max_iterations: int = 400,
    tolerance: float = 1e-9,
    chunk_size: int = CHUNK_SIZE,
    callbacks: list | None = None,
    checkpoint: str | pathlib.Path | None = None,
    validation_data: Any = None,
    verbose: int = 1,
    sample_weight: Any = None,
    precision: str = PRECISIONS[0],
) -> keras.callbacks.History:
    """Minimise `keras_sae.objective` over the model's trainable weights, in place, with L-BFGS.

    Works on autoencoders, stacks and classifiers; layers with `trainable = False` stay as they are. A denoising
    autoencoder is given one corrupted copy of x, drawn at the start, because L-BFGS needs an objective that does not
    change between evaluations. When training is interrupted (Ctrl-C, an error in a callback), the model holds the
    weights of the last completed iteration.

    On a GPU under JAX with `JAX_ENABLE_X64=1` the vectors of L-BFGS stay there, about 200 bytes for each weight.
    Otherwise the gradient comes to the CPU at each evaluation, which takes long from some million weights on.

    Args:
        model, x, y, chunk_size, sample_weight: as for `keras_sae.objective`.
        max_iterations: steps at most. A step evaluates the objective on all of x once, sometimes more often.
        tolerance: training stops when a step lowers J by less than this fraction of it.
        callbacks: Keras callbacks; an iteration counts as an epoch. `model.stop_training = True` stops. Callbacks that
            set a learning rate are refused: L-BFGS has none, its line search finds the length of a step. So is
            ResampleDeadUnits, because L-BFGS keeps weights of its own.
        checkpoint: a file, .npz. If it exists, training resumes from it, to the same weights, bit for bit on one
            CPU, as without the interruption. It is written every 20 seconds, when training is interrupted, and at the
            end; another call then finds the training finished. Remove it to train from the model's present weights.
        validation_data: held-out x, (x, y) or (x, y, weights), arrays or a data set. The objective on it, with the
            rho_hat of these rows, is "val_loss" of every iteration; nothing is learned from it. Keras' EarlyStopping
            with restore_best_weights=True leaves the model of the least.
        verbose: 1 shows a progress bar with the objective, the mean rho_hat and the time left; 0 is silent.
        precision: of products of matrices, see `objective`, in the first nine tenths of the iterations or until they
            find no lower point. The last ones are always exact.

    Returns:
        A keras History. Per iteration: "loss" (all of J) and its terms "reconstruction" (of other models than
        autoencoders "data_loss"), "weight_decay" and "sparsity"; "rho_hat" (mean over units) if there is a KLSparsity;
        the same with "val_" if there are validation data; "gradient_norm", "step_length" (alpha), "evaluations" (its
        own). `history.result` holds all "evaluations" of the objective, "seconds", and "stopped" (why, in words).

    Raises:
        ValueError: a callback sets a learning rate or weights, or the sparsity has no objective to minimise.
        DivergedError: the objective is NaN or infinite.
        InputError: the checkpoint is broken, or of another model or other data.

    Reference: Liu & Nocedal 1989. UFLDL's exercises call minFunc's L-BFGS in the same way, 400 iterations.
    """
    for callback in callbacks or []:
        if isinstance(callback, SETS_LEARNING_RATE):
            raise ValueError(
                "L-BFGS has no learning rate: its line search finds the length of a step. Received: the callback "
                f"{type(callback).__name__}. Leave it out, or train with a Keras optimizer."
            )
        if isinstance(callback, ResampleDeadUnits):
            raise ValueError(
                "L-BFGS keeps weights of its own, which would replace those of a callback, and counts no dead units. "
                "Received: the callback ResampleDeadUnits. Leave it out, or train with a Keras optimizer."
            )
    check_methods(model, "no_lbfgs")
    check_revive(model)
    if isinstance(model, Autoencoder) and not model.compiled:
        model.compile()  # Keras' own callbacks look for an optimizer
    found = checkpoints.read(checkpoint) if checkpoint else None
    check_precision(precision)
    search = _Search(model, x, y, chunk_size, sample_weight, found, precision, max_iterations)
    search.validation = held_out_objective(model, validation_data, chunk_size)
    keras_callbacks = keras.callbacks.CallbackList(
        [*(callbacks or []), *([ProgressBar()] if verbose else [])],
        add_history=True, model=model, epochs=max_iterations, verbose=verbose,
    )  # fmt: skip
    model.stop_training = False
    keras_callbacks.on_train_begin()
    history = model.history
    history.history, history.epoch = search.history, list(range(search.iterations))
    saved = time.monotonic()
    if search.stopped is None and search.iterations >= max_iterations:  # interrupted in a callback of the last one
        search.stopped = LIMIT
    try:
        while search.stopped is None:
            keras_callbacks.on_epoch_begin(search.iterations)
            if search.iterations >= ROUGH * max_iterations:
                search.refine()
            logs = search.step(tolerance)
            if logs is not None:
                keras_callbacks.on_epoch_end(search.iterations - 1, logs)
            if model.stop_training:
                search.stopped = "a callback set stop_training"
            elif search.iterations >= max_iterations:
                search.stopped = LIMIT
            if checkpoint and time.monotonic() - saved > checkpoints.SECONDS:
                search.save(checkpoint)
                saved = time.monotonic()
    finally:
        if checkpoint:
            search.save(checkpoint)
        history.result = search.counts()
        keras_callbacks.on_train_end()
    if checkpoint:
        search.save(checkpoint)  # again, as EarlyStopping may have restored the best weights
    return history


def corrupted_once(model: keras.Model, x: Any, y: Any) -> tuple[Any, Any]:
    """Return (inputs, targets) for training a denoising autoencoder on fixed noise; x and y for other models."""
    if not isinstance(model, Autoencoder) or model.corrupt is None:
        return x, y
    if not is_array(x):
        raise ValueError("L-BFGS on a denoising autoencoder needs x as an array, which it corrupts once and keeps.")
    return keras.ops.convert_to_numpy(model.corrupt(x, training=True)), x if y is None else y


class _Search:
    """The minimisation over one flat float64 vector; the model has the weights of the last completed iteration.

    It and some twenty others are arrays of NumPy, or of JAX if they can stay where gradients are computed.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any,
        chunk_size: int,
        sample_weight: Any,
        checkpoint: checkpoints.Checkpoint | None,
        precision: str,
        iterations: int,
    ):
        state, record = checkpoint or ({}, {})
        denoising = isinstance(model, Autoencoder) and model.corrupt is not None
        noise = model.corrupt.variables if denoising else []
        for variable, value in zip(noise, state.pop("noise", []), strict=False):
            variable.assign(value)
        self.noise = [_array(v) for v in noise]  # the state of the generator before it draws the noise
        x, y = corrupted_once(model, x, y)
        self.model = model
        self.objective = ObjectiveFunction(model, x, y, chunk_size, sample_weight, iterations)
        self.variables = self.objective.variables
        self.shapes = [tuple(v.shape) for v in self.variables]
        self.ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        self.there = has_float64_on_gpu()
        self.iterations, self.evaluations = record.get("iterations", 0), record.get("evaluations", 0)
        self.history, self.stopped = record.get("history", {}), record.get("stopped")
        self.seconds, self.began = record.get("seconds", 0.0), time.monotonic()
        self.precision = record.get("precision", precision)
        start = self.weights()
        if checkpoint:
            self._check(state, start)
        if self.there:
            start = keras.ops.convert_to_tensor(start)
            state = {name: [keras.ops.convert_to_tensor(array) for array in arrays] for name, arrays in state.items()}
        self.optimizer = LBFGS(self, start, state=state or None)
        self.assign()
        self.validation: ObjectiveFunction | None = None  # the objective on held-out data
        # The last completed iteration: the state of L-BFGS, how many iterations there were, and its logs.
        self.completed: tuple[dict[str, list[Vector]], int, dict[str, float]] = (
            self.optimizer.state(), self.iterations, {}
        )  # fmt: skip

    def __call__(self, theta: Vector) -> tuple[float, Vector]:
        """Return (J, gradient), as L-BFGS expects them."""
        self.result = self.objective(self.split(theta), precision=self.precision, there=self.there)
        self.evaluations += 1
        concatenate = keras.ops.concatenate if self.there else np.concatenate
        return self.result.value, concatenate([g.ravel() for g in self.result.gradients])

    def step(self, tolerance: float) -> dict[str, float] | None:
        """Do one iteration and return its logs, or None if it found no lower point. Set `stopped` if it is the last."""
        before = self.optimizer.value
        if not math.isfinite(before):
            raise DivergedError(
                f"The objective of {self.model.name} is {before} at iteration {self.iterations + 1} (terms: "
                f"{self.result.parts}). Expected finite data on the scale of the output units: look for NaN, "
                "infinities and very large values in x."
            )
        if not self.optimizer.step():
            if self.refine():
                return None
            self.stopped = "converged: no lower point was found, J is at a minimum up to rounding"
            return None
        self.assign()
        self.iterations += 1
        logs = {**self.result.logs(), **self.optimizer.last_step}
        if self.validation is not None:
            logs |= {f"val_{name}": value for name, value in self.validation(gradients=False).logs().items()}
        # This is one assignment, so that Ctrl-C never leaves parts of two iterations to be saved.
        self.completed = self.optimizer.state(), self.iterations, logs
        small = before - self.optimizer.value <= tolerance * max(before, self.optimizer.value, 1)
        if small and not self.refine():
            self.stopped = "converged: the relative reduction of J is below the tolerance"
        return dict(logs)

    def refine(self) -> bool:
        """Go on in single precision, and return whether it was another until now."""
        if self.precision == PRECISIONS[0]:
            return False
        self.precision = PRECISIONS[0]
        self.optimizer.evaluate()
        self.completed = self.optimizer.state(), *self.completed[1:]
        return True

    def split(self, theta: Vector) -> list[Vector]:
        """Return theta as one array for each variable, in its shape."""
        starts = [0, *self.ends[:-1]]
        return [theta[a:b].reshape(s) for a, b, s in zip(starts, self.ends, self.shapes, strict=True)]

    def weights(self) -> np.ndarray:
        """Return the weights that the model has, as one flat float64 vector."""
        return np.concatenate([_array(v).astype("float64").ravel() for v in self.variables])

    def assign(self) -> None:
        """Give the model the weights of the last completed iteration."""
        for variable, value in zip(self.variables, self.split(self.optimizer.theta), strict=True):
            variable.assign(value)

    def counts(self) -> dict[str, Any]:
        """Return what the History and the checkpoint record of the entire training."""
        seconds = self.seconds + time.monotonic() - self.began
        return {"evaluations": self.evaluations, "seconds": seconds, "stopped": self.stopped}

    def save(self, path: str | pathlib.Path) -> None:
        """Write the last completed iteration as a checkpoint, unless its objective is not finite."""
        state, iterations, logs = self.completed
        if not math.isfinite(state["value"][0]):  # there is nothing to resume from
            return
        if self.stopped:  # no iteration will need the remembered steps, and a callback may have changed the weights
            state = {"theta": [self.weights()], "value": state["value"], "gradient": state["gradient"]}
        state = {name: [np.asarray(array) for array in arrays] for name, arrays in state.items()}
        history = {name: values[:iterations] for name, values in self.history.items()}
        for name, value in logs.items():
            if len(history.setdefault(name, [])) < iterations:  # a callback failed before the History got it
                history[name].append(value)
        record = {"iterations": iterations, "history": history, "precision": self.precision, **self.counts()}
        checkpoints.write(path, {**state, "noise": self.noise}, **record)

    def _check(self, state: dict[str, list[np.ndarray]], start: np.ndarray) -> None:
        """Raise InputError unless the checkpoint fits the model and the data give the value of J that it holds."""
        [theta], [value] = state.get("theta", [np.zeros(0)]), state.get("value", [np.nan])
        if theta.shape != start.shape:
            raise InputError(
                f"Expected a checkpoint of a model with {len(start):,} trainable weights. Received: one with "
                f"{len(theta):,}. Remove it, or name another, to train from the start."
            )
        if self.stopped:
            return
        now = self.objective(self.split(theta), precision=self.precision).value
        if not math.isclose(now, value, rel_tol=1e-4):
            raise InputError(
                f"Expected a checkpoint made on the same data and objective. Received: one with J = {value:.6g}, but "
                f"the data given now have {now:.6g}. Resume with the same data, or remove the checkpoint."
            )


def _array(variable: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable))
