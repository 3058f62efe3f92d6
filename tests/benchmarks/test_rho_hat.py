"""python -m benchmarks.rho_hat on a few digits: every row, and figures that can be told beforehand."""

import sys

import pytest

from benchmarks import rho_hat


@pytest.fixture
def rows(monkeypatch, capsys):
    """The cells of each row of the table."""
    monkeypatch.setattr(rho_hat, "BATCH_SIZES", (4096,))
    monkeypatch.setattr(sys, "argv", ["rho_hat", "--digits", "40", "--epochs", "1", "--iterations", "3"])
    rho_hat.main()
    out = capsys.readouterr().out
    assert out.startswith("40 digits, seed 0")
    return [line.strip("| ").split(" | ") for line in out.splitlines()[4:]]


def test_a_row_for_each_batch_size_and_average_and_one_for_lbfgs(rows):
    assert [row[:2] for row in rows] == [
        ["40", "batch"],
        ["40", "moving"],
        ["all, by L-BFGS", "exact"],
    ]
    for _, _, *figures in rows:
        objective, mean, largest, rms, seconds = map(float, figures)
        assert objective > 0
        assert 0 < mean < 1
        assert abs(mean - rho_hat.RHO) <= rms + 1e-4 <= largest + 2e-4
        assert seconds > 0
    assert float(rows[2][2]) < float(rows[0][2])  # L-BFGS, beside one step of Adam from the same weights
