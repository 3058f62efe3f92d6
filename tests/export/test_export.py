"""python -m export: files that run without keras_sae and give Keras' features, all or nothing."""

import contextlib
import io
import json
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf

import keras_sae
from export import __main__ as command
from export import convert
from keras_sae import runs

ROOT = pathlib.Path(__file__).parents[2]
FILES = {"saved_model/1", "encoder.tflite"}  # as export names them in its measurements

# What somebody runs who has nothing but TensorFlow, or nothing but the LiteRT interpreter. In each, `encode(inputs=x)`
# is the signature; `snippet` is the code on the export's card.
CALLERS = {
    "tensorflow": """
import tensorflow as tf
signatures = tf.saved_model.load(str(folder / "saved_model" / "1")).signatures
encode = signatures["serving_default"]
call = lambda x: encode(inputs=tf.constant(x))
inputs = {name: list(spec.shape) for name, spec in encode.structured_input_signature[1].items()}
outputs = {name: list(spec.shape) for name, spec in encode.structured_outputs.items()}
""",
    "ai_edge_litert": """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(str(folder / "encoder.tflite"))
signatures = interpreter.get_signature_list()
encode = interpreter.get_signature_runner("serving_default")
call = lambda x: encode(inputs=x)
inputs = {name: detail["shape_signature"].tolist() for name, detail in encode.get_input_details().items()}
outputs = {name: detail["shape_signature"].tolist() for name, detail in encode.get_output_details().items()}
""",
}
CALL = """
import json, os, pathlib, sys
import numpy as np
folder, out = map(pathlib.Path, sys.argv[1:3])
with np.load(folder / "check.npz") as check:
    x = check["inputs"]
{caller}
results = {{str(n): np.array(call(x[:n])["features"]) for n in (1, 7)}}
os.chdir(folder)
namespace = {{"x": x[:7]}}
exec(sys.argv[3], namespace)
np.savez(out, snippet=namespace["features"], **results)
modules = sorted({{name.split(".")[0] for name in sys.modules}})
print(json.dumps({{"signatures": sorted(signatures), "inputs": inputs, "outputs": outputs, "modules": modules}}))
"""


def contents(folder):
    """Path -> bytes (None for a folder) of all that is in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """(folder of an export, what the command printed), made by the command itself in processes of its own."""
    out = tmp_path_factory.mktemp("exports") / "tiny"
    done = subprocess.run(
        [sys.executable, "-m", "export", str(tiny_run[0]), "--out", str(out)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out, done.stdout


@pytest.fixture(scope="module")
def features(tiny_run):
    """Keras' features of the run's held-out images, (examples, 9)."""
    return keras_sae.load_encoder(tiny_run[0]).predict(runs.load_examples(tiny_run[0])[0], verbose=0)


@pytest.fixture(scope="module", params=CALLERS)
def called(request, exported, tmp_path_factory):
    """(package, what the files' signature is and what was imported, features): from a fresh isolated process."""
    folder = tmp_path_factory.mktemp("elsewhere")
    snippet = next(s for s in snippets(exported[0]) if request.param in s)
    code = CALL.format(caller=CALLERS[request.param])
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(exported[0]), str(folder / "called.npz"), snippet],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(folder / "called.npz") as results:
        return request.param, json.loads(done.stdout.splitlines()[-1]), dict(results)


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
def refused(main, capfd):
    """refused(*arguments) -> the one line on stderr with which the command ended, status 2."""

    def refused(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(*arguments)
        assert ended.value.code == 2
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("export: error: ")
        return lines[0]

    return refused


@pytest.fixture
def pretend(monkeypatch):
    """pretend(errors): converts nothing, measures `errors` as the differences to Keras."""

    def pretend(errors):
        def quietly(module, *arguments):
            if module == "export.convert":
                (arguments[-1] / "encoder.tflite").write_bytes(b"converted")
                return ""
            assert module == "export.check"
            return json.dumps(errors)

        monkeypatch.setattr(command, "quietly", quietly)

    return pretend


@pytest.fixture
def in_this_process(monkeypatch):
    """Run the modules that export starts here, where TensorFlow is loaded already, and not in fresh processes."""

    def run(arguments, **_):
        module, words = arguments[2], arguments[3:]
        monkeypatch.setattr(sys, "argv", [module, *words])
        monkeypatch.delitem(sys.modules, module, raising=False)
        code = 0
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            try:
                runpy.run_module(module, run_name="__main__")
            except SystemExit as ended:
                code = ended.code
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    monkeypatch.setattr(command.subprocess, "run", run)


def snippets(folder):
    """The Python code on the card of an export."""
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def measured(text):
    """Differences to Keras on a card or in what the command printed, file -> number as it stands there."""
    found = {name: re.findall(rf"{name}(?: \||  largest difference to Keras:) (\S+)", text) for name in FILES}
    return {name: numbers[0] for name, numbers in found.items() if len(numbers) == 1}


# The files


def test_a_moving_average_leaves_no_trace_in_the_exports(tmp_path):
    """The encoder's layer that keeps it passes features on; LiteRT would refuse its variables."""
    x = np.random.default_rng(0).uniform(size=(9, 6)).astype("float32")
    ae = keras_sae.SparseAutoencoder(4, keras_sae.KLSparsity(average="moving"))
    ae.fit(x, verbose=0)
    convert.write_saved_model(ae.encoder, tmp_path / "1")
    convert.write_litert(tmp_path / "1", tmp_path / "encoder.tflite")
    encode = tf.saved_model.load(str(tmp_path / "1")).signatures["encode"]
    np.testing.assert_allclose(encode(inputs=tf.constant(x))["features"], ae.encode(x), rtol=1e-6)


def test_the_export_holds_its_files_and_no_others(exported):
    out, _ = exported
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "check.npz", "encoder.tflite", "saved_model"]
    assert {"saved_model.pb", "variables"} <= {p.name for p in (out / "saved_model" / "1").iterdir()}
    assert [p.name for p in out.parent.iterdir()] == ["tiny"]


def test_the_check_holds_held_out_inputs_and_keras_features_of_them(tiny_run, exported, features):
    with np.load(exported[0] / "check.npz") as check:
        np.testing.assert_array_equal(check["inputs"], runs.load_examples(tiny_run[0])[0])
        np.testing.assert_allclose(check["features"], features, atol=1e-6)


def test_the_features_tell_inputs_apart(features):
    """Without this, a parity check would pass for a file that gives the same features for everything."""
    assert features.shape == (40, 9)
    assert features.std(axis=0).min() > 100 * command.LARGEST_ERROR


def test_the_signature_names_inputs_and_features_for_a_batch_of_any_size(called):
    package, seen, _ = called
    assert seen["inputs"] == {"inputs": [-1, 784]} if package == "ai_edge_litert" else {"inputs": [None, 784]}
    assert list(seen["outputs"]) == ["features"]
    assert seen["outputs"]["features"][-1] == 9
    assert seen["signatures"] == (["serving_default"] if package == "ai_edge_litert" else ["encode", "serving_default"])


@pytest.mark.parametrize("batch", [1, 7])
def test_the_files_give_keras_features(called, features, batch):
    found = called[2][str(batch)]
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, features[:batch], rtol=0, atol=1e-5)


def test_the_code_on_the_card_gives_keras_features(called, features):
    np.testing.assert_allclose(called[2]["snippet"], features[:7], rtol=0, atol=1e-5)


def test_the_files_need_nothing_of_this_project(called):
    package, seen, _ = called
    assert package in seen["modules"]
    needless = {"keras_sae", "train", "export"} | ({"tensorflow", "keras"} if package == "ai_edge_litert" else set())
    assert needless & set(seen["modules"]) == set()


def test_the_litert_file_uses_no_operation_of_tensorflow(exported):
    content = (exported[0] / "encoder.tflite").read_bytes()
    assert content[4:8] == b"TFL3"
    assert b"Flex" not in content  # custom operations stand in the file by name, TensorFlow's as FlexNAME


def test_the_card_and_the_command_name_the_measured_differences(exported):
    out, printed = exported
    card = measured((out / "README.md").read_text())
    assert set(card) == FILES
    assert card == measured(printed)
    assert all(0 <= float(error) <= 1e-5 for error in card.values())
    for file in FILES:
        assert str(out / file) in printed


# What a difference does


def test_small_differences_pass_and_stand_on_the_card(main, pretend, run, out, capsys):
    pretend({"saved_model/1": 2.5e-07, "encoder.tflite": 9.9e-06})
    main(run, "--out", out)
    expected = {"saved_model/1": "2.5e-07", "encoder.tflite": "9.9e-06"}
    assert measured((out / "README.md").read_text()) == expected
    assert measured(capsys.readouterr().out) == expected
    assert sorted(contents(out.parent)) == ["new", "new/README.md", "new/encoder.tflite"]


@pytest.mark.parametrize("error", [float("nan"), float("inf"), 1e-3, 5.1e-5], ids=str)
@pytest.mark.parametrize("file", sorted(FILES))
def test_a_conversion_that_differs_from_keras_fails_and_leaves_nothing(refused, pretend, run, out, error, file):
    before = contents(run)
    pretend({**dict.fromkeys(FILES, 1e-7), file: error})
    line = refused(run, "--out", out)
    assert f"{file}': {error}" in line
    assert "Nothing was written" in line
    assert contents(out.parent) == {}
    assert contents(run) == before


def test_a_conversion_that_crashes_shows_why_and_leaves_nothing(main, monkeypatch, run, out):
    crashed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback ...\nOpError: no such operation\n")
    monkeypatch.setattr(command.subprocess, "run", lambda *_, **__: crashed)
    with pytest.raises(RuntimeError, match=r"export\.convert failed:\n(?s:.*)no such operation"):
        main(run, "--out", out)
    assert contents(out.parent) == {}


def test_ctrl_c_ends_with_130_and_leaves_nothing(main, monkeypatch, run, out, capsys):
    def quietly(module, *arguments):
        (arguments[-1] / "half").write_text("written")
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "quietly", quietly)
    with pytest.raises(SystemExit) as ended:
        main(run, "--out", out)
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == "export: interrupted. Nothing was written."
    assert contents(out.parent) == {}


# Where it goes


def test_an_empty_folder_may_be_the_place(main, pretend, run, out):
    pretend(dict.fromkeys(FILES, 0.0))
    out.mkdir()
    main(run, "--out", out)
    assert (out / "README.md").is_file()


def test_folders_above_are_made(main, pretend, run, out):
    pretend(dict.fromkeys(FILES, 0.0))
    main(run, "--out", out / "a" / "b")
    assert sorted(contents(out)) == ["a", "a/b", "a/b/README.md", "a/b/encoder.tflite"]


def test_without_out_it_goes_into_the_run(main, pretend, run):
    pretend(dict.fromkeys(FILES, 0.0))
    before = contents(run)
    main(run)
    after = contents(run)
    assert set(after) - set(before) == {"export", "export/README.md", "export/encoder.tflite"}
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
    assert f"{tmp_path / 'other'}, which has no config.json" in refused(tmp_path / "other", "--out", out)
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


def no_examples(run):
    (run / "examples.npz").unlink()


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
        (no_examples, ["examples.npz", "save_examples"]),
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


def test_help_teaches(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for taught in (
        "RUN",
        "--out DIR",
        "default: RUN/export",
        "saved_model/1",
        "encoder.tflite",
        "python -m export runs",
    ):
        assert taught in text
