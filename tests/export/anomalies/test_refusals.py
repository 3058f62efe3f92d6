"""python -m export.anomalies: what it refuses, in one line, before it writes."""

import json
import shutil

import pytest

import keras_sae
from keras_sae import runs


@pytest.fixture
def line(refused, data, tmp_path):
    """line(run, *flags) -> the one line with which the command ended."""

    def line(run, *flags):
        found = refused(run, "--data", data, "--out", tmp_path / "out.csv", *flags)
        assert not (tmp_path / "out.csv").exists()
        return found

    return line


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--quantile", "0.7"], "--quantile: invalid choice: 0.7 (choose from 0.5, 0.9, 0.95, 0.99, 0.999)"),
        (["--threshold", "-1"], "--threshold: expected a number from 0 on, received: -1"),
        (["--threshold", "nan"], "--threshold: expected a number from 0 on, received: nan"),
        (["--threshold", "much"], "--threshold: expected a number from 0 on, received: much"),
        (["--threshold", "1", "--quantile", "0.9"], "--quantile: not allowed with argument --threshold"),
        (["--out", "x.npy"], "--out: expected a name that ends in .parquet, .csv or no suffix, received: x.npy"),
    ],
)
def test_wrong_flags(line, run, flags, said):
    assert f"error: argument {said}. See --help." in line(run, *flags)


def test_what_is_no_run_and_no_export(line, run, tmp_path):
    assert f"Expected a run or an export. Received: {tmp_path / 'no'}, which does not exist." in line(tmp_path / "no")
    (tmp_path / "empty").mkdir()
    assert "Expected an export with saved_model/1/, encoder.tflite or encoder.onnx." in line(tmp_path / "empty")
    said = f"Expected no --model, as {run} is a run, not an export. Received: onnx. Leave it out."
    assert said in line(run, "--model", "onnx")


def changed(source, place, file, change):
    """A copy of a run or export, after a change of what one of its JSON files holds."""
    shutil.copytree(source, place)
    content = json.loads((place / file).read_text())
    change(content)
    (place / file).write_text(json.dumps(content))
    return place


def test_an_export_that_says_no_usual_errors(line, exported, tmp_path):
    def without(content):
        del content["files"]["saved_model/1"]["schema"]["usual_errors"]

    found = line(changed(exported, tmp_path / "older", "export.json", without))
    assert "Expected an export that says which errors are usual. Received: " in found
    assert "Name the run itself, whose held-out rows are measured then." in found


def test_an_export_of_an_earlier_version(line, exported, tmp_path, monkeypatch):
    monkeypatch.setattr("export.anomalies.scoring.SIGNATURE", "other")
    found = line(exported)
    assert "score, serving_default, top. Received: other. Export its run again, as SavedModel or LiteRT, " in found


def test_a_run_without_rows_to_measure(line, run, tmp_path):
    older = changed(run, tmp_path / "older", "run.json", lambda record: record.pop("usual_errors"))
    (older / "examples.npz").unlink()
    found = line(older)
    assert f"Expected {older / 'examples.npz'} with inputs to check results on." in found
    assert "or write one: keras_sae.runs.save_examples(path, x)." in found


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(usual_errors={}),
        lambda record: record["usual_errors"].update(rows="many"),
        lambda record: record["usual_errors"]["quantiles"].pop("0.9"),
        lambda record: record["usual_errors"].update(columns=[[1.0] * 5]),
        lambda record: record["usual_errors"]["columns"].__setitem__(0, float("nan")),
    ],
)
def test_damaged_usual_errors(line, run, tmp_path, change):
    damaged = changed(run, tmp_path / "damaged", "run.json", change)
    said = f"Received: {damaged}, whose usual_errors are damaged. Train or export it again."
    assert said in line(damaged)


def test_usual_errors_of_other_columns(line, run, tmp_path):
    other = changed(run, tmp_path / "other", "run.json", lambda record: record["usual_errors"]["columns"].pop())
    said = f"Expected a usual error for each of 5 columns. Received: {other}, which has 4. Train or export it again."
    assert said in line(other)


def test_a_classifier_without_its_pretrained_stack(line, stack, tmp_path):
    keras_sae.save(stack.classifier(2), tmp_path / "classifier")
    said = f"Expected a run with a decoder. Received: {tmp_path / 'classifier'}, a classifier whose pretrained stack "
    assert said in line(tmp_path / "classifier")


def test_a_run_that_did_not_finish(line, tmp_path):
    runs.start(tmp_path / "begun", {})
    assert f"{tmp_path / 'begun'}, a run that did not finish." in line(tmp_path / "begun")
