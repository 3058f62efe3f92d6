"""How much like a Gabor function a filter is: the receptive fields of simple cells, and of learned edge detectors."""

import numpy as np
import scipy.optimize

GABOR_LIKE = 0.8  # share of its variance above which a filter counts as a Gabor function


def gabor_fraction_explained(weights, shape):
    """For each unit, the share of its filter's variance that the best fitting Gabor function explains, (units,).

        g(x, y) = A exp(-u^2 / (2 su^2) - v^2 / (2 sv^2)) cos(2 pi f u + phase) + offset
        (u, v): (x, y) - centre, turned by an angle;       explained = 1 - ||w - g||^2 / ||w - mean(w)||^2

    The six parameters that enter nonlinearly are fitted by least squares from several beginnings; A, the phase and the
    offset are solved for exactly within. A random filter of 8x8 is explained to about a half: look at shares above 0.8.

    Args:
        weights: (features, units), an encoder kernel.
        shape: (height, width) of a filter.

    Reference: Jones & Palmer 1987, "An evaluation of the two-dimensional Gabor filter model".
    """
    filters = np.asarray(weights, dtype="float64").T.reshape(-1, *shape)
    return np.array([_explained(f) for f in filters])


def _explained(pixels):
    height, width = pixels.shape
    y, x = np.mgrid[:height, :width].astype("float64")
    target = pixels.ravel() - pixels.mean()
    total = target @ target
    if total == 0:
        return 0.0
    energy = target.reshape(pixels.shape) ** 2
    centre = np.array([(energy * x).sum(), (energy * y).sum()]) / total
    size = max(height, width)
    lower = [-1, -1, -np.inf, 0.5 / size, 0.6, 0.6]
    upper = [width, height, np.inf, 0.5, 2 * size, 2 * size]

    inside_lower, inside_upper = np.array(lower) + 1e-3, np.array(upper) - 1e-3

    def residual(parameters):
        basis = _basis(parameters, x, y)
        solution = np.linalg.lstsq(basis, target, rcond=None)[0]
        return basis @ solution - target

    best = total
    for angle in np.arange(4) * np.pi / 4:
        for frequency in np.array([1.0, 2.0, 3.0]) / size:
            start = np.clip([*centre, angle, frequency, size / 5, size / 5], inside_lower, inside_upper)
            found = scipy.optimize.least_squares(residual, start, bounds=(lower, upper), max_nfev=60)
            best = min(best, 2 * found.cost)
    return 1 - best / total


def _basis(parameters, x, y):
    """Columns cos, sin under the Gaussian, and 1: the Gabor functions with these parameters are their combinations."""
    x0, y0, angle, frequency, along, across = parameters
    u = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
    v = -(x - x0) * np.sin(angle) + (y - y0) * np.cos(angle)
    envelope = np.exp(-(u**2) / (2 * along**2) - v**2 / (2 * across**2))
    wave = 2 * np.pi * frequency * u
    return np.stack([envelope * np.cos(wave), envelope * np.sin(wave), np.ones_like(u)], axis=-1).reshape(-1, 3)
