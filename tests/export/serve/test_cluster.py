"""export.serve.cluster: the same application on Ray Serve, a cluster of one node on loopback."""

import json
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.export.conftest import export_here

ROOT = pathlib.Path(__file__).parents[3]

# In a process of its own: Ray starts others, and warns of what is not ours.
SERVE = """
import json, sys, urllib.request
import ray
from ray import serve
from export.serve.cluster import application
export, port, rows = sys.argv[1], int(sys.argv[2]), json.load(sys.stdin)
ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", logging_level="ERROR")
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(application({"export": export, "name": "digits"}), route_prefix="/")
url = f"http://127.0.0.1:{port}/v1/models/digits:predict"
with urllib.request.urlopen(url, json.dumps({"instances": rows}).encode(), timeout=60) as answer:
    print("ANSWER" + answer.read().decode())
serve.shutdown()
ray.shutdown()
"""


@pytest.mark.slow
def test_a_replica_answers_as_tensorflow_serving_does(tiny_run, tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install 'keras-sae[cluster]'")
    export_here(tiny_run[0], tmp_path, formats=["saved_model"])
    with np.load(tmp_path / "check.npz") as check:
        rows, features = check["inputs"][:5], check["encode/features"][:5]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path), str(port)],
        cwd=ROOT, input=json.dumps(rows.tolist()), capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = next(line for line in done.stdout.splitlines() if line.startswith("ANSWER"))
    found = json.loads(answer.removeprefix("ANSWER"))["predictions"]
    np.testing.assert_allclose(found, features, atol=1e-5)
