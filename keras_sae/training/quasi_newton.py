"""L-BFGS on a flat vector, one iteration at a time, with a state that can be saved and resumed from."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize

Vector = Any  # a flat float64 array of NumPy, or of JAX, on the device that computes gradients
Function = Callable[[Vector], tuple[float, Vector]]  # theta -> (value, gradient)


class LBFGS:
    """Limited-memory BFGS: p = -H g, where H is built from the last `memory` steps; theta += alpha p.

        H = V'_k ... V'_1 (gamma I) V_1 ... V_k + ...      V_i = I - r_i y_i s_i',  r_i = 1 / y_i's_i
        gamma = s'y / y'y of the last step

    The step alpha meets the strong Wolfe conditions (c1 = 1e-4, c2 = 0.9); SciPy's line search looks for it from 1. The
    first step is no longer than 1. SciPy's own L-BFGS-B does not expose its state, and spends several times as long on
    vectors as this two-loop recursion, which needs no bounds.

    Args:
        function: theta -> (value, gradient), float64.
        theta: the start, a flat float64 vector.
        memory: how many of the last steps are remembered.
        state: what `state()` returned, to resume from it instead of starting at theta.

    Reference: Nocedal & Wright 2006, "Numerical Optimization", algorithms 7.4 and 7.5.
    """

    def __init__(
        self,
        function: Function,
        theta: Vector,
        memory: int = 10,
        state: dict[str, list[Vector]] | None = None,
    ):
        self.function, self.memory = _Remembering(function), memory
        self.steps: list[Vector] = []  # s_i, oldest first
        self.changes: list[Vector] = []  # y_i, in the same order
        self.last_step: dict[str, float] = {}  # ||g|| after it, its alpha, and how often it evaluated the function
        if state is None:
            self.theta, (self.value, self.gradient) = theta, self.function(theta)
        else:
            [self.theta], [value], [self.gradient] = state["theta"], state["value"], state["gradient"]
            self.value = float(value)
            self.steps, self.changes = state.get("steps", []), state.get("changes", [])
            self.function.remember(self.theta, self.value, self.gradient)

    def step(self) -> bool:
        """Do one iteration and return whether it found a lower point; if not, theta does not change."""
        before = self.function.evaluations
        found = self._search(self._direction())
        if found is None and self.steps:  # the remembered steps misled: forget them and try steepest descent
            self.steps, self.changes = [], []
            found = self._search(self._direction())
        if found is None:
            return False
        theta, alpha = found
        value, gradient = self.function(theta)
        self._remember(theta - self.theta, gradient - self.gradient)
        self.theta, self.value, self.gradient = theta, value, gradient
        norm, evaluations = math.sqrt(_dot(gradient, gradient)), self.function.evaluations - before
        self.last_step = {"gradient_norm": norm, "step_length": alpha, "evaluations": evaluations}
        return True

    def evaluate(self) -> None:
        """Compute value and gradient at theta again, because the function has changed; remembered steps stay."""
        self.function.theta = None
        self.value, self.gradient = self.function(self.theta)

    def state(self) -> dict[str, list[Vector]]:
        """Return all that the next iterations depend on, lists of arrays by name."""
        return {
            "theta": [self.theta],
            "value": [np.array(self.value)],
            "gradient": [self.gradient],
            "steps": self.steps,
            "changes": self.changes,
        }

    def _direction(self) -> Vector:
        """Return -H g by the two-loop recursion (algorithm 7.4)."""
        direction = -self.gradient
        if not self.steps:
            return direction / max(1.0, math.sqrt(_dot(direction, direction)))
        weights = []
        pairs = [(s, y, _dot(s, y)) for s, y in zip(self.steps, self.changes, strict=True)]
        for s, y, curvature in reversed(pairs):
            weights.append(_dot(s, direction) / curvature)
            direction -= weights[-1] * y
        s, y, curvature = pairs[-1]
        direction *= curvature / _dot(y, y)
        for s, y, curvature in pairs:
            direction += (weights.pop() - _dot(y, direction) / curvature) * s
        return direction

    def _search(self, direction: Vector) -> tuple[Vector, float] | None:
        """Return a point along the direction that meets the Wolfe conditions or at least is lower, and its alpha.

        It is None if no point is lower.
        """
        if not _dot(direction, self.gradient) < 0:
            return None
        longest = 1.0
        for _ in range(20):  # shorten a step to a point at which the function is not finite
            if np.isfinite(self.function(self.theta + direction)[0]):
                break
            direction, longest = direction / 10, longest / 10
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the result already says that no point was found
            alpha, _, _, value, *_ = scipy.optimize.line_search(  # in one dimension, that of alpha
                lambda alpha: self.function(self.theta + alpha[0] * direction)[0],
                lambda alpha: _slope(self.function(self.theta + alpha[0] * direction)[1], direction),
                np.zeros(1),
                np.ones(1),
                gfk=_slope(self.gradient, direction),
                old_fval=self.value,
            )
        return (self.theta + alpha * direction, float(alpha) * longest) if alpha and value < self.value else None

    def _remember(self, s: Vector, y: Vector) -> None:
        if _dot(s, y) <= np.finfo("float64").eps * _dot(y, y):  # no curvature: H would not stay positive definite
            return
        self.steps, self.changes = [*self.steps, s][-self.memory :], [*self.changes, y][-self.memory :]


def _dot(a: Vector, b: Vector) -> float:
    """Return a'b, computed on one thread: BLAS starts one for each core, and waits for cores that others use."""
    return float(np.einsum("i,i->", a, b) if isinstance(a, np.ndarray) else a @ b)


def _slope(gradient: Vector, direction: Vector) -> np.ndarray:
    """Return the derivative along the direction, (1,)."""
    return np.array([float(gradient @ direction)])


class _Remembering:
    """A function that is not computed again at the point where it was computed last."""

    def __init__(self, function: Function):
        self.function, self.evaluations = function, 0
        self.theta: Vector | None = None  # the point computed last
        self.result: tuple[float, Vector]

    def __call__(self, theta: Vector) -> tuple[float, Vector]:
        if self.theta is None or not (theta == self.theta).all():
            self.remember(theta, *self.function(theta))
            self.evaluations += 1
        return self.result

    def remember(self, theta: Vector, value: float, gradient: Vector) -> None:
        self.theta, self.result = theta, (value, gradient)
