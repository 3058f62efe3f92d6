"""A way to run an experiment in a test, with what holds for all of them."""

import json

import numpy as np
import pytest

import keras_sae
from keras_sae import runs
from keras_sae.callbacks import TensorBoard
from keras_sae.reports import report
from keras_sae.training import lbfgs
from train import experiment


def interrupt_at(patch, number):
    """Let this step of L-BFGS, counted from 1 over all layers, be interrupted, as by Ctrl-C.  patch: a monkeypatch."""
    step, steps = lbfgs._Search.step, []

    def stop(self, tolerance):
        steps.append(self)
        if len(steps) == number:
            raise KeyboardInterrupt
        return step(self, tolerance)

    patch.setattr(lbfgs._Search, "step", stop)


@pytest.fixture(autouse=True)
def _without_reports(monkeypatch):
    """Let runs have no report.html, and no pictures in their logs: tests/train/test_reports.py has some."""
    monkeypatch.setattr(experiment, "write_report", lambda directory, *_, **__: directory / report.FILE)
    monkeypatch.setattr(TensorBoard, "_look", lambda self: None)
    monkeypatch.setattr(TensorBoard, "_project", lambda self: None)


@pytest.fixture
def run(tmp_path):
    """run(module, **settings) -> (run directory, metrics), with the checks that hold for every experiment."""

    def run(module, **settings):
        out = tmp_path / "run"
        metrics = module.run(module.Config(out=str(out), **settings), verbose=0)
        assert json.loads((out / "metrics.json").read_text()) == metrics
        assert all(np.isfinite(value) for value in metrics.values())
        assert metrics["seconds_total"] > 0
        config = runs.read_config(out)
        assert config["command"].startswith(f"python -m {module.PROGRAM} ")
        assert config["command"] in (out / "README.md").read_text()
        examples = runs.load_examples(out)[0]
        assert keras_sae.load_encoder(out)(examples).shape[0] == len(examples)
        assert list(out.glob("*.png"))
        return out, metrics

    return run
