"""What docs/zoo.md says of commands and exports; its examples run in tests/test_readme.py."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from keras_sae.publishing import command
from keras_sae.runs import presets

ROOT = presets.ZOO.parent
PAGE = (ROOT / "docs" / "zoo.md").read_text()
SERVED, ON_DEVICE = re.findall(r"```py\n(.*?)```", PAGE, flags=re.DOTALL)  # which need an export


def test_the_flags_are_those_of_the_command(capsys):
    [commands] = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
    with pytest.raises(SystemExit):
        command.main(["publish", "--help"])
    text = capsys.readouterr().out
    assert [flag for flag in re.findall(r"--[\w-]+", commands) if flag not in text] == []


@pytest.mark.slow
def test_the_export_answers_requests_and_runs_on_a_device(tmp_path, monkeypatch, capsys):
    """keras-sae serve stands in for TensorFlow Serving: it has the same requests."""
    [export] = re.findall(r"^    keras-sae (export .*)$", PAGE, flags=re.MULTILINE)
    words = [str(ROOT / word) if word.startswith("models/") else word for word in export.split()]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run = [sys.executable, "-m", "keras_sae"]
    subprocess.run([*run, *words], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path)
    exec(ON_DEVICE, device := {})
    np.testing.assert_array_equal(device["classify"](inputs=device["rows"])["label"], device["y"][:3])
    command = [*run, "serve", "exports/digits", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            [address] = next(found for line in server.stdout if (found := re.findall(r"http://127.0.0.1:\d+", line)))
            exec(SERVED.replace("http://127.0.0.1:8501", address), served := {})
        finally:
            server.terminate()
    assert [answer["label"] for answer in served["answers"]] == list(served["y"][:3])
    assert pathlib.Path("exports/digits/saved_model").is_dir()
    capsys.readouterr()
