"""python -m benchmarks.dictionaries on a small one: a row for each way to decode, and the same training."""

import sys

import pytest

from benchmarks import dictionaries


@pytest.mark.slow
def test_both_ways_train_alike(monkeypatch, capsys):
    flags = ["--features", "12", "--units", "40", "--k", "3", "--batch-size", "16", "--steps", "2"]
    monkeypatch.setattr(sys, "argv", ["dictionaries", *flags])
    dictionaries.main()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["12, 40", "dense"], ["12, 40", "rows"]]
    assert rows[0][-1] == rows[1][-1]  # the loss
    assert all(float(row[4]) > 100 for row in rows)
