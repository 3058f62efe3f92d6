"""Tests of methods run without graphs, but for those that are about compiled functions."""

import pytest


@pytest.fixture
def compiled():
    """With graphs, of a test that asks for it."""


@pytest.fixture(autouse=True)
def _without_graphs(request):
    if "compiled" not in request.fixturenames:
        request.getfixturevalue("eagerly")
