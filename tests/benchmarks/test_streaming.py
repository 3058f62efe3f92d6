"""python -m benchmarks.streaming on a few hundred rows, each measurement in this process."""

import sys

import numpy as np
import pytest

from benchmarks import streaming


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.npy"
    streaming.write_rows(path, 4300, None)
    return str(path)


def test_rows_are_the_digits_moved_by_a_pixel_or_two(path, digits):
    x = np.load(path, mmap_mode="r")
    assert (x.shape, x.dtype) == ((4300, 784), "uint8")
    assert len(digits.x_train) == 4000
    originals = digits.x_train.reshape(-1, 28, 28)
    for row in (0, 1234, 4000, 4299):
        image = x[row].reshape(28, 28) / 255
        shifts = [
            np.abs(np.roll(originals[row % 4000], (down, right), (0, 1)) - image).max()
            for down in range(-2, 3)
            for right in range(-2, 3)
        ]
        assert min(shifts) < 0.06  # as bright but for a twentieth
    assert np.mean(x[4000:] == x[:300]) < 0.99  # each copy in another place


def test_objectives_and_epochs(path):
    found = [streaming.measure(path, 300, "100"), streaming.measure(path, 300, "1000")]
    found.append(streaming.measure(path, 300, "minibatches"))
    assert all(result["seconds"] > 0 and result["peak"] > 10 for result in found)
    assert found[0]["value"] == pytest.approx(found[1]["value"], rel=1e-6)
    assert found[0]["value"] > 1
    assert "value" not in found[2]


def test_the_inputs_of_a_second_layer_are_the_same_from_disk_and_anew(path):
    disk, anew = (streaming.measure(path, 300, what) for what in ("disk", "anew"))
    assert disk["value"] == pytest.approx(anew["value"], rel=1e-6)
    assert "value" not in streaming.measure(path, 300, "write")


def test_the_table_has_a_row_for_each_measurement(monkeypatch, capsys):
    monkeypatch.setattr(streaming, "in_its_own_process", lambda path, rows, what: streaming.measure(path, rows, what))
    monkeypatch.setattr(streaming, "CHUNKS", (50, 200))
    flags = ["--rows", "100", "200", "--others-up-to", "100"]
    monkeypatch.setattr(sys, "argv", ["streaming", *flags])
    streaming.main()
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    titles = [[cell.strip() for cell in line if cell.strip()][:2] for line in lines[1:]]
    assert titles == [
        ["100", "objective, chunks of 50"],
        ["100", "objective, chunks of 200"],
        ["100", "an epoch, batches of 256"],
        ["100", "writing layer 1's features"],
        ["100", "layer 2, its inputs on disk"],
        ["100", "layer 2, its inputs anew"],
        ["200", "objective, chunks of 50"],
        ["200", "objective, chunks of 200"],
    ]
