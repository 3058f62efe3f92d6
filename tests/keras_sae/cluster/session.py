"""What a driver does with Ray on one machine, in a process of its own: python -m tests.keras_sae.cluster.session OUT.

Ray starts processes, and warns of what is not ours. What it found is written as JSON.
"""

import json
import os
import pathlib
import signal
import sys
import time

import keras
import numpy as np

import keras_sae
from keras_sae.cluster.ray_engine import RayEngine
from keras_sae.errors import InputError

OPTIONS = {"iterations": 3, "verbose": 0}
X = np.random.default_rng(0).uniform(0.05, 0.95, (400, 30)).astype("float32")
LABELS = np.random.default_rng(1).integers(0, 3, 400)


class Killing(RayEngine):
    """An engine that kills an actor before the first call of each of these methods, one after the other."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.deaths = []

    def call(self, worker, method, *arguments):
        if self.deaths[:1] == [method]:
            del self.deaths[0]
            os.kill(self.ray.get(worker.__ray_call__.remote(lambda self: os.getpid())), signal.SIGKILL)
        return super().call(worker, method, *arguments)


def train(x, cluster=None, labels=None, **options):
    """Train a stack of two, a head and all of it; return all weights."""
    keras.utils.set_random_seed(0)
    stack = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(units) for units in (8, 5)])
    stack.pretrain(x, cluster=cluster, **OPTIONS, **options)
    model = stack.classifier(3)
    labels = LABELS if cluster is None or isinstance(x, np.ndarray) else None
    keras_sae.fit_head(model, x, labels, cluster=cluster, **OPTIONS, **options)
    keras_sae.fit(model, x, labels, cluster=cluster, **OPTIONS, **options)
    return np.concatenate([w.ravel() for m in (stack, model) for w in m.get_weights()])


def error(function):
    try:
        function()
    except InputError as found:
        return str(found)
    return None


def main(out):
    folder = pathlib.Path(out).parent
    files = [folder / f"part-{i}.npy" for i in range(3)]
    for file, rows in zip(files, np.array_split(X, 3), strict=True):
        np.save(file, rows)
    np.save(folder / "wide.npy", np.ones((2, 31)))
    here, found = train(X), {}
    trained = {}
    for actors in (1, 2, 4):
        engine = Killing(None, 4, 1)
        with keras_sae.Cluster(actors=actors, engine=engine) as cluster:
            trained[actors] = train(X, cluster)
            if actors == 2:
                adam = train(X, cluster, optimizer="adam")
                engine.deaths = ["open", "prepare", "activations", "encode", "losses"]
                began = time.monotonic()
                killed = train(X, cluster)
                found["seconds_with_deaths"] = time.monotonic() - began
                found["deaths_left"] = engine.deaths
                ae = keras_sae.SparseAutoencoder(4)
                keras_sae.fit(ae, files, cluster=cluster, **OPTIONS)
                found["of_files"] = float(
                    keras_sae.objective(ae, cluster.rows(files)).value - keras_sae.objective(ae, X).value
                )
                found["widths"] = error(lambda: cluster.rows([*files, folder / "wide.npy"]))
                found["missing"] = error(lambda: cluster.rows([*files, folder / "none.npy"]))
    difference = np.linalg.norm(trained[2] - here) / np.linalg.norm(here)
    found["from_one_machine"] = float(difference)
    found["same_bits"] = [bool(np.array_equal(trained[1], other)) for other in (trained[2], trained[4], killed)]
    found["adam_from_one_machine"] = float(np.linalg.norm(adam - train(X, optimizer="adam")) / np.linalg.norm(adam))
    pathlib.Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
