"""Damaged and hostile runs and exports: each ends in one line with status 2, or gives what it would give whole."""

import json
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from export import __main__ as command, exporting, layout, runtimes, signatures
from keras_sae import runs
from tests.damage import check_damage, damaged
from tests.export.conftest import ROOT, export_here, plain, run_here

OF_A_RUN = ("run.json", "metrics.json", "model.keras", "examples.npz")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(run, export) of a small autoencoder."""
    folder = tmp_path_factory.mktemp("whole")
    run, x, *_ = plain(folder / "run")
    runs.save_examples(run / "examples.npz", x)
    export_here(run, folder / "export", formats=["saved_model", "litert", "onnx"])
    return run, folder / "export"


@pytest.fixture
def run(whole, tmp_path):
    return pathlib.Path(shutil.copytree(whole[0], tmp_path / "run"))


@pytest.fixture
def export(whole, tmp_path):
    return pathlib.Path(shutil.copytree(whole[1], tmp_path / "export"))


def weights_and_rows(run):
    """What an export takes of a run, in order."""
    runs.read_config(run)
    runs.card(run)
    models = {id(model): model for signature in signatures.of_run(run).values() for model in signature.models}
    weights = [weight for model in models.values() for weight in model.get_weights()]
    return [*weights, runs.load_examples(run)[0]]


def features(kind):
    return lambda export: [runtimes.open_model(export, kind)(ROWS)["features"]]


ROWS = np.random.default_rng(0).uniform(size=(5, 6)).astype("float32")


@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_damaged_file_of_a_run(run, name):
    assert check_damage(run, name, weights_and_rows, 40) > 20


FILES = [("litert", "encoder.tflite"), ("onnx", "encoder.onnx"), ("saved_model", "saved_model/1/saved_model.pb")]
FILES += [("saved_model", f"saved_model/1/variables/variables.{part}") for part in ("index", "data-00000-of-00001")]


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_a_damaged_file_of_an_export(export, kind, name):
    assert check_damage(export, name, features(kind), 40) > 38  # zeros may have been there before


def test_a_damaged_record_of_an_export(export):
    assert check_damage(export, layout.RECORD, features("litert"), 40) > 10


@pytest.mark.slow
def test_files_that_are_damaged_in_a_thousand_ways(run, export):
    for name in OF_A_RUN:
        check_damage(run, name, weights_and_rows, 1000, seed=2)
    for kind, name in FILES:
        assert check_damage(export, name, features(kind), 1000, seed=2) > 980  # zeros may have been there before
    check_damage(export, layout.RECORD, features("litert"), 1000, seed=2)


# Runs of somebody who means harm


def record(**changes):
    def change(run):
        content = runs.read_config(run)
        (run / "run.json").write_text(json.dumps({**content, **changes}))

    return change


def text(name, content):
    return lambda run: (run / name).write_bytes(content)


def arrays(**content):
    return lambda run: np.savez(run / "examples.npz", **content)


def model(make):
    return lambda run: make().save(run / "model.keras")


def member(name, content):
    """Add a file to the archive of the model."""

    def add(run):
        with zipfile.ZipFile(run / "model.keras", "a") as archive:
            archive.writestr(name, content)

    return add


def units(number):
    """Let the model's config ask for as many units."""

    def change(run):
        with zipfile.ZipFile(run / "model.keras") as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        files["config.json"] = files["config.json"].replace(b'"units": 4', f'"units": {number}'.encode())
        with zipfile.ZipFile(run / "model.keras", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    return change


def rows(*layers):
    return keras.Sequential([keras.Input((6,)), *layers])


HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
HEADER = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + HEADER.ljust(117) + b"\n"


def terabytes(run):
    with zipfile.ZipFile(run / "examples.npz", "w") as archive:
        archive.writestr("x.npy", HEADER)


HOSTILE = {
    "a list": (text("run.json", b"[]"), "run.json, which cannot be read: it is none"),
    "no JSON": (text("run.json", b"\xff"), "run.json, which cannot be read: "),
    "depth": (text("run.json", b"[" * 10**5), "run.json, which cannot be read: maximum recursion depth"),
    "a title": (record(title=["a"]), "run.json, whose title is ['a']"),
    "settings": (record(settings=3), "run.json, whose settings is 3"),
    "versions": (record(versions="a"), "run.json, whose versions is 'a'"),
    "class names": (record(class_names={"a": 1}), "run.json, whose class_names is {'a': 1}"),
    "pixels": (record(pixel_range="x"), "run.json, whose pixel_range is 'x'"),
    "no shape": (record(pixel_range=1), "image_shape=[], pixel_range=1"),
    "a shape": (record(pixel_range=1, image_shape=[2, 2]), "Expected a run on images of 6 numbers"),
    "a wrong shape": (record(pixel_range=1, image_shape=["a", None]), "image_shape=['a', None]"),
    "no range": (record(pixel_range=0, image_shape=[2, 3]), "pixel_range=0"),
    "NaN": (record(pixel_range=float("nan"), image_shape=[2, 3]), "pixel_range=nan"),
    "objects": (arrays(x=np.array([print], object)), "allow_pickle=False"),
    "no x": (arrays(y=np.zeros(3)), "examples.npz, which cannot be read: 'x'"),
    "words": (arrays(x=np.array([["a"] * 6])), "its x is of shape (1, 6) and type <U1"),
    "one row": (arrays(x=np.zeros(6)), "its x is of shape (6,)"),
    "labels": (arrays(x=np.zeros((3, 6)), labels=np.zeros(2, int)), "its labels are of shape (2,)"),
    "features": (arrays(x=np.zeros((3, 5))), "Expected rows of 6 features"),
    "terabytes of rows": (terabytes, "declares 8,000,000,000,000 bytes and holds 0"),
    "terabytes of weights": (units(10**11), "its config asks for more weights than it holds"),
    "code": (model(lambda: rows(keras.layers.Lambda(lambda x: x))), "unsafe"),
    "a name": (member("../../x", b""), "lies outside of it"),
    "an absolute name": (member("/tmp/x", b""), "lies outside of it"),
    "another model": (model(lambda: rows(keras.layers.Dense(3))), "without a layer that is called encoder"),
    "pictures": (
        model(lambda: rows(keras.layers.Reshape((2, 3, 1)), keras.layers.Conv2D(1, 1, name="encoder"))),
        "Expected an encoder of rows",
    ),
}  # fmt: skip


@pytest.fixture
def main(monkeypatch):
    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
        command.main()

    return main


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_run_ends_in_one_line(refused, monkeypatch, run, case):
    change, words = HOSTILE[case]
    change(run)
    before = sorted(run.parent.rglob("*"))
    monkeypatch.setattr(exporting.subprocess, "run", run_here)
    assert words in refused(run, "--out", run.parent / "out", "--to", "litert")
    assert sorted(run.parent.rglob("*")) == before


def test_what_a_run_says_is_shown_as_it_is(run):
    """A title, say, is no Markdown, and ends no table."""
    evil = "<script>x</script> [a](http://b) | `c` \n\n# d $e$ &lt;"
    record(title=evil, data=evil, class_names=[evil], settings={evil: evil}, command="a\n# b")(run)
    shown = r"\<script>x\</script> [a\](http://b) \| \`c\` # d \$e\$ \&lt;"
    card = runs.card(run).splitlines()
    assert card[0] == f"# {shown}"
    assert f"| {shown} | {shown} |" in card
    assert f"Data: {shown}." in card
    assert {"    a", "    # b"} <= set(card)
    export_here(run, run.parent / "out", formats=["litert"])
    exported = (run.parent / "out" / "README.md").read_text().splitlines()
    assert exported[0] == f"# {shown}: exported"
    assert f"Classes, by `label`: 0 {shown}." in exported


def test_a_damaged_version_is_not_served(export):
    from export.serve.versions import ServedModels

    served = ServedModels(export / "saved_model")
    served.refresh()
    assert served.states() == [("1", "AVAILABLE", "")]
    shutil.copytree(export / "saved_model" / "1", export / "saved_model" / "2")  # not one that an export names
    [data] = (export / "saved_model" / "1" / "variables").glob("*.data*")
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    again = ServedModels(export / "saved_model")
    again.refresh()
    assert [state[:2] for state in again.states()] == [("2", "AVAILABLE"), ("1", "END")]


@pytest.mark.slow
def test_the_command_keeps_to_its_memory(whole, tmp_path):
    """In processes of their own, which may take little more than that of a whole run."""
    words = [sys.executable, "-m", "export", "--out", str(tmp_path / "out"), "--to", "litert", "--"]

    def export(run):
        done = subprocess.run(
            [*words, str(run)], cwd=ROOT, capture_output=True, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (4 * 2**30,) * 2),
        )  # fmt: skip
        return done, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss

    done, enough = export(whole[0])
    assert done.returncode == 0, done.stderr
    rng = random.Random(2)
    for number, case in enumerate([*rng.sample(list(HOSTILE), 10), *OF_A_RUN * 3]):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        run = pathlib.Path(shutil.copytree(whole[0], tmp_path / f"run {number}"))
        if case in HOSTILE:
            HOSTILE[case][0](run)
        else:
            (run / case).write_bytes(damaged((run / case).read_bytes(), rng))
        done, most = export(run)
        assert most < enough + 50_000, case
        if done.returncode or case in HOSTILE:
            assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), (case, done.stderr)
            assert not (tmp_path / "out").exists()
