"""The server: no request makes it fail, whatever it says."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings, strategies as st

from export.serve import application
from tests.export.serve.conftest import LIMITS, PREDICT, SIGNATURES, is_error, put


def anything(leaves):
    return st.recursive(
        leaves, lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=3)
    )


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ROWS = st.lists(st.lists(st.integers() | st.floats(), min_size=2, max_size=4), max_size=4)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "signature_name": st.sampled_from(["serving_default", *SIGNATURES[:-1]]) | anything(LEAVES),
        "instances": ROWS | anything(LEAVES),
        "inputs": ROWS | st.fixed_dictionaries({"a": ROWS, "b": st.lists(st.integers())}) | anything(LEAVES),
    },
)


def answers_below_500(client, request):
    answer = client.post(PREDICT, content=json.dumps(request))  # json writes NaN and Infinity
    assert answer.status_code in (200, 400), answer.text
    assert answer.status_code == 200 or is_error(answer)


@given(REQUESTS | anything(LEAVES))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_makes_the_server_fail(client, request_):
    answers_below_500(client, request_)


@pytest.mark.slow
@given(REQUESTS | anything(LEAVES))
@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_of_thousands_makes_the_server_fail(client, request_):
    answers_below_500(client, request_)


def ask_what_the_openapi_allows(export, examples):
    app = application.create(export, limits=LIMITS)  # of its own: schemathesis starts and stops it
    app.state.models.refresh()
    for operation in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations():

        @given(operation.ok().as_strategy())
        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        def ask(case):
            answer = case.call()
            assert answer.status_code < 500
            assert answer.status_code < 400 or list(answer.json()) == ["error"]

        ask()


def test_no_request_that_the_openapi_allows_makes_the_server_fail(saved, tmp_path):
    put(saved[1], tmp_path, 1)
    ask_what_the_openapi_allows(tmp_path, 8)


@pytest.mark.slow
def test_none_of_hundreds_of_requests_that_the_openapi_allows_makes_the_server_fail(saved, tmp_path):
    put(saved[1], tmp_path, 1)
    ask_what_the_openapi_allows(tmp_path, 300)
