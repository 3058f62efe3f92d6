"""What the training commands do alike."""

import numpy as np
import pytest

import keras_sae
from keras_sae.cluster import worker
from tests.keras_sae.cluster import double
from train import experiment, mnist


@pytest.mark.parametrize(
    ("share", "number", "expected"),
    [
        (0.8, 10, (0.490162, 0.943318)),
        (1.0, 15, (15 / (15 + 1.959964**2), 1.0)),
        (0.0, 15, (0.0, 1 - 15 / (15 + 1.959964**2))),
        (0.97, 10_000, (0.966472, 0.973167)),
    ],
)
def test_the_interval_of_a_share_by_wilsons_formula(share, number, expected):
    np.testing.assert_allclose(experiment.wilson_interval(share, number), expected, atol=2e-6)


def test_adams_learning_rate_falls_at_the_end():
    rate = experiment.adam(100).learning_rate
    schedule = experiment.adam(100)._learning_rate
    assert float(rate) == pytest.approx(0.01)
    assert [float(schedule(step)) for step in (0, 80, 81, 100)] == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_the_table_of_stages():
    stages = [
        {"stage": "layer 1", "loss": 12.7123, "rho_hat": 0.10661, "seconds": 798.04, "accuracy": None},
        {"stage": "codes", "loss": 8, "rho_hat": 0.2, "l0": 32.04, "seconds": 0.26, "accuracy": None},
        {"stage": "finetuned", "loss": 0.04871, "seconds": 9, "accuracy": 0.97671},
    ]
    assert experiment.table(stages) == [
        "stage      objective        sparsity  accuracy  seconds",
        "layer 1        12.71  rho_hat 0.1066         -    798.0",
        "codes              8        L0 32.04         -      0.3",
        "finetuned    0.04871               -    97.67%      9.0",
    ]
    assert experiment.table([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_run_on_a_cluster_has_the_numbers_of_one_machine(optimizer, idx_folder, tmp_path, monkeypatch):
    addresses = []

    def joined(address):
        addresses.append(address)
        return double.cluster(actors=2)

    monkeypatch.setattr(keras_sae, "Cluster", joined)
    monkeypatch.setattr(worker, "use_threads", lambda number: None)
    settings = {"data": str(idx_folder), "units": (9, 4), "max_iterations": 2, "optimizer": optimizer}
    found = {
        cluster: mnist.run(mnist.Config(out=str(tmp_path / str(cluster)), cluster=cluster, **settings), verbose=0)
        for cluster in (None, "local", "ray://host:1")
    }
    assert addresses == [None, "ray://host:1"]
    names = [name for name in found[None] if not name.startswith("seconds")]
    for cluster in ("local", "ray://host:1"):
        assert [found[cluster][name] for name in names] == pytest.approx(
            [found[None][name] for name in names], rel=1e-3
        )
