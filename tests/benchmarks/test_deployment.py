"""python -m benchmarks.deployment on a small one: all files and Keras encode the same rows."""

import sys

import pytest

from benchmarks import deployment


@pytest.mark.slow
def test_every_file_is_measured_beside_keras(monkeypatch, capsys):
    flags = ["--features", "24", "--units", "300", "--rows", "1", "64", "--quantize", "none", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["deployment", *flags])
    deployment.main()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[4:-2]]
    assert [row[0] for row in rows] == ["Keras", "saved_model/1", "encoder.onnx", "encoder.tflite"]
    assert len({row[3] for row in rows}) == 1  # active units
    assert float(rows[0][3]) > 0
    assert rows[0][-1].endswith("(1.00)")
    assert all(float(row[4].replace(",", "")) > 10 for row in rows)
