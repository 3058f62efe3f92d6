"""python -m export: all or nothing, where it goes, and what it refuses."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from export import __main__ as command, card, check, exporting
from keras_sae import runs
from tests.export.conftest import (
    EXACT,
    IN_ANY_RUN,
    LITERT,
    ROOT,
    export_here,
    litert,
    measured,
    plain,
    rows_of_card,
    run_here,
    saved_model,
    snippets,
)


def contents(folder):
    """Path -> bytes (None for a folder) of all that is in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the run that a test may damage."""
    return pathlib.Path(shutil.copytree(tiny_run[0], tmp_path / "run"))


@pytest.fixture
def out(tmp_path):
    """Where a test exports to: a new folder in one of its own, so that nothing else should appear beside it."""
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports" / "new"


@pytest.fixture
def main(monkeypatch):
    """main(*arguments) as `python -m export ARGUMENTS` calls it."""

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
        command.main()

    return main


@pytest.fixture
def pretend(monkeypatch):
    """pretend(differences): converts nothing, writes something small, measures these differences to Keras."""

    def pretend(differences, content=b"converted"):
        def run_module(module, *arguments):
            if module == "convert":
                _, work, wanted = arguments
                finished, wanted = work / "export", json.loads(wanted)
                if "saved_model" in wanted["formats"]:
                    version = finished / "saved_model" / str(wanted["version"])
                    (version / "variables").mkdir(parents=True)
                    (version / "saved_model.pb").write_bytes(content)
                    (version / "variables" / "variables.index").write_bytes(content)
                if "litert" in wanted["formats"]:
                    (finished / "encoder.tflite").write_bytes(content)
                return json.dumps({"left_out": 0, "jumps": False})
            assert module == "check"
            others = {"accuracy": None, "milliseconds": 0.25, "bytes": 5000}
            return json.dumps(
                {
                    name: {"difference": value, "root_mean_square": value, **others}
                    for name, value in differences.items()
                }
            )

        monkeypatch.setattr(exporting, "_run_module", run_module)

    return pretend


@pytest.fixture
def in_this_process(monkeypatch):
    """Run the modules that export starts here."""
    monkeypatch.setattr(exporting.subprocess, "run", run_here)


# What a difference does


def test_small_differences_pass_and_stand_on_the_card(main, pretend, run, out, capsys):
    pretend({"saved_model/1": 2.5e-07, "encoder.tflite": 9.9e-06})
    main(run, "--out", out)
    expected = {"saved_model/1": "2.5e-07", "encoder.tflite": "9.9e-06"}
    assert measured((out / "README.md").read_text()) == expected
    assert measured(capsys.readouterr().out) == expected
    files = {"README.md", "encoder.tflite", "export.json", "saved_model"}
    assert {p.name for p in out.iterdir()} == files
    assert [p.name for p in out.parent.iterdir()] == ["new"]


@pytest.mark.parametrize("error", [float("nan"), float("inf"), 1e-3, 5.1e-5], ids=str)
@pytest.mark.parametrize("file", sorted(EXACT))
def test_a_conversion_that_differs_from_keras_fails_and_leaves_nothing(refused, pretend, run, out, error, file):
    before = contents(run)
    pretend({**dict.fromkeys(EXACT, 1e-7), file: error})
    line = refused(run, "--out", out)
    assert f"Expected {file} within 5e-05 of Keras. Received: a difference of {error:.1e}" in line
    assert "Nothing was written" in line
    assert contents(out.parent) == {}
    assert contents(run) == before


@pytest.mark.parametrize(("method", "bound"), [("float16", 1e-3), ("dynamic", 2e-2), ("int8", 5e-2)])
def test_quantised_files_may_differ_by_what_rounding_gives(refused, main, pretend, run, out, method, bound):
    pretend({LITERT[method]: 1.1 * bound})
    assert f"Expected {LITERT[method]} within {bound} of Keras" in refused(run, "--out", out)
    assert contents(out.parent) == {}
    pretend({LITERT[method]: 0.9 * bound})
    main(run, "--out", out)
    assert (out / "README.md").is_file()


def test_a_conversion_that_crashes_shows_why_and_leaves_nothing(main, monkeypatch, run, out):
    crashed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback ...\nOpError: no such operation\n")
    monkeypatch.setattr(exporting.subprocess, "run", lambda *_, **__: crashed)
    with pytest.raises(RuntimeError, match=r"export\.convert failed:\n(?s:.*)no such operation"):
        main(run, "--out", out)
    assert contents(out.parent) == {}


def test_a_conversion_that_the_system_ends_is_one_line(refused, monkeypatch, run, out):
    """For its memory, say, or because a runtime does not bear what it was given."""
    ended = subprocess.CompletedProcess([], -9, "", "half a line")
    monkeypatch.setattr(exporting.subprocess, "run", lambda *_, **__: ended)
    words = f"Expected a model that can be exported. Received: {run}, at which export.convert was ended by signal 9."
    assert words in refused(run, "--out", out)
    assert contents(out.parent) == {}


def test_a_place_whose_name_is_no_text_is_refused(refused, run, out):
    """By TensorFlow; a run may have such a name."""
    place = out.parent / os.fsdecode(b"new\xff")
    assert rf"Received: {out.parent}/new\udcff. TensorFlow writes to no other." in refused(run, "--out", place)


def test_a_run_whose_name_is_no_text_is_exported(main, pretend, run, out, capsys):
    pretend(dict.fromkeys(EXACT, 0.0))
    named = run.rename(run.parent / os.fsdecode(b"run\xff"))
    main(named, "--out", out)
    assert (out / "README.md").read_text().startswith("# Stacked sparse autoencoder")
    assert r"Made from the run `run\udcff`" in (out / "README.md").read_text()
    assert json.loads((out / "export.json").read_text())["run"] == named.name


def test_ctrl_c_ends_with_130_and_leaves_nothing(main, monkeypatch, run, out, capsys):
    def run_module(module, *arguments):
        (arguments[1] / "half").write_text("written")
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "_run_module", run_module)
    with pytest.raises(SystemExit) as ended:
        main(run, "--out", out)
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == "export: interrupted. Nothing was written."
    assert contents(out.parent) == {}


def test_the_difference_is_the_largest_of_all_outputs():
    expected = {
        "classify/probabilities": np.array([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]]),
        "classify/label": np.array([1, 0, 0]),
        "encode/features": np.array([[1.0], [-200.0], [0.0]]),
    }
    given = {name: {} for name in ("classify", "encode")}
    for key, value in expected.items():
        signature, output = key.split("/")
        given[signature][output] = value.copy()
    assert check.compare(given, expected, None)["difference"] == 0
    given["encode"]["features"][1] += 4  # of 200
    assert check.compare(given, expected, None)["difference"] == pytest.approx(0.02)
    given["classify"]["probabilities"][0, 0] += 0.03  # of less than 1: absolute
    assert check.compare(given, expected, None)["difference"] == pytest.approx(0.03)
    given["classify"]["label"][2] = 1  # two equal probabilities
    assert check.compare(given, expected, None)["difference"] == pytest.approx(0.03)
    assert check.compare(given, expected, None)["accuracy"] is None
    assert check.compare(given, expected, np.array([1, 1, 0]))["accuracy"] == pytest.approx(2 / 3)
    given["classify"]["probabilities"][2, 1] = np.nan
    assert np.isnan(check.compare(given, expected, None)["difference"])


def test_a_file_of_which_nothing_can_be_compared_does_not_pass(refused, pretend, run, out):
    difference = check.compare({}, {"encode/features": np.ones((3, 1))}, None)["difference"]
    pretend({"encoder.tflite": difference})
    assert "encoder.tflite within" in refused(run, "--out", out)


# Where it goes


def test_an_empty_folder_may_be_the_place(main, pretend, run, out):
    pretend(dict.fromkeys(EXACT, 0.0))
    out.mkdir()
    main(run, "--out", out)
    assert (out / "README.md").is_file()


def test_folders_above_are_made(main, pretend, run, out):
    pretend(dict.fromkeys(EXACT, 0.0))
    main(run, "--out", out / "a" / "b")
    assert {p.name for p in (out / "a" / "b").iterdir()} == {
        "README.md",
        "encoder.tflite",
        "export.json",
        "saved_model",
    }


def test_without_out_it_goes_into_the_run(main, pretend, run):
    pretend(dict.fromkeys(EXACT, 0.0))
    before = contents(run)
    main(run)
    after = contents(run)
    assert {p.name for p in (run / "export").iterdir()} == {"README.md", "encoder.tflite", "export.json", "saved_model"}
    assert all(name.startswith("export") for name in set(after) - set(before))
    assert {name: after[name] for name in before} == before


def test_a_folder_that_holds_something_is_refused(refused, tiny_run, out):
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    assert f"{out}, which holds something" in refused(tiny_run[0], "--out", out)
    assert contents(out.parent) == {"new": None, "new/thesis.tex": b"mine"}


def test_a_file_and_a_place_below_a_file_are_refused(refused, tiny_run, out):
    out.write_text("mine")
    assert f"{out}, which holds something" in refused(tiny_run[0], "--out", out)
    assert f"{out / 'below'}" in refused(tiny_run[0], "--out", out / "below")
    assert contents(out.parent) == {"new": b"mine"}


# Again, to the same place


def test_a_second_export_is_a_second_version(tmp_path):
    """Of another model, so that what is left of the first shows."""
    out = tmp_path / "export"
    outputs = []
    for seed in (0, 1):
        run, x, expected, _ = plain(tmp_path / f"run_{seed}", seed)
        runs.save_examples(run / "examples.npz", x)
        export_here(run, out, formats=("saved_model", "litert") if seed == 0 else ("litert", "saved_model"))
        outputs.append(expected["features"])
        if seed == 0:
            before = contents(out)
    after = contents(out)
    of_version_1 = {name for name in before if name.startswith("saved_model/1/")}
    assert "saved_model/1/saved_model.pb" in of_version_1
    assert {name: after[name] for name in of_version_1} == {name: before[name] for name in of_version_1}
    for version, features in enumerate(outputs, 1):
        call = saved_model(out / "saved_model" / str(version))
        np.testing.assert_allclose(call("encode", inputs=x)["features"], features, atol=1e-5)
    np.testing.assert_allclose(litert(out / "encoder.tflite")("encode", inputs=x)["features"], outputs[1], atol=1e-5)
    with np.load(out / "check.npz") as content:
        np.testing.assert_allclose(content["encode/features"], outputs[1], atol=1e-5)
    assert {p.name for p in out.iterdir()} == {"saved_model", "encoder.tflite", *IN_ANY_RUN}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export", "run_0", "run_1"]
    assert set(rows_of_card(out)) == {"saved_model/1", "saved_model/2", "encoder.tflite"}
    record = json.loads((out / "export.json").read_text())
    assert set(record["files"]) == set(rows_of_card(out))
    assert (record["run"], record["version"]) == ("run_1", 2)
    assert {name: values["run"] for name, values in record["files"].items()} == {
        "saved_model/1": "run_0", "saved_model/2": "run_1", "encoder.tflite": "run_1"
    }  # fmt: skip
    card = (out / "README.md").read_text()
    assert "Made from the run `run_1`" in card
    assert "\nExported here earlier, from the run `run_0`: `saved_model/1`.\n" in card
    assert 'saved_model.load("saved_model/2")' in snippets(out)[0]


def test_a_version_appears_whole_by_one_rename(main, pretend, monkeypatch, run, out):
    pretend(dict.fromkeys(EXACT, 0.0))
    main(run, "--out", out)
    pretend({"saved_model/2": 0.0, "encoder.tflite": 0.0}, content=b"changed")
    rename, renamed = os.rename, []

    def watched(source, target):
        assert not target.exists()
        renamed.append((sorted(contents(source)), target))
        rename(source, target)

    monkeypatch.setattr(exporting.os, "rename", watched)
    main(run, "--out", out)
    [(whole, target)] = renamed
    assert whole == ["saved_model.pb", "variables", "variables/variables.index"]
    assert target == out.resolve() / "saved_model" / "2"
    assert (out / "saved_model" / "1" / "saved_model.pb").read_bytes() == b"converted"
    assert (out / "saved_model" / "2" / "saved_model.pb").read_bytes() == b"changed"
    assert (out / "encoder.tflite").read_bytes() == b"changed"
    assert [p.name for p in out.parent.iterdir()] == ["new"]


def test_versions_are_counted_as_numbers(main, pretend, run, out):
    for version in range(1, 12):
        pretend({f"saved_model/{version}": 0.0})
        main(run, "--out", out, "--to", "saved_model")
    assert {p.name for p in (out / "saved_model").iterdir()} == {str(version) for version in range(1, 12)}
    assert 'saved_model.load("saved_model/11")' in snippets(out)[0]


@pytest.mark.parametrize("file", ["saved_model/2", "encoder.tflite"])
def test_a_failed_check_leaves_an_earlier_export_as_it_was(refused, main, pretend, run, out, file):
    pretend(dict.fromkeys(EXACT, 0.0))
    main(run, "--out", out)
    before = contents(out.parent)
    pretend({"saved_model/2": 0.0, "encoder.tflite": 0.0, file: 1e-3}, content=b"wrong")
    assert "Nothing was written" in refused(run, "--out", out)
    assert contents(out.parent) == before


OF_A_FILE = {"run": "a", "bytes": 1, "difference": 0, "root_mean_square": 0, "accuracy": None, "milliseconds": 1}
WRONG_FILES = [{"encoder.tflite": {**OF_A_FILE, "bytes": "1"}}, {"encoder.tflite": {**OF_A_FILE, "run": 3}}]
WRONG_FILES += [{'a.tflite")\nimport os': OF_A_FILE}]


@pytest.mark.parametrize(
    "damage",
    [
        *("", "[]", "{}", '{"files": {"encoder.tflite": {}}}', '{"files": [1]}', "[" * 10**5),
        *(json.dumps({"files": files}) for files in WRONG_FILES),
        json.dumps({"files": {}, "sha256": 3}),
    ],
    ids=lambda damage: damage[:60],
)
def test_a_damaged_record_of_an_earlier_export_is_refused(refused, main, pretend, run, out, damage):
    pretend(dict.fromkeys(EXACT, 0.0))
    main(run, "--out", out)
    (out / "export.json").write_text(damage)
    before = contents(out.parent)
    line = refused(run, "--out", out)
    assert f"Received: {out / 'export.json'}, which cannot be read: " in line
    assert contents(out.parent) == before


def test_litert_alone_leaves_no_saved_model_behind(tmp_path):
    """It is made from one, which is on no account left where a server would take it up."""
    run, x, expected, _ = plain(tmp_path / "run")
    runs.save_examples(run / "examples.npz", x)
    for _ in range(2):
        export_here(run, tmp_path / "export", formats=["litert"])
        assert {p.name for p in (tmp_path / "export").iterdir()} == {"encoder.tflite", *IN_ANY_RUN}
        assert sorted(p.name for p in tmp_path.iterdir()) == ["export", "run"]
    found = litert(tmp_path / "export" / "encoder.tflite")("encode", inputs=x)["features"]
    np.testing.assert_allclose(found, expected["features"], atol=1e-5)
    assert json.loads((tmp_path / "export" / "export.json").read_text())["formats"] == ["litert"]
    assert "saved_model" not in "".join(snippets(tmp_path / "export"))


# What it refuses to read


@pytest.mark.parametrize(
    "flags", [["--outt", "x"], ["--o", "x"], ["one", "two"], []], ids=lambda flags: " ".join(flags)
)
def test_a_wrong_command_line_ends_with_one_line(refused, flags):
    assert refused(*flags).endswith(" See --help.")


@pytest.mark.parametrize(
    "make",
    [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("a file")],
    ids=["nothing", "an empty folder", "a file"],
)
def test_what_is_no_run_is_refused(refused, tmp_path, out, make):
    make(tmp_path / "other")
    assert f"{tmp_path / 'other'}, which has no record of a run" in refused(tmp_path / "other", "--out", out)
    assert contents(out.parent) == {}


def unfinished(run):
    (run / "model.keras").unlink()


def cut_off(run):
    os.truncate(run / "model.keras", 2_000)


def another_archive(run):
    with zipfile.ZipFile(run / "model.keras", "w") as archive:
        archive.writestr("holiday.txt", "sun")


def no_weights(run):
    with zipfile.ZipFile(run / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(run / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, b"" if name.endswith(".h5") else content)


def broken_examples(run):
    os.truncate(run / "examples.npz", 500)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (unfinished, ["did not finish"]),
        (cut_off, ["model.keras"]),
        (another_archive, ["model.keras"]),
        (no_weights, ["model.keras"]),
        (broken_examples, ["examples.npz"]),
    ],
)
def test_a_run_that_cannot_be_read_is_refused(refused, run, out, damage, words):
    damage(run)
    before = contents(run)
    line = refused(run, "--out", out)
    assert [word for word in [str(run), *words] if word not in line] == []
    assert contents(out.parent) == {}
    assert contents(run) == before


@pytest.mark.usefixtures("in_this_process")
def test_a_saved_autoencoder_without_examples_is_checked_on_rows_at_random(main, tmp_path, out, capfd):
    run, *_ = plain(tmp_path / "run")
    main(run, "--out", out, "--to", "litert")
    assert (
        "note        the run keeps no examples.npz, so that rows at random check the files\n" in capfd.readouterr().out
    )
    assert "rows at random in the range of inputs" in (out / "README.md").read_text()


@pytest.mark.usefixtures("in_this_process")
def test_int8_needs_rows_to_measure_ranges_on(refused, monkeypatch, tmp_path, out):
    """Which is said before anything is converted."""
    run, x, *_ = plain(tmp_path / "run")
    runs.save_examples(run / "examples.npz", x)
    monkeypatch.setattr(keras.export, "ExportArchive", None)
    line = refused(run, "--out", out, "--quantize", "int8")
    assert f"{run / 'calibration.npz'} with inputs to measure ranges on" in line
    assert "keras_sae.runs.save_examples(path, x)" in line
    assert contents(out.parent) == {}


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("to", "package", "extra"),
    [
        ("onnx", "tf2onnx", "onnx"),
        ("onnx", "onnx", "onnx"),
        ("onnx", "onnxruntime", "onnx"),
        ("litert", "ai_edge_litert", "export"),
    ],
)
def test_without_its_packages_a_format_says_what_to_install(refused, monkeypatch, tmp_path, out, to, package, extra):
    """Before anything is converted."""
    run, x, *_ = plain(tmp_path / "run")
    runs.save_examples(run / "examples.npz", x)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(keras.export, "ExportArchive", None)
    line = refused(run, "--out", out, "--to", "saved_model", to)
    assert f"to write {to}. Received: Python without {package}. pip install 'keras-sae[{extra}]'" in line
    assert contents(out.parent) == {}


def test_a_broken_model_ends_a_fresh_process_with_one_line(run, out):
    cut_off(run)
    done = subprocess.run(
        [sys.executable, "-m", "export", str(run), "--out", str(out)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("export: error: ")
    assert "model.keras" in done.stderr
    assert contents(out.parent) == {}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_runs_are_exported_whatever_backend_is_asked_for(tmp_path, backend):
    """Which may not even be installed."""
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "keras.json").write_text(json.dumps({"backend": backend}))
    command = [sys.executable, "-m", "export", "models/digits_tiny", "--out", str(tmp_path / "e"), "--to", "litert"]
    environments = {"KERAS_BACKEND": backend}, {"KERAS_BACKEND": "", "KERAS_HOME": str(tmp_path / "keras")}
    for environment in environments:
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_help_answers_without_keras():
    command = [sys.executable, "-X", "importtime", "-m", "export", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "export.exporting" in loaded
    assert loaded & {"keras", "numpy", "tensorflow"} == set()


def test_help_teaches(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main("--help")
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for taught in (
        "RUN",
        "--out DIR",
        "default: RUN/export",
        "saved_model/1",
        "encoder.tflite",
        "python -m export runs",
    ):
        assert taught in text


# The card


def test_class_names_stand_on_the_card():
    assert "Classes" not in card.card("run", {}, {}, None)
    named = card.card("run", {"class_names": ["cat", "dog"]}, {}, None)
    assert "\nClasses, by `label`: 0 cat, 1 dog.\n" in named
