"""The examples of docs/zoo.md run as they stand."""

import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_sae import presets
from keras_sae.publishing import command

ROOT = presets.ZOO.parent
PAGE = (ROOT / "docs" / "zoo.md").read_text()
SNIPPETS = {code.splitlines()[-1]: code for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)}
SERVED, ON_DEVICE = re.findall(r"```py\n(.*?)```", PAGE, flags=re.DOTALL)  # which need an export
EXPECTED = {  # what a snippet leaves behind -> whether it is right
    "right": lambda right: right.mean() > 0.95,
    "untrained": lambda untrained: untrained.output_shape == (None, 10),
    "even": lambda even: even.history.history["accuracy"][-1] > 0.85,
    "pipeline": lambda pipeline: pipeline[-1].n_iter_[0] < 1000,
    "shares": lambda shares: shares["as they are"] < 0.1 and shares["shifted"] > 0.8,
}


@pytest.mark.parametrize("line", SNIPPETS)
def test_an_example_runs_alone(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    names = {}
    exec(compile(SNIPPETS[line], "docs/zoo.md", "exec"), names)
    for name in EXPECTED.keys() & names.keys():
        assert EXPECTED[name](names[name]), name
    if "pipeline" in names:
        digits = names["digits"]
        assert names["pipeline"].score(digits.x_test, digits.y_test) > 0.93  # 0.905 on pixels
    capsys.readouterr()


def test_every_result_is_looked_at():
    assert [name for name in EXPECTED if f"{name} = " not in "".join(SNIPPETS.values())] == []


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
