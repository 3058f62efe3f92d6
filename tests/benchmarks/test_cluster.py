"""python -m benchmarks.cluster: the tables of its figures, and the model on paper by hand."""

import pytest

from benchmarks import cluster


def test_the_model_by_hand():
    computing, star, tree = cluster.cost(1e9, 1000, 4, 1e-6, bandwidth=8 * cluster.PARAMETERS, latency=0.01)
    assert computing == pytest.approx(1.0)
    assert star == pytest.approx(4 + 2 * 0.5 + 2 * (0.01 + 0.004))  # 4 sums, 2 levels of weights, 2 rounds
    assert tree == pytest.approx(2 * (1 + 0.02) + 2 * 0.5)


def test_a_row_for_each_measurement():
    found = {0: {"seconds": 2.0, "value": 1.0}}
    sent = 2 * 2 * 8 * cluster.PARAMETERS
    found |= {n: {"seconds": 2.0 / n, "value": 1.0, "bytes": n * sent // 2, "recovery": 9.0} for n in (1, 2)}
    lines = [*cluster.table(found)]
    assert lines[2] == "| no cluster | 2.00 | 1.000 |  |  |  | 1.0000000000 |"
    assert lines[4] == f"| 2 actors | 1.00 | 0.500 | {sent / 1e6:.1f} | 0.50 | 9.0 | 1.0000000000 |"
    assert len([*cluster.model(1e-6, 1e9, 1e-3)]) == 8
