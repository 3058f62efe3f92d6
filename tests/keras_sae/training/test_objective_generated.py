import pytest

from tests import generated

POLICIES = ["float32", "float64", "mixed_bfloat16", "bfloat16", "mixed_float16"]


@generated.property_test(12, POLICIES)
def test_the_objective_is_what_evaluate_and_the_numpy_twin_say(case):
    generated.check(case)


@pytest.mark.slow
@generated.property_test(400, POLICIES)
def test_the_objective_of_many_more_cases(case):
    generated.check(case)
