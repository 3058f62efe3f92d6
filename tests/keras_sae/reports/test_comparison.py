"""keras-sae compare: the table, the plot, and what it says to mistakes."""

import json
import pathlib
import sys

import pytest
from PIL import Image

from keras_sae import __main__ as command
from keras_sae.reports import comparison
from tests.keras_sae.reports.pages import Page


@pytest.fixture
def runs(tmp_path):
    """Two runs, of which one has labels."""
    written = {
        "small": ({"units": [4], "seed": 0, "out": "a"}, {"objective": 12.5, "rho_hat_mean": 0.11, "seconds_total": 3}),
        "large": (
            {"units": [40, 9], "seed": 0, "out": "b"},
            {"accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95, "objective": 9.25, "num_train": 7},
        ),
    }
    for name, (settings, metrics) in written.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"settings": settings}))
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
    return [str(tmp_path / name) for name in written]


def test_the_table(runs, capsys):
    comparison.main(runs)
    assert capsys.readouterr().out == (
        "               small  large\n"
        "units              4   40 9\n"
        "objective       12.5   9.25\n"
        "accuracy           -    0.9\n"
        "rho_hat_mean    0.11      -\n"
        "seconds_total      3      -\n"
    )


def test_the_page_and_the_plot(runs, tmp_path, capsys):
    comparison.main([*runs, "--out", str(tmp_path / "new" / "folder")])
    page, picture = (tmp_path / "new" / "folder" / f"comparison.{kind}" for kind in ("html", "png"))
    assert capsys.readouterr().out.endswith(f"written     {page}\nwritten     {picture}\n")
    with Image.open(picture) as image:
        assert min(image.size) > 300
    found = Page(page.read_text())
    assert [e["text"] for e in found.all("caption")] == [
        "Settings that differ; “-” if a run has none",
        "Numbers; “-” if a run has none",
    ]
    assert [e["text"] for e in found.all("td")][:6] == ["4", "40 9", "12.5", "9.25", "-", "0.9"]
    (chart,) = found.data["charts"]["comparison"]
    assert {row["number"]: 0 for row in chart["data"]["values"]}.keys() == {
        "objective", "accuracy", "rho_hat_mean", "seconds_total",
    }  # fmt: skip


def test_numbers_that_are_zero_everywhere_have_no_bars(tmp_path):
    comparison.write(tmp_path, ["a", "b"], [], [("objective", [1.0, 2.0]), ("dead_units", [0, 0])])
    (chart,) = Page((tmp_path / "comparison.html").read_text()).data["charts"]["comparison"]
    assert {row["number"] for row in chart["data"]["values"]} == {"objective"}


def test_runs_of_one_name_are_told_apart_by_their_paths():
    assert comparison.short_names(["a/run", "b/run"]) == ["a/run", "b/run"]
    assert comparison.short_names(["a/one", "b/two/"]) == ["one", "two"]


def refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        comparison.main(words)
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def test_what_is_no_run(runs, tmp_path, capsys):
    line = refused([runs[0], str(tmp_path)], capsys)
    assert line == (
        f"keras-sae compare: error: Expected a run directory, with run.json. Received: {tmp_path}, which has no record "
        "of a run.\n"
    )


def test_a_run_without_numbers(runs, capsys):
    (pathlib.Path(runs[1]) / "metrics.json").unlink()
    assert f"Expected runs with numbers, metrics.json. Received: {runs[1]}, which has none" in refused(runs, capsys)


def test_runs_without_numbers_that_are_compared(runs, tmp_path, capsys):
    for run in runs:
        (pathlib.Path(run) / "metrics.json").write_text('{"num_train": 5}')
    assert "which have none that begin with objective, error" in refused(runs, capsys)


def test_one_run(runs, capsys):
    assert "Expected two runs or more to compare" in refused(runs[:1], capsys)


def test_packages_are_missed_before_anything_is_written(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    line = refused([*runs, "--out", str(tmp_path / "out")], capsys)
    assert line.endswith("Received: Python without it. pip install 'keras-sae[report]'\n")
    assert not (tmp_path / "out").exists()


def test_the_command(runs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["keras-sae", "compare", *runs])
    command.main()
    assert capsys.readouterr().out.startswith("               small  large\n")
