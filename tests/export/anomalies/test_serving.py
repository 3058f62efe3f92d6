"""Odd rows by a server: the signature `score`, and the usual errors in the metadata."""

import numpy as np
import pytest

from tests.export.serve.conftest import MODEL, PREDICT, serving


@pytest.fixture(scope="module")
def client(exported):
    with serving(exported) as client:
        yield client


def test_the_answer_is_that_of_keras(client, stack, x):
    body = {"signature_name": "score", "inputs": x[5:8].astype("float64").tolist()}
    found = client.post(PREDICT, json=body).json()["outputs"]
    terms = stack.reconstruction_error(x[5:8], per_feature=True)
    np.testing.assert_allclose(found["column_errors"], terms, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(found["error"], terms.sum(axis=1), rtol=1e-3, atol=1e-7)
    assert list(found) == ["column_errors", "error"]


def test_the_metadata_say_which_errors_are_usual(client, usual, x):
    schema = client.get(f"{MODEL}/metadata").json()["metadata"]["schema"]
    assert schema["usual_errors"] == usual.record()
    body = {"signature_name": "score", "instances": x.astype("float64").tolist()}
    errors = [row["error"] for row in client.post(PREDICT, json=body).json()["predictions"]]
    odd = [place for place, error in enumerate(errors) if error > schema["usual_errors"]["quantiles"]["0.99"]]
    assert 7 in odd
    assert len(odd) < 4
