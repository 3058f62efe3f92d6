"""export.serve.cluster: the same application on Ray Serve, a cluster of one node, as cluster.yaml configures it."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.export.conftest import export_here

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def found(tiny_run, tmp_path_factory):
    """What `ray_session` found, and the features that it should have."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'keras-sae[cluster]'")
    folder = tmp_path_factory.mktemp("served")
    export_here(tiny_run[0], folder, formats=["saved_model"])
    command = [sys.executable, "-m", "tests.export.serve.ray_session", str(folder), str(folder / "found.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "check.npz") as check:
        return json.loads((folder / "found.json").read_text()), check["encode/features"][:5]


@pytest.mark.slow
def test_a_replica_answers_as_tensorflow_serving_does(found):
    np.testing.assert_allclose(found[0]["features"], found[1], atol=1e-5)


@pytest.mark.slow
def test_a_replica_says_that_it_is_healthy(found):
    assert found[0]["health"][:2] == [200, 200]
    assert "version 1" in found[0]["health"][2]


@pytest.mark.slow
def test_replicas_are_added_under_load(found):
    assert found[0]["replicas_at_first"] == 1
    assert found[0]["scaled"]


@pytest.mark.slow
def test_a_new_version_takes_over_without_a_dropped_request(found):
    assert found[0]["rolled"]
    assert found[0]["answers"] == [200]
    assert found[0]["number"] > 200
