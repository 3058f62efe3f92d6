"""python -m benchmarks.penalties on few rows: a row for each data set and setting."""

import sys

import numpy as np

from benchmarks import penalties


def test_the_table_has_a_row_for_each_measurement(monkeypatch, capsys):
    x = np.random.default_rng(0).random((40, 6)).astype("float32")
    classes = (x[:, 0] > 0.5).astype(int)
    monkeypatch.setattr(penalties, "data_sets", lambda: {"random": (x, classes, 4)})
    monkeypatch.setattr(sys, "argv", ["penalties", "--seeds", "1", "--iterations", "3"])
    penalties.main()
    cells = [line.strip("|").split("|") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [[c.strip() for c in row[:3]] for row in cells] == [
        ["random", "6", "default"], ["random", "6", penalties.FORMER]
    ]  # fmt: skip
    assert all(0 <= float(row[3].strip(" %")) <= 100 and float(row[4]) > 0 for row in cells)


def test_data_are_in_the_range_of_the_outputs():
    for x, y, units in penalties.data_sets().values():
        assert (x.min(), x.max()) == (0, 1)
        assert len(x) == len(y)
        assert units > 0
