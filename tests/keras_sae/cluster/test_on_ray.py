"""The cluster on Ray itself, one node, in processes of their own; and what is said if there is none."""

import json
import pathlib
import subprocess
import sys
import types

import pytest

import keras_sae
from keras_sae.cluster import ray_engine
from keras_sae.cluster.actors import ActorDied
from keras_sae.errors import InputError, MissingPackageError
from tests.keras_sae.conftest import raises

ROOT = pathlib.Path(__file__).parents[3]
REASON = "needs Ray: pip install 'keras-sae[cluster]'"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What `session` found."""
    pytest.importorskip("ray", reason=REASON)
    out = tmp_path_factory.mktemp("session") / "found.json"
    command = [sys.executable, "-m", "tests.keras_sae.cluster.session", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.slow
def test_a_stack_a_head_and_all_of_it_are_those_of_one_machine(found):
    assert found["from_one_machine"] < 1e-4  # float32, after nine steps of L-BFGS
    assert found["adam_from_one_machine"] < 1e-5
    assert abs(found["of_files"]) < 1e-6


@pytest.mark.slow
def test_results_have_the_same_bits_for_2_and_4_actors_and_after_deaths_in_every_call(found):
    assert found["same_bits"] == [True] * 3
    assert found["deaths_left"] == []


@pytest.mark.slow
def test_errors_of_actors_are_one_line(found):
    assert found["widths"].startswith("Expected shards of one width. Received: 30 features in ")
    assert "none.npy, which does not exist" in found["missing"]
    assert "\n" not in found["widths"] + found["missing"]


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with raises(MissingPackageError, "Expected ray to train on a cluster.", "pip install 'keras-sae[cluster]'"):
        keras_sae.Cluster()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nobody_answers_is_refused_at_once(address, monkeypatch):
    ray = type(sys)("ray")
    ray.is_initialized = lambda: False
    monkeypatch.setitem(sys.modules, "ray", ray)
    with raises(InputError, f"Expected a Ray cluster at {address}. Received: none that answers", "Connection refused"):
        keras_sae.Cluster(address)


def test_a_cluster_without_room_is_told_from_one_that_is_not_there(monkeypatch):
    class Timeout(Exception):
        pass

    def get(references, timeout):
        raise Timeout

    ray = type(sys)("ray")
    ray.is_initialized, ray.get, ray.cluster_resources = lambda: True, get, lambda: {"CPU": 4.0}
    ray.remote = lambda worker: ray
    worker = type("Worker", (), {"__ray_ready__": types.SimpleNamespace(remote=lambda: None)})
    ray.options = lambda **options: types.SimpleNamespace(remote=worker)
    ray.exceptions = type("Exceptions", (), {"GetTimeoutError": Timeout, "RayError": Exception})
    monkeypatch.setitem(sys.modules, "ray", ray)
    expected = "Expected room for 3 more actors of 2 cores. Received: a cluster of 4 cores that had none in 300 s"
    with raises(InputError, expected, "Ask for fewer actors or threads"):
        keras_sae.Cluster(actors=3, threads=2)


def test_a_machine_without_the_library_is_told_from_an_actor_that_died():
    text = "The actor died because of an error in its creation task\nModuleNotFoundError: No module named 'keras_sae'\n"
    error = ray_engine.start_error(RuntimeError(text))
    assert isinstance(error, InputError)
    version = keras_sae.__version__
    assert str(error) == (
        f"Expected keras_sae {version} on each machine of the cluster. Received: one without it, or with another "
        "(ModuleNotFoundError: No module named 'keras_sae'). There: "
        f"pip install 'keras-sae[cluster]=={version}'"
    )
    assert isinstance(ray_engine.start_error(RuntimeError("The node died.\nmore")), ActorDied)
