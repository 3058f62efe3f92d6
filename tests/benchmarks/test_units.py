"""python -m benchmarks.units on few rows: a row for each data set and number of units."""

import sys

import numpy as np

from benchmarks import units
from train import features


def test_the_table_has_a_row_for_each_measurement(monkeypatch, capsys):
    x = np.random.default_rng(0).random((40, 6)).astype("float32")
    monkeypatch.setattr(units, "data_sets", lambda: {"random": (x, (x[:, 0] > 0.5).astype(int))})
    monkeypatch.setattr(units, "LARGEST", 12)
    monkeypatch.setattr(sys, "argv", ["units", "--seeds", "1", "--iterations", "3"])
    units.main()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:3] for row in cells] == [["random", "6", n] for n in ("6", "12 (default)", "64", "200")]
    assert all(0 <= float(row[3].strip("%")) <= 100 and float(row[4]) < 1 for row in cells)


def test_the_default_is_that_of_the_command():
    assert units.MOST == features.MOST_UNITS
