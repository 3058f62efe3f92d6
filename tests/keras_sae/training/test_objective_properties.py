"""The objective of any data: that of the NumPy float64 twin, or an error that says what was expected."""

import hypothesis
import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import strategies

import keras_sae
from benchmarks.classic import Autoencoder
from keras_sae import KLSparsity
from keras_sae.errors import DivergedError
from tests.keras_sae.conftest import FEATURES, autoencoder, raises

# The data are any; that these outputs cannot give most of them is said, and not the point here.
pytestmark = pytest.mark.filterwarnings("ignore:The sigmoid outputs of")

DTYPES = ("uint8", "int64", "bool", "float16", "float32", "float64")
AWKWARD = [np.nan, np.inf, -np.inf, 1e30, -1e38, 1e300]  # the last beyond float32


def property_test(examples, **strategy):
    return lambda function: hypothesis.settings(
        max_examples=examples,
        derandomize=True,  # the same examples on every machine
        deadline=None,
        phases=(hypothesis.Phase.generate,),  # the first failure, not the smallest, which takes minutes to find
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
    )(hypothesis.given(**strategy)(function))


def rows(largest):
    """Rows of every number type with values up to this one, exact in each."""
    elements = {
        "uint8": strategies.integers(0, largest),
        "int64": strategies.integers(-largest, largest),
        "bool": strategies.booleans(),
    }
    fractions = strategies.integers(-32 * largest, 32 * largest).map(lambda n: n / 32)
    return strategies.tuples(strategies.sampled_from(DTYPES), strategies.integers(1, 20)).flatmap(
        lambda kind: arrays_of.arrays(kind[0], (kind[1], FEATURES), elements=elements.get(kind[0], fractions))
    )


@pytest.fixture(scope="module", params=["float32", "float64"])
def model(request):
    return autoencoder(sparsity=KLSparsity(0.1, 3.0), weight_decay=0.01, dtype=request.param)


def tolerance(model):
    return {"float32": 1e-4, "float64": 1e-10}[model.compute_dtype]


def expected(model, x):
    """(J, gradients) in float64."""
    twin = Autoencoder(rho=0.1, beta=3.0, weight_decay=0.01)
    return twin.cost([w.astype("float64") for w in model.get_weights()], x.astype("float64"))


def assert_close(found, value, gradients, tolerance):
    assert found.value == pytest.approx(value, rel=tolerance)
    for one, other in zip(found.gradients, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * max(1.0, np.abs(other).max()))


@property_test(20, x=rows(2), chunk_size=strategies.integers(1, 30))
def test_any_data_have_the_objective_of_the_numpy_twin(model, x, chunk_size):
    found = keras_sae.objective(model, x, chunk_size=chunk_size)
    assert_close(found, *expected(model, x), tolerance(model))


@property_test(20, x=rows(255), chunk_size=strategies.integers(1, 30))
def test_data_that_saturate_all_units_have_a_finite_objective(model, x, chunk_size):
    found = keras_sae.objective(model, x, chunk_size=chunk_size)
    error = ((np.asarray(model(x.astype(model.compute_dtype)), "float64") - x) ** 2).sum() / 2 / len(x)
    assert found.parts[next(iter(found.parts))] == pytest.approx(error, rel=tolerance(model))
    assert np.isfinite(found.value)
    assert all(np.isfinite(g).all() for g in found.gradients)


@property_test(
    10, x=rows(2), sizes=strategies.tuples(*2 * [strategies.integers(1, 40)]), seed=strategies.integers(0, 99)
)
def test_neither_chunks_nor_order_nor_copies_of_rows_matter(model, x, sizes, seed):
    first = keras_sae.objective(model, x, chunk_size=sizes[0])
    shuffled = np.random.default_rng(seed).permutation(x)
    for other in (x, shuffled, np.concatenate([shuffled, x, x])):
        found = keras_sae.objective(model, other, chunk_size=sizes[1])
        if len(other) > len(x):
            found = keras_sae.objective(model, np.concatenate([x, x]), chunk_size=sizes[1])
        assert_close(found, first.value, first.gradients, tolerance(model))


@property_test(10, x=rows(2), places=strategies.lists(strategies.integers(0, FEATURES - 1), min_size=1, max_size=3),
               value=strategies.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e38]))  # fmt: skip
def test_numbers_that_no_objective_holds_give_one_that_is_not_finite_and_end_training(model, x, places, value):
    """`objective` says what J is, which is NaN or infinite; training says what is wrong with the data."""
    x = x.astype("float32")
    x[len(x) // 2, places] = value
    found = keras_sae.objective(model, x, chunk_size=7)
    if np.isfinite(value) and model.compute_dtype == "float64":  # the square of 1e38 is finite
        assert found.value == pytest.approx(len(set(places)) * value**2 / 2 / len(x), rel=0.01)
        return
    assert not np.isfinite(found.value)
    weights = model.get_weights()
    with raises(
        DivergedError, "The objective of ", " at iteration 1 ", "Expected finite data", "very large values in x"
    ):
        keras_sae.fit_lbfgs(model, x, max_iterations=2, chunk_size=7, verbose=0)
    model.set_weights(weights)


SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7)


@property_test(40, shape=SHAPES, dtype=strategies.sampled_from((*DTYPES, "complex64", "U3", "M8[s]", "O")))
def test_arrays_of_any_shape_and_type_have_an_objective_or_an_error_that_says_why(model, shape, dtype):
    x = np.zeros(shape, dtype)
    if len(shape) == 2 and shape[0] and shape[1] == FEATURES and dtype in DTYPES:
        assert_close(keras_sae.objective(model, x), *expected(model, x), tolerance(model))
        return
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the message is looked at below
        keras_sae.objective(model, x)
    message = str(refused.value)
    if len(shape) < 2 or shape[0] == 0:
        assert message.endswith(f"with at least one row. Received shape: {shape}")
    elif shape[1:] != (FEATURES,):
        fits = f"Expected data of shape (examples, {FEATURES}), as the model takes."
        assert message == f"{fits} Received shape: {shape}"
    else:
        assert message == f"Expected real numbers. Received: {x.dtype}. Convert them: x.astype('float32')."
