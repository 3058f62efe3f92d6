"""report.html of runs, which training does without if it must."""

import json
import sys

import numpy as np
import pytest

from keras_sae.reports import report
from tests.keras_sae.reports.pages import Page
from train import encoder_problem, experiment, features, softmax


@pytest.fixture(autouse=True)
def _with_reports(_without_reports, monkeypatch):
    monkeypatch.setattr(experiment, "write_report", report.write_report)


@pytest.fixture
def page(run):
    """page(module, **settings) -> the page of a run."""
    return lambda module, **settings: Page((run(module, **settings)[0] / "report.html").read_text())


def titles(page):
    return [element["text"] for element in page.all("h2")]


def test_digits(tiny_run):
    made = Page((tiny_run[0] / "report.html").read_text())
    assert [layer["name"] for layer in made.data["layers"]] == ["layer 1", "layer 2"]
    assert [chart["title"] for chart in made.data["charts"]["curves"]] == ["layer 1", "layer 2", "head", "finetuned"]
    assert {"examples", "looks-0", "adds-0", "looks-1", "adds-1", "rebuilt"} == {*made.data["sprites"]}
    assert titles(made) == [
        "What each unit detects", "What comes back", "How sparse the units are", "How training went",
        "Classes and mistakes", "Numbers", "How it was made", "Use it",
    ]  # fmt: skip
    text = made.all("main")[0]["text"]
    assert "all rows of the training set" in text
    assert "test accuracy after fine-tuning the whole network" in text
    assert "classify" in text


def test_the_histogram_is_that_of_the_training_set(tiny_run):
    out, metrics = tiny_run
    chart, _ = Page((out / "report.html").read_text()).data["charts"]["rho_hat"]
    bars = chart["layer"][0]["data"]["values"]
    mean = sum((bar["low"] + bar["high"]) / 2 * bar["count"] for bar in bars) / 16
    width = bars[0]["high"] - bars[0]["low"]
    assert mean == pytest.approx(metrics["rho_hat_mean_1"], abs=width / 2)


def test_a_table_with_names_and_classes(page, tmp_path):
    rows = [f"{a},{a % 2},{'even' if a % 2 else 'odd'}" for a in range(40)]
    (tmp_path / "x.csv").write_text("\n".join(["<b>$,parity,kind", *rows]) + "\n")
    made = page(features, data=(str(tmp_path / "x.csv"),), labels="kind", units=(3,), max_iterations=5)
    assert made.data["sprites"] == {}
    assert {column["name"] for column in made.data["layers"][0]["units"][0]["columns"]} == {"<b>$", "parity"}
    assert made.data["classes"] == ["even", "odd"]
    assert made.all("b") == []


def test_a_run_without_an_autoencoder(page, idx_folder):
    made = page(softmax, data=str(idx_folder), max_iterations=2)
    assert made.data["layers"] == []
    assert titles(made) == ["How training went", "Classes and mistakes", "Numbers", "How it was made", "Use it"]


def test_a_run_of_few_columns(page):
    made = page(encoder_problem, max_iterations=500)
    assert [unit["columns"][0]["name"][:7] for unit in made.data["layers"][0]["units"]] == ["column "] * 3


def test_training_goes_on_without_the_packages(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).uniform(size=(20, 4)))
    out, _ = run(features, data=(str(tmp_path / "x.npy"),), units=(2,), max_iterations=2)
    assert not (out / "report.html").exists()
    assert json.loads((out / "metrics.json").read_text())
    printed = capsys.readouterr().out
    line = "Expected jinja2 to write a report. Received: Python without it. pip install 'keras-sae[report]'"
    assert f"note        no report.html: {line}\n" in printed
