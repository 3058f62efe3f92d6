"""python -m benchmarks.startup: a row for each goal, of real processes behind --run-slow."""

import sys

import pytest

from benchmarks import startup


@pytest.fixture
def table(monkeypatch, capsys):
    """table(*flags) runs the command and returns its rows as lists of cells."""

    def table(*flags):
        monkeypatch.setattr(sys, "argv", ["startup", *flags])
        startup.main()
        return [[c.strip() for c in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[2:]]

    return table


def test_the_medians_of_rounds_stand_beside_their_goals(table, monkeypatch):
    took = {"keras": iter((3, 5, 4)), "keras_sae": iter((6, 6, 6)), "keras, keras_sae": iter((3.5, 5.1, 4.3))}
    helps = iter((0.1, 0.3, 0.2, 0.4, 0.6, 0.5))

    def seconds(command):
        return next(helps) if command[-1] == "--help" else next(took[command[-1].removeprefix("import ")])

    monkeypatch.setattr(startup, "commands", lambda: [["python", "-m", "quick"], [sys.executable, "-m", "slow"]])
    monkeypatch.setattr(startup, "seconds", seconds)
    monkeypatch.setattr(startup, "first_step", lambda data: {"embedded": 7}[data])
    assert table("--repeats", "3") == [
        ["import keras", "4.00", "3.00 to 5.00", ""],
        ["import keras_sae", "6.00", "6.00 to 6.00", ""],
        ["import keras, keras_sae", "4.30", "3.50 to 5.10", ""],
        ["what keras_sae adds to import keras", "0.30", "0.10 to 0.50", "0.2"],
        ["the slowest --help of 2: python -m slow", "0.50", "0.40 to 0.60", "0.3"],
        ["first step of train.mnist", "7.00", "7.00 to 7.00", "8"],
    ]


def test_every_command_is_asked():
    words = [command[2:] for command in startup.commands()]
    assert ["train.mnist"] in words
    assert ["export.serve"] in words
    assert ["keras_sae", "models", "publish"] in words


def test_a_training_that_fails_is_said(tmp_path):
    with pytest.raises(SystemExit, match="expected a line of the bar of layer 1"):
        startup.first_step(str(tmp_path / "absent"))


@pytest.mark.slow
def test_processes_are_measured(table, monkeypatch):
    monkeypatch.setattr(startup, "commands", lambda: [[sys.executable, "-m", "train.mnist"]])
    rows = table("--repeats", "1")
    assert [row[0] for row in rows][-2:] == [
        "the slowest --help of 1: python -m train.mnist",
        "first step of train.mnist",
    ]
    assert all(float(row[1]) > 0 for row in rows if not row[0].startswith("what"))
