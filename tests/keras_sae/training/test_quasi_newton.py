import copy

import numpy as np
import pytest
import scipy.optimize

from keras_sae.training.quasi_newton import LBFGS


def quadratic(theta):
    """1/2 (x^2 + 4 y^2)"""
    scales = np.array([1.0, 4.0])
    return float(theta @ (scales * theta)) / 2, scales * theta


def rosenbrock(theta):
    return float(scipy.optimize.rosen(theta)), scipy.optimize.rosen_der(theta)


def logistic(theta):
    """Logistic regression with a weight penalty: smooth and convex, without a formula for its minimum."""
    rng = np.random.default_rng(0)
    x, signs = rng.standard_normal((40, 12)), np.sign(rng.standard_normal(40))
    margins = signs * (x @ theta)
    slopes = -signs / (1 + np.exp(margins))
    return float(np.logaddexp(0, -margins).sum() + 0.05 * theta @ theta), x.T @ slopes + 0.1 * theta


FUNCTIONS = {
    "quadratic": (quadratic, np.array([3.0, -2.0])),
    "Rosenbrock": (rosenbrock, np.array([-1.2, 1.0, -0.5, 0.8])),
    "logistic": (logistic, np.zeros(12)),
}


def minimise(function, start, steps=200, **options):
    optimizer = LBFGS(function, start, **options)
    for _ in range(steps):
        if not optimizer.step():
            break
    return optimizer


def dense_inverse_hessian(steps, changes):
    """BFGS, the matrix itself: H <- (I - r s y') H (I - r y s') + r s s', from gamma I."""
    s, y = steps[-1], changes[-1]
    inverse, unit = (s @ y) / (y @ y) * np.eye(len(s)), np.eye(len(s))
    for s, y in zip(steps, changes, strict=True):
        r = 1 / (s @ y)
        inverse = (unit - r * np.outer(s, y)) @ inverse @ (unit - r * np.outer(y, s)) + r * np.outer(s, s)
    return inverse


class Counted:
    """A function that remembers where it was evaluated."""

    def __init__(self, function):
        self.function, self.points = function, []

    def __call__(self, theta):
        self.points.append(theta.copy())
        return self.function(theta)


@pytest.mark.parametrize(
    ("theta", "expected"), [([3.0, -1.0], [-0.6, 0.8]), ([0.3, 0.1], [-0.3, -0.4])], ids=["long", "short"]
)
def test_the_first_direction_is_straight_downhill_and_at_most_1_long(theta, expected):
    """g = (3, -4), |g| = 5, so -g / 5; and g = (0.3, 0.4), |g| < 1, so -g as it is."""
    np.testing.assert_allclose(LBFGS(quadratic, np.array(theta))._direction(), expected, rtol=1e-15)


def test_the_two_loops_by_hand():
    """One pair, s = (1, 1), y = (1, 4), s'y = 5, y'y = 17, and g = (2, 4).

    First loop, q = -g: a = s'q / s'y = -6/5; q - a y = (-2 + 6/5, -4 + 24/5) = (-4/5, 4/5).
    Times gamma = 5/17: (-4/17, 4/17). Second loop: b = y'(-4/17, 4/17) / 5 = (12/17) / 5 = 12/85;
    (a - b) s = (-6/5 - 12/85) s = -114/85 s; in all (-134/85, -94/85). Check: H y = s (the secant equation).
    """
    optimizer = LBFGS(quadratic, np.array([2.0, 1.0]))
    optimizer.steps, optimizer.changes = [np.array([1.0, 1.0])], [np.array([1.0, 4.0])]
    np.testing.assert_allclose(optimizer._direction(), [-134 / 85, -94 / 85], rtol=1e-14)
    optimizer.gradient = np.array([1.0, 4.0])
    np.testing.assert_allclose(optimizer._direction(), [-1.0, -1.0], rtol=1e-14)


@pytest.mark.parametrize("memory", [1, 3, 10])
def test_the_direction_is_that_of_the_dense_matrix_of_the_last_pairs(memory):
    optimizer, pairs = LBFGS(logistic, np.zeros(12), memory), []
    for _ in range(6):
        theta, gradient = optimizer.theta, optimizer.gradient
        assert optimizer.step()
        pairs.append((optimizer.theta - theta, optimizer.gradient - gradient))
        steps, changes = zip(*pairs[-memory:], strict=True)
        expected = -dense_inverse_hessian(steps, changes) @ optimizer.gradient
        np.testing.assert_allclose(optimizer._direction(), expected, rtol=1e-9)


@pytest.mark.parametrize("case", FUNCTIONS)
def test_every_step_goes_down_and_meets_the_wolfe_conditions(case):
    function, start = FUNCTIONS[case]
    optimizer = LBFGS(function, start)
    for _ in range(8):
        theta, value, gradient = optimizer.theta, optimizer.value, optimizer.gradient
        if not optimizer.step():
            break
        s = optimizer.theta - theta
        assert optimizer.value < value
        assert optimizer.value <= value + 1e-4 * s @ gradient
        assert abs(s @ optimizer.gradient) <= 0.9 * abs(s @ gradient)
        value, gradient = function(optimizer.theta)
        assert (optimizer.value, optimizer.gradient.tolist()) == (value, gradient.tolist())


def test_the_numbers_of_a_step_by_hand():
    """From (3, -1): -g / 5 = (-3, 4) / 5 is downhill with slope -5, so that the parabola 7/2 - 5 a + 73/50 a^2 has its
    least at a = 125/73. The step a = 1 meets the Wolfe conditions: slope -5 + 73/25 = -2.08, and 0.9 * 5 is more.
    It leads to (12, -1) / 5, where g = (12, -4) / 5. The second step is counted alone."""
    counted = Counted(quadratic)
    optimizer = LBFGS(counted, np.array([3.0, -1.0]))
    optimizer.step()
    expected = {"gradient_norm": np.sqrt(160) / 5, "step_length": 1, "evaluations": len(counted.points) - 1}
    assert optimizer.last_step == pytest.approx(expected, rel=1e-12)
    before, theta, direction = len(counted.points), optimizer.theta, optimizer._direction()
    optimizer.step()
    assert optimizer.last_step["evaluations"] == len(counted.points) - before
    np.testing.assert_allclose(optimizer.theta, theta + optimizer.last_step["step_length"] * direction)


def test_a_step_that_was_shortened_says_how_long_it_is():
    """5000 x^2 from 0.04: a step of 1 leads to where it is not finite, a tenth of it to -0.06; the least is at 0.04."""
    optimizer = LBFGS(lambda x: (5000 * x[0] ** 2 if abs(x[0]) < 0.1 else np.nan, 10_000 * x), np.array([0.04]))
    assert optimizer.step()
    assert optimizer.last_step["step_length"] == pytest.approx(0.04)
    assert optimizer.theta == pytest.approx([0], abs=1e-12)


def test_the_minimum_of_rosenbrock():
    optimizer = minimise(rosenbrock, np.array([-1.2, 1.0, -0.5, 0.8]))
    np.testing.assert_allclose(optimizer.theta, np.ones(4), atol=1e-6)
    assert optimizer.value < 1e-12


def test_the_minimum_of_a_quadratic_in_many_dimensions():
    rng = np.random.default_rng(1)
    root, b = rng.standard_normal((30, 30)), rng.standard_normal(30)
    a = root @ root.T + np.eye(30)
    optimizer = minimise(lambda t: (float(t @ a @ t / 2 - b @ t), a @ t - b), np.zeros(30), steps=500)
    np.testing.assert_allclose(optimizer.theta, np.linalg.solve(a, b), atol=1e-6)


def test_the_minimum_is_that_of_scipy():
    optimizer = minimise(logistic, np.zeros(12), steps=40)
    scipys = scipy.optimize.minimize(
        logistic, np.zeros(12), jac=True, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 1e-15}
    )
    assert optimizer.value == pytest.approx(scipys.fun, rel=1e-12)
    np.testing.assert_allclose(optimizer.theta, scipys.x, atol=1e-6)


@pytest.mark.parametrize("case", FUNCTIONS)
def test_no_point_is_evaluated_twice(case):
    function, start = FUNCTIONS[case]
    counted = Counted(function)
    optimizer = LBFGS(counted, start)
    for _ in range(8):
        if not optimizer.step():
            break
    assert len({tuple(point) for point in counted.points}) == len(counted.points)


def test_no_step_into_infinity():
    """ln of a distance that shrinks to nothing at 0: the first step, of length 1, would pass beyond."""

    def wall(theta):
        inside = theta[0] > 0
        value = 50 * theta[0] - np.log(theta[0]) if inside else np.inf
        return float(value), np.array([50 - 1 / theta[0] if inside else np.nan])

    optimizer = LBFGS(wall, np.array([0.5]))
    assert optimizer.step()
    assert np.isfinite(optimizer.value)
    assert minimise(wall, np.array([0.5])).theta[0] == pytest.approx(1 / 50, rel=1e-6)


def test_finite_only_within_a_millionth_of_the_first_step():
    """10^6 (t - 5e-7)^2 within 1e-6 of 0, where the slope is -1: the first step has the length 1."""

    def narrow(theta):
        value = 1e6 * (theta[0] - 5e-7) ** 2 if abs(theta[0]) < 1e-6 else np.inf
        return float(value), 2e6 * (theta - 5e-7)

    assert LBFGS(narrow, np.zeros(1)).step()
    assert minimise(narrow, np.zeros(1)).theta[0] == pytest.approx(5e-7, rel=1e-6)


def test_a_point_that_is_no_lower_in_floating_point_is_no_step():
    """1e16 + t^2/2: neighbours of 1e16 are 2 apart, so all t below 1 have the same value."""
    optimizer = LBFGS(lambda t: (1e16 + float(t @ t) / 2, t.copy()), np.array([0.5]))
    assert not optimizer.step()
    assert optimizer.theta.tolist() == [0.5]


@pytest.mark.parametrize("beyond", [np.inf, np.nan])
def test_infinite_on_all_sides(beyond):
    """Nothing finite but the start: no step, no warning."""
    start = np.array([1.0, 2.0])
    optimizer = LBFGS(lambda t: (1.0 if np.array_equal(t, start) else beyond, np.ones(2)), start)
    assert not optimizer.step()
    np.testing.assert_array_equal(optimizer.theta, start)


@pytest.mark.parametrize("gradient", [[0.0, 0.0], [-1.0, 0.0]], ids=["at the minimum", "a gradient that points wrong"])
def test_no_lower_point(gradient):
    """theta, value and gradient stay as they are, and so does the answer when asked again."""
    start = np.array([1.0, 2.0])
    optimizer = LBFGS(lambda t: (float(np.sum((t - start) ** 2)), np.array(gradient)), start)
    for _ in range(2):
        assert optimizer.step() is False
        np.testing.assert_array_equal(optimizer.theta, start)
        assert optimizer.value == 0
        assert (optimizer.gradient.tolist(), optimizer.steps) == (gradient, [])


def test_a_memory_that_misleads_is_forgotten():
    """A pair of negative curvature makes the direction go uphill; the step is then straight downhill."""
    optimizer = LBFGS(quadratic, np.array([3.0, -1.0]))
    optimizer.steps, optimizer.changes = [np.array([3.0, -4.0])], [np.array([-3.0, 4.0])]
    assert optimizer._direction() @ optimizer.gradient > 0
    twin = LBFGS(quadratic, np.array([3.0, -1.0]))
    assert optimizer.step()
    assert twin.step()
    np.testing.assert_array_equal(optimizer.theta, twin.theta)
    assert len(optimizer.steps) == 1


@pytest.mark.parametrize("curvature", [0.0, -1.0, 1e-17])
def test_pairs_without_curvature_are_not_remembered(curvature):
    optimizer = LBFGS(quadratic, np.array([3.0, -2.0]))
    optimizer._remember(np.array([1.0, 0.0]), np.array([curvature, 1.0]))
    assert (optimizer.steps, optimizer.changes) == ([], [])
    optimizer._remember(np.array([1.0, 0.0]), np.array([1e-3, 1.0]))
    assert len(optimizer.steps) == len(optimizer.changes) == 1


def test_the_memory_holds_the_last_steps():
    optimizer = LBFGS(logistic, np.zeros(12), memory=3)
    thetas = [optimizer.theta]
    for _ in range(5):
        assert optimizer.step()
        thetas.append(optimizer.theta)
    np.testing.assert_array_equal(optimizer.steps, np.diff(thetas, axis=0)[-3:])


@pytest.mark.parametrize("case", FUNCTIONS)
def test_from_its_state_it_goes_on_to_the_same_bits(case):
    function, start = FUNCTIONS[case]
    original = LBFGS(function, start, memory=4)
    for _ in range(12):
        state = copy.deepcopy(original.state())
        counted = Counted(function)
        restored = LBFGS(counted, None, memory=4, state=state)
        assert counted.points == []  # the value and gradient at theta are in the state
        for _ in range(3):
            restored.step()
        if not original.step():
            break
        twin = copy.deepcopy(original)
        twin.step()
        twin.step()
        for name, arrays in twin.state().items():
            np.testing.assert_array_equal(restored.state()[name], arrays, err_msg=name)


def test_a_state_that_was_given_away_does_not_change():
    optimizer = minimise(rosenbrock, np.array([-1.2, 1.0]), steps=3)
    state = optimizer.state()
    before = copy.deepcopy(state)
    optimizer.step()
    for name, arrays in before.items():
        np.testing.assert_array_equal(state[name], arrays, err_msg=name)
