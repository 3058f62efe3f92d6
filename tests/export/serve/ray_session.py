"""Serves an export as cluster.yaml says, on one node: python -m tests.export.serve.ray_session EXPORT OUT.

Ray starts other processes, and warns of what is not ours. What it found is written as JSON.
"""

import concurrent.futures
import json
import os
import pathlib
import shutil
import socket
import sys
import time
import urllib.request

import numpy as np

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}

import ray
import yaml
from ray import serve
from ray.serve.schema import ServeDeploySchema

CONFIG = pathlib.Path(__file__).parents[3] / "export" / "serve" / "cluster.yaml"
QUICK = {"upscale_delay_s": 1, "look_back_period_s": 2, "metrics_interval_s": 0.5, "target_ongoing_requests": 1}
SECONDS = 120  # that a change may take


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def configuration(export):
    """What cluster.yaml says, with the marked things changed; replicas come quickly."""
    config = yaml.safe_load(CONFIG.read_text())
    config["http_options"]["port"] = free_port()
    [application] = config["applications"]
    application["args"]["export"] = str(export)
    application["deployments"][0]["autoscaling_config"] |= {**QUICK, "max_replicas": 2}
    return config


def get(url, rows=None):
    data = None if rows is None else json.dumps({"instances": rows}).encode()
    with urllib.request.urlopen(url, data, timeout=60) as answer:
        return answer.status, answer.read().decode()


def wait_for(happened):
    """Return whether something happened in time."""
    end = time.monotonic() + SECONDS
    while not (found := happened()) and time.monotonic() < end:
        time.sleep(0.5)
    return bool(found)


def replicas():
    """How many replicas run."""
    status = serve.status().applications["keras-sae"].deployments["encoder"]
    return status.replica_states.get("RUNNING", 0)


def main(export, out):
    export = pathlib.Path(export)
    with np.load(export / "check.npz") as check:
        rows = check["inputs"][:5].tolist()
    config = configuration(export)
    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    serve.start(http_options=config["http_options"])
    serve.context._get_global_client().deploy_apps(ServeDeploySchema.model_validate(config))
    url = f"http://127.0.0.1:{config['http_options']['port']}"
    wait_for(lambda: serve.status().applications["keras-sae"].status == "RUNNING")
    predict, found = f"{url}/v1/models/encoder:predict", {}
    found["features"] = json.loads(get(predict, rows)[1])["predictions"]
    found["health"] = [get(f"{url}/healthz")[0], *get(f"{url}/readyz")]
    found["replicas_at_first"] = replicas()
    answers, stop = [], []

    def ask():
        while not stop:
            answers.append(get(predict, rows)[0])

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        asking = [pool.submit(ask) for _ in range(16)]
        found["scaled"] = wait_for(lambda: replicas() == 2)
        versions = export / "saved_model"
        shutil.copytree(versions / "1", versions / "next")
        os.replace(versions / "next", versions / "2")
        before = len(answers)
        found["rolled"] = wait_for(lambda: "version 2" in get(f"{url}/readyz")[1] and len(answers) > before + 200)
        stop.append(True)
        for future in asking:
            future.result()  # raises what a request met
    found["answers"] = sorted(set(answers))
    found["number"] = len(answers)
    pathlib.Path(out).write_text(json.dumps(found))
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
