"""python -m benchmarks.anomalies on few rows: a row of the table for each data set, and what is scored."""

import sys

import numpy as np

from benchmarks import anomalies


def test_rows_far_from_the_others_are_told_from_them(monkeypatch, capsys):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, size=(60, 6)), rng.normal(9, 1, size=(10, 6))])
    monkeypatch.setattr(anomalies, "data_sets", lambda: {"far": [(x, np.arange(70) >= 60)]})
    monkeypatch.setattr(sys, "argv", ["anomalies", "--splits", "2", "--iterations", "20"])
    anomalies.main()
    [row] = capsys.readouterr().out.splitlines()[2:]
    name, columns, *areas, level, alarms, finds = (cell.strip() for cell in row.strip("|").split("|"))
    assert (name, columns) == ("far", "6")
    assert all(float(area.split(" ± ")[0]) > 0.95 for area in areas)
    assert len(areas) == 3
    assert 0.5 <= float(level) <= 0.99
    assert 0 <= float(alarms.strip("%")) <= 100
    assert float(finds.strip("%")) > 90


def test_what_is_usual_and_odd_in_the_data():
    found = anomalies.data_sets()
    [(x, odd)] = found["breast cancer, malignant among benign"]
    assert (x.shape, odd.sum()) == ((569, 30), 212)
    for name, cases in found.items():
        if name.startswith("digits"):
            shares = [odd.mean() for _, odd in cases]
            assert len(cases) == 10
            assert np.all((np.array(shares) > 0.5) == ("others among one" in name))
