"""What the tests of the methods of sparsity share: small models, and how they are compared with NumPy."""

import numpy as np

import keras_sae
from tests.keras_sae.conftest import FEATURES, UNITS, randomise, relative

SCALE = 1.7  # of inputs, if a model has one


def dictionary(method, units=UNITS, features=FEATURES, **options):
    """A SparseAutoencoder of a method with random weights, in float64 unless told otherwise, compiled."""
    ae = keras_sae.SparseAutoencoder(units, method, **{"dtype": "float64"} | options)
    ae.build((None, features))
    randomise(ae)
    if ae.input_scale:
        ae.centring.scale.assign(SCALE)
    ae.started = True
    ae.compile("adam")
    return ae


def trained_weights(ae):
    """Its weights as the twin takes them."""
    return [np.asarray(variable) for variable in ae.trainable_variables]


def assert_objective_is(twin, ae, x, sample_weight=None):
    """The exact objective, its gradients and its term are those of NumPy."""
    value, gradients, term = twin.loss(trained_weights(ae), x, sample_weight)
    found = keras_sae.objective(ae, x, sample_weight=sample_weight)
    np.testing.assert_allclose(found.value, value, rtol=1e-12)
    np.testing.assert_allclose(found.parts["sparsity"], term, rtol=1e-12)
    for ours, theirs in zip(found.gradients, gradients, strict=True):
        assert relative(ours, theirs) < 1e-11
