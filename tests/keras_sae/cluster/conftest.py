"""Clusters whose actors are objects of this process."""

import pytest

from keras_sae.cluster import worker


@pytest.fixture(autouse=True)
def _threads_as_they_are(monkeypatch):
    """The double of an actor computes in this process, whose threads are those of all tests."""
    monkeypatch.setattr(worker, "use_threads", lambda number: None)
