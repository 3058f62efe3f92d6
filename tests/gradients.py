"""Losses and gradients of autoencoders, and whether they are those of the twin in NumPy."""

import numpy as np
from keras import ops

import keras_sae
from keras_sae import backend
from keras_sae.example_weights import weighted_examples
from tests.dictionary_twin import as_float64, twin_of


def with_gradients(function, values, *arguments):
    """Return what `backend.gradients_of` does, at these values."""
    return backend.gradients_of(function)([ops.copy(value) for value in values], *arguments)


def loss_and_gradients(autoencoder, x, w=None):
    """Return what Keras gives in training for the loss and {path of a weight: gradient}, float64."""
    variables, rows = autoencoder.trainable_variables, len(x)

    def total(values, x):
        with backend.at(variables, values) as scope, weighted_examples(w):
            errors = ops.sum(ops.square(autoencoder(x, training=True) - x), axis=-1) / 2
            weights = ops.ones_like(errors) if w is None else ops.convert_to_tensor(w, errors.dtype)
            loss = ops.sum(weights * errors) / rows + sum(scope.losses)
        return loss, loss

    loss, gradients = with_gradients(total, variables, ops.convert_to_tensor(x))
    return float(loss), {v.path: as_float64(g) for v, g in zip(variables, gradients, strict=True)}


def compare(autoencoder, x, w=None, tolerance=1e-10):
    """Raise AssertionError unless the loss in training and every gradient are those of the twin."""
    _compare(twin_of(autoencoder, x, w), *loss_and_gradients(autoencoder, x, w), tolerance)


def compare_objective(autoencoder, x, w=None, tolerance=1e-10):
    """Raise AssertionError unless the exact objective, its term and every gradient are those of the twin."""
    found = keras_sae.objective(autoencoder, x, sample_weight=w)
    twin = twin_of(autoencoder, x, None if w is None else w / np.mean(w))
    paths = [variable.path for variable in autoencoder.trainable_variables]
    _compare(twin, found.value, dict(zip(paths, found.gradients, strict=True)), tolerance)
    np.testing.assert_allclose(found.parts["sparsity"], twin.term(twin.start), rtol=tolerance)


def _compare(twin, loss, gradients, tolerance):
    np.testing.assert_allclose(loss, twin.loss(twin.start), rtol=tolerance)
    expected = twin.gradients(twin.start)
    assert {variable.path for variable in twin.variables.values()} == set(gradients)
    for name, variable in twin.variables.items():
        scale = np.abs(expected[name]).max()
        assert scale > 0, name
        np.testing.assert_allclose(gradients[variable.path], expected[name], atol=tolerance * scale, err_msg=name)


def differences(twin, name, step=1e-6):
    """Return central differences of the twin's loss for one of its weights, what is fixed in its terms held fixed."""
    found = np.empty_like(twin.start[name])
    for place in np.ndindex(found.shape):
        ends = []
        for sign in (1, -1):
            moved = twin.start[name].copy()
            moved[place] += sign * step
            ends.append(twin.loss({**twin.start, name: moved}))
        found[place] = (ends[0] - ends[1]) / (2 * step)
    return found
