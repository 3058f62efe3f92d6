"""L-BFGS on a flat vector, one iteration at a time, with a state that can be written down and taken up again."""

import math
import warnings

import numpy as np
import scipy.optimize


class LBFGS:
    """Limited-memory BFGS: p = -H g, where H is built from the last `memory` steps; theta += alpha p.

        H = V'_k ... V'_1 (gamma I) V_1 ... V_k + ...      V_i = I - r_i y_i s_i',  r_i = 1 / y_i's_i
        gamma = s'y / y'y of the last step

    The step alpha meets the strong Wolfe conditions (c1 = 1e-4, c2 = 0.9; SciPy's line search), tried from 1; the
    first step is no longer than 1. SciPy's own L-BFGS-B keeps its state to itself, and spends several times as long on
    vectors as this two-loop recursion, which needs no bounds.

    Args:
        function: theta -> (value, gradient), float64.
        theta: the start, a flat float64 vector.
        memory: steps remembered.
        state: to go on from, what `state()` gave, instead of from theta.

    Reference: Nocedal & Wright 2006, "Numerical Optimization", algorithms 7.4 and 7.5.
    """

    def __init__(self, function, theta, memory=10, state=None):
        self.function, self.memory = _Remembering(function), memory
        if state is None:
            self.theta, (self.value, self.gradient) = theta, self.function(theta)
            self.steps, self.changes = [], []  # s_i and y_i, oldest first
        else:
            [self.theta], [value], [self.gradient] = state["theta"], state["value"], state["gradient"]
            self.value = float(value)
            self.steps, self.changes = state.get("steps", []), state.get("changes", [])
            self.function.remember(self.theta, self.value, self.gradient)

    def step(self):
        """One iteration. Returns whether it found a lower point; if not, theta stays where it is."""
        found = self._search(self._direction())
        if found is None and self.steps:  # what is remembered has misled: forget it, and try straight downhill
            self.steps, self.changes = [], []
            found = self._search(self._direction())
        if found is None:
            return False
        value, gradient = self.function(found)
        self._remember(found - self.theta, gradient - self.gradient)
        self.theta, self.value, self.gradient = found, value, gradient
        return True

    def state(self):
        """All that the next iterations depend on, lists of arrays by name."""
        return {
            "theta": [self.theta],
            "value": [np.array(self.value)],
            "gradient": [self.gradient],
            "steps": self.steps,
            "changes": self.changes,
        }

    def _direction(self):
        """-H g by the two-loop recursion (algorithm 7.4)."""
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

    def _search(self, direction):
        """A point along the direction that meets the Wolfe conditions, or at least is lower; None if there is none."""
        if not _dot(direction, self.gradient) < 0:
            return None
        for _ in range(20):  # a step into infinity is too long
            if np.isfinite(self.function(self.theta + direction)[0]):
                break
            direction = direction / 10
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that no point was found is told by what it returns
            alpha, _, _, value, *_ = scipy.optimize.line_search(
                lambda theta: self.function(theta)[0],
                lambda theta: self.function(theta)[1],
                self.theta,
                direction,
                gfk=self.gradient,
                old_fval=self.value,
            )
        return self.theta + alpha * direction if alpha and value < self.value else None

    def _remember(self, s, y):
        if _dot(s, y) <= np.finfo("float64").eps * _dot(y, y):  # no curvature: H would not stay positive definite
            return
        self.steps, self.changes = [*self.steps, s][-self.memory :], [*self.changes, y][-self.memory :]


def _dot(a, b):
    """a'b on one thread: BLAS would start as many as there are cores, and wait for those that others use."""
    return float(np.einsum("i,i->", a, b))


class _Remembering:
    """A function that is not computed again at the point where it was computed last."""

    def __init__(self, function):
        self.function, self.theta, self.result = function, None, None

    def __call__(self, theta):
        if self.theta is None or not np.array_equal(theta, self.theta):
            self.remember(theta, *self.function(theta))
        return self.result

    def remember(self, theta, value, gradient):
        self.theta, self.result = theta, (value, gradient)
