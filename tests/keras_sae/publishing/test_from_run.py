import hashlib
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest

import keras_sae
from keras_sae import runs
from keras_sae.errors import InputError
from keras_sae.publishing import card, exports, from_run, sample
from keras_sae.runs import presets
from keras_sae.runs.records import read_config, read_preset
from tests.keras_sae.conftest import raises, same_weights
from tests.keras_sae.publishing.conftest import CONFIG, EXPORTS, METRICS, SAID, small_run

measure_exports = exports.measure  # as it is outside these tests


def test_a_run_becomes_a_preset_that_is_described_measured_and_hashed(run, preset):
    assert preset.name == "numbers"
    assert same_weights(keras_sae.from_preset(preset), keras_sae.load(run))
    record = read_preset(preset)
    assert {name: record[name] for name in SAID} == SAID
    assert {name: record[name] for name in ("inputs", "codes", "outputs", "parameters")} == {
        "inputs": 6,
        "codes": 8,
        "outputs": 6,
        "parameters": 6 * 8 + 8 + 8 * 6 + 6 + 8,  # the last: for how long each unit was silent
    }
    assert (record["exports"], record["stored"], record["license"]) == (EXPORTS, "float32", "apache-2.0")
    kept = {"run.json", "metrics.json", "model.keras", "examples.npz"}
    assert set(record["sha256"]) == kept
    for name in kept:
        assert record["sha256"][name] == hashlib.sha256((preset / name).read_bytes()).hexdigest()
    assert {path.name for path in preset.iterdir()} == kept | {"preset.json", "README.md"}
    assert sorted(path.name for path in preset.parent.iterdir()) == ["numbers"]  # nothing is left beside it


def test_what_is_measured_on_the_examples_is_what_numpy_finds(preset):
    ae, x = keras_sae.from_preset(preset), np.asarray(runs.load_examples(preset)[0], "float64")
    w1, b1, w2, b2 = (np.asarray(weight, "float64") for weight in ae.folded())
    z = x @ w1 + b1
    codes = np.where(np.argsort(np.argsort(-z)) < 3, np.maximum(z, 0), 0)
    error = 0.5 * ((codes @ w2 + b2 - x) ** 2).sum(axis=1).mean()
    found = read_preset(preset)["sample"]
    assert found["rows"] == 20
    assert found["reconstruction_error"] == pytest.approx(error, rel=1e-5)
    assert found["explained_variance"] == pytest.approx(1 - 2 * error / ((x - x.mean(0)) ** 2).sum(1).mean(), rel=1e-5)
    assert found["active_units"] == pytest.approx((codes > 0).sum(axis=1).mean())
    assert found["mean_activation"] == pytest.approx(codes.mean(), rel=1e-5)
    assert found["dead_units"] == (codes.max(axis=0) == 0).sum()
    assert "accuracy" not in found


def test_no_directory_of_the_machine_goes_into_the_record(preset):
    config = read_config(preset)
    assert config["command"] == "python -m train.nothing --out runs/nothing --data x.npy"
    assert config["data"] == "x.npy in data; 20 rows"
    assert "/home" + "/" not in (preset / "README.md").read_text()


@pytest.mark.parametrize("text", ["a/b", "1/2 of w/o", "https://a.org/b/c", "hf://me/x/y", "~/x/y", "/x"])
def test_what_is_no_directory_of_a_machine_stays(text):
    assert from_run._portable({"data": [text]}) == {"data": [text]}


def test_names_of_classes_and_columns_stay_as_they_are():
    names = {"class_names": ["/b/bakery/indoor", "/c/church/indoor"], "categories": {"rate (/s/m)": ["/a/b", "c"]}}
    assert from_run._portable(names | {"data": "/a/b/c.npy"}) == names | {"data": "c.npy"}


def test_a_preset_replaces_one_of_its_name_and_keeps_what_it_said(run, tmp_path):
    from_run.publish(run, "numbers", tmp_path, SAID)
    again = from_run.publish(run, "numbers", tmp_path, {"use": "more tests", "limits": None})
    assert read_preset(again) == {**read_preset(again), **SAID, "use": "more tests"}
    under_another_name = from_run.publish(again, "more", tmp_path)
    assert read_preset(under_another_name)["use"] == "more tests"
    assert same_weights(keras_sae.from_preset(under_another_name), keras_sae.load(run))


def test_the_zoo_of_the_library_gets_its_cards_and_index_anew(run, tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "ZOO", tmp_path)
    other = from_run.publish(run, "other", said=SAID)
    (other / "README.md").write_text("of an earlier version")
    from_run.publish(run, "numbers", said=SAID)
    assert (other / "README.md").read_text() == card.render(other)
    assert (tmp_path / "README.md").read_text() == card.index(tmp_path)
    assert keras_sae.list_presets() == ["numbers", "other"]


def test_a_failure_leaves_the_preset_that_was_there(run, tmp_path, monkeypatch):
    place = from_run.publish(run, "numbers", tmp_path, SAID)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    monkeypatch.setattr(exports, "measure", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        from_run.publish(run, "numbers", tmp_path)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert list(tmp_path.iterdir()) == [place]


def test_what_the_run_recorded_of_its_device_counts_unless_it_is_said(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "run")
    (other / "run.json").write_text(json.dumps({**CONFIG, "title": "Its own", "device": "CPU, 3 cores"}))
    unsaid = {**SAID, "hardware": None, "title": None}
    record = read_preset(from_run.publish(other, "numbers", tmp_path / "zoo", unsaid))
    assert (record["hardware"], record["title"]) == ("CPU, 3 cores", "Its own")


def test_weights_in_16_bits_and_what_they_change(run, preset, tmp_path):
    half = from_run.publish(run, "half", tmp_path, SAID, float16=True)
    assert (half / "model.keras").stat().st_size < 0.97 * (preset / "model.keras").stat().st_size
    for found, exact in zip(keras_sae.from_preset(half).get_weights(), keras_sae.load(run).get_weights(), strict=True):
        stored = exact.astype("float16").astype("float32") if exact.ndim > 1 else exact
        np.testing.assert_array_equal(found, stored)
    told = read_preset(half)["stored"]
    assert told.startswith("float16; of the numbers on the examples it changes most ")
    assert f"stored in {told}" in (half / "README.md").read_text()
    assert read_preset(half)["sample"] == sample.measure(half)


@pytest.mark.parametrize(
    ("scale", "message"),
    [(1e6, "Expected weights that float16 can hold. Received: "), (1e-9, "Expected weights that float16 can hold.")],
)
def test_weights_in_16_bits_that_would_change_what_is_measured_are_refused(scale, message, tmp_path):
    run = small_run(tmp_path / "run", scale=scale)
    with raises(InputError, message):
        from_run.publish(run, "half", tmp_path / "zoo", SAID, float16=True)
    assert list((tmp_path / "zoo").iterdir()) == []


def test_the_spread_over_seeds(run, tmp_path):
    others = [
        small_run(tmp_path / f"{seed}", {**CONFIG, "settings": {"out": f"{seed}", "seed": seed, "units": [8]}}, numbers)
        for seed, numbers in [(1, {**METRICS, "explained_variance": 0.65}), (2, {**METRICS, "dead_units": 4})]
    ]
    place = from_run.publish(run, "numbers", tmp_path / "zoo", SAID, seeds=others)
    assert read_preset(place)["seeds"] == {"explained_variance": [0.75, 0.65, 0.75], "dead_units": [1, 1, 4]}
    told = "75.00 %; 3 seeds: mean 71.67 %, standard deviation 5.77 %, from 65.00 % to 75.00 %"
    assert f"| measured: explained_variance | {told} |" in (place / "README.md").read_text()


@pytest.mark.parametrize("settings", [{"seed": 0, "units": [8]}, {"seed": 1, "units": [9]}])
def test_runs_that_are_no_other_seeds(settings, run, tmp_path):
    other = small_run(tmp_path / "other", {**CONFIG, "settings": settings})
    with raises(InputError, "Expected runs that differ from the first by their seed. Received: ", "another setting"):
        from_run.publish(run, "numbers", tmp_path / "zoo", SAID, seeds=[other])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config": {"data": "x"}}, "Expected a run with its command in run.json. Received: "),
        (
            {"metrics": {**METRICS, "loss": float("nan")}},
            "Expected finite numbers, with seconds_total, in metrics.json.",
        ),
        ({"metrics": {"explained_variance": 0.5}}, "without seconds_total."),
        ({"metrics": {"seconds_total": 1}}, "Expected the headline as one of the run's numbers: seconds_total."),
        ({"examples": None}, "Expected a run with examples.npz, held-out rows. Received: "),
    ],
)
def test_runs_that_are_incomplete(changed, message, tmp_path):
    rows = {"examples": changed.pop("examples")} if "examples" in changed else {}
    run = small_run(tmp_path / "run", **changed, **rows)
    with raises(InputError, message):
        from_run.publish(run, "numbers", tmp_path / "zoo", SAID)
    assert not (tmp_path / "zoo").exists()


def test_what_was_not_said(run, tmp_path):
    with raises(
        InputError, "Expected all that a card says. Received: nothing for title=..., data=..., data_license=..."
    ):
        from_run.publish(run, "numbers", tmp_path)
    with raises(InputError, "Expected a name of a-z, 0-9, _, - and . for the preset. Received: '../x'."):
        from_run.publish(run, "../x", tmp_path, SAID)


def test_a_directory_that_is_no_preset_is_not_replaced(run, tmp_path):
    (tmp_path / "numbers").mkdir()
    with raises(InputError, "Expected a new name, or a preset to replace. Received: ", "which is no preset."):
        from_run.publish(run, "numbers", tmp_path, SAID)


def test_an_unfinished_run(tmp_path):
    runs.start(tmp_path / "run", CONFIG)
    with raises(InputError, "Received: ", "metrics.json"):
        from_run.publish(tmp_path / "run", "numbers", tmp_path / "zoo", SAID)


def test_exports_are_asked_for_one_by_one_and_a_refusal_is_kept(monkeypatch, tmp_path):
    asked = []

    def export(command, **_):
        asked.append(command[5:])
        (tmp_path / "export.json").write_text(json.dumps({"files": {"a": {**EXPORTS["saved_model/1"], "run": "x"}}}))
        refused = "int8" in command
        answer = {"returncode": 2 * refused, "stderr": "a note\nexport: error: Too far." if refused else ""}
        return type("Done", (), answer)()

    monkeypatch.setattr(exports.subprocess, "run", export)
    monkeypatch.setattr(exports.importlib.util, "find_spec", lambda name: None)
    found = measure_exports(pathlib.Path("run"), tmp_path)
    assert found == {"a": EXPORTS["saved_model/1"], "encoder_int8.tflite": {"refused": "Too far."}}
    flags = [["--to", "saved_model", "litert"], *(["--to", "litert", "--quantize", m] for m in exports.ONE_BY_ONE)]
    assert asked == [["--out", str(tmp_path), *words] for words in flags]


@pytest.mark.slow
def test_exports_as_users_make_them(run, tmp_path):
    found = measure_exports(run, tmp_path / "export")
    assert {"saved_model/1", "encoder.tflite", "encoder_float16.tflite"} <= set(found)
    assert found["encoder.tflite"]["difference"] < 5e-5
    assert "calibration.npz" in found["encoder_int8.tflite"]["refused"]  # which the run does not have
    assert sys.executable  # by this Python
