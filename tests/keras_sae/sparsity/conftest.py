"""Tests of methods run without graphs, but for those that are about compiled functions."""

import pytest


@pytest.fixture(autouse=True)
def _without_graphs(eagerly):
    pass
