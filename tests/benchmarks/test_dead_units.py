"""python -m benchmarks.dead_units on few rows: a row for each data set and way."""

import sys

import numpy as np

from benchmarks import dead_units


def test_the_table_has_a_row_for_each_way(monkeypatch, capsys):
    x = np.random.default_rng(0).random((60, 9)).astype("float32")
    monkeypatch.setattr(dead_units, "data_sets", lambda options: {"digits": (x[:50], x[50:])})
    monkeypatch.setattr(dead_units, "K", {"digits": 2})
    monkeypatch.setattr(sys, "argv", ["dead_units", "--epochs", "2", "--units", "20"])
    dead_units.main()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[2] for row in cells] == list(dead_units.ways(2, 100))
    assert all(row[:2] == ["digits", "20"] and 0 <= int(row[3]) <= 20 and float(row[5]) < 1 for row in cells)


def test_patches_and_digits_are_scaled_rows():
    class Options:
        patches, data = 10, "embedded"

    sets = dead_units.data_sets(Options)
    assert [tuple(len(rows) for rows in pair) for pair in sets.values()] == [(10, 10_000), (3333, 667)]
    assert {x.shape[1] for x, _ in sets.values()} == {64, 784}
