"""--resume: a run that was stopped goes on where it was, to the same weights and numbers."""

import dataclasses
import gzip
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import keras_sae
from benchmarks import kills
from keras_sae import callbacks, runs
from keras_sae.errors import InputError
from keras_sae.training import checkpoints
from train import cli, experiment, mnist

ROOT = pathlib.Path(__file__).parents[2]
SETTINGS = {
    "lbfgs": {},
    "lbfgs, masking": {"corruption": 0.3},
    "adam": {"optimizer": "adam", "units": (16,), "corruption": 0.3, "noise": "gaussian"},
}


@pytest.fixture
def settings(idx_folder):
    """settings(variant, out) -> a tiny experiment, of 4 iterations or epochs to a stage."""
    return lambda variant, out: mnist.Config(
        **{"data": str(idx_folder), "out": str(out), "units": (16, 9), "max_iterations": 4, **SETTINGS[variant]}
    )


@pytest.fixture
def stop_at(monkeypatch):
    """stop_at(stage, epoch) stops training there as Ctrl-C does; stop_at(None) lets it go on. Returns what ran."""
    original, ran, place = callbacks.TensorBoard.on_epoch_end, [], []

    def on_epoch_end(self, epoch, logs=None):
        now = (pathlib.Path(self.log_dir).name, epoch)
        original(self, epoch, logs)
        ran.append(now)
        random.random()  # as a callback may: the initial weights of the next stage must not depend on it
        if place == [now]:
            raise KeyboardInterrupt

    def stop_at(stage, epoch=2):
        place[:], ran[:] = [(stage, epoch)], []
        return ran

    monkeypatch.setattr(callbacks.TensorBoard, "on_epoch_end", on_epoch_end)
    monkeypatch.setattr(checkpoints, "SECONDS", 0)
    return stop_at


def resume(out):
    return mnist.run(cli.resumed(mnist.Config, mnist.PROGRAM, str(out)), verbose=0)


@pytest.fixture
def undisturbed(tiny_run, settings, tmp_path):
    def undisturbed(variant):
        if variant == "lbfgs":
            return tiny_run[0]
        mnist.run(settings(variant, tmp_path / "undisturbed"), verbose=0)
        return tmp_path / "undisturbed"

    return undisturbed


@pytest.mark.parametrize("variant", ["lbfgs", pytest.param("lbfgs, masking", marks=pytest.mark.slow), "adam"], ids=str)
def test_stopped_in_every_stage_a_run_ends_the_same(variant, undisturbed, settings, stop_at, tmp_path):
    """Weights of stack and classifier and all numbers but the times; finished stages are not trained again."""
    out, reference = tmp_path / "run", undisturbed(variant)
    first_again = 2 if variant == "adam" else 3  # Adam goes on from the last epoch that had ended
    layers = [f"layer_{number}" for number in range(1, len(settings(variant, out).units) + 1)]
    ran = stop_at("layer_1")
    with pytest.raises(KeyboardInterrupt):
        mnist.run(settings(variant, out), verbose=0)
    assert ran == [("layer_1", epoch) for epoch in range(3)]
    before = "layer_1"
    for stage in [*layers[1:], "head", "finetuned"]:
        ran = stop_at(stage)
        with pytest.raises(KeyboardInterrupt):
            resume(out)
        assert ran == [(before, epoch) for epoch in range(first_again, 4)] + [(stage, epoch) for epoch in range(3)]
        before = stage
    assert not (out / "model.keras").exists()
    ran = stop_at(None)
    metrics = resume(out)
    assert ran == [(before, epoch) for epoch in range(first_again, 4)]
    assert kills.differences(reference, out) == []
    assert set(metrics) == set(json.loads((reference / "metrics.json").read_text()))
    assert list((out / "checkpoints").iterdir()) == []


def test_differences_are_found(tiny_run, tmp_path):
    """The comparison above can fail."""
    other = shutil.copytree(tiny_run[0], tmp_path / "other")
    metrics = json.loads((other / "metrics.json").read_text())
    (other / "metrics.json").write_text(json.dumps({**metrics, "objective_head": 0.0, "seconds_total": 0.0}))
    model = keras_sae.load(other)
    model.get_layer("head").bias.assign(np.ones(10))
    model.save(other / "model.keras")
    assert kills.differences(tiny_run[0], other) == ["classifier 5", "objective_head"]


# What --resume refuses


@pytest.fixture
def refused(monkeypatch, capfd):
    """refused(*flags) -> the one line with which the command ended."""

    def refused(*flags):
        monkeypatch.setattr(sys, "argv", ["mnist.py", *map(str, flags)])
        with pytest.raises(SystemExit) as ended:
            cli.main(mnist.Config, mnist.run, mnist.PROGRAM, mnist.__doc__)
        assert ended.value.code == 2
        captured = capfd.readouterr()
        assert captured.out == ""
        lines = captured.err.splitlines()
        assert len(lines) == 1
        return lines[0].removeprefix("train.mnist: error: ")

    return refused


@pytest.fixture
def begun(settings, tmp_path):
    """The folder of a run that was killed before its first checkpoint."""
    config = settings("lbfgs", tmp_path / "begun")
    record = {"command": cli.command(mnist.PROGRAM, config), "data": "ten digits", "settings": vars(config).copy()}
    del record["settings"]["resume"]
    return runs.start(tmp_path / "begun", record)


@pytest.mark.parametrize(
    ("flags", "named"),
    [(["--seed", "1"], "--seed"), (["--out", "other", "--units", "9"], "--out, --units")],
    ids=" ".join,
)
def test_no_other_flags(flags, named, refused, begun):
    line = refused("--resume", begun, *flags)
    assert line == f"--resume takes the settings of the run. Received: {named} as well. Leave them out."


def test_a_folder_that_does_not_exist(refused, tmp_path):
    line = refused("--resume", tmp_path / "run")
    assert line.startswith(f"Expected the directory of a run that was stopped. Received: {tmp_path / 'run'}, which has")
    assert line.endswith("Start a new run instead.")
    assert not (tmp_path / "run").exists()


def test_an_empty_folder_and_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "which has no run.json" in refused("--resume", tmp_path)
    assert f"Received: {tmp_path / 'file'}" in refused("--resume", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_finished_run(refused, tiny_run):
    line = refused("--resume", tiny_run[0])
    assert line == (f"Expected a run that was stopped. Received: {tiny_run[0]}, which is finished: see its README.md.")


def change(begun, **changes):
    path = begun / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_run_of_another_command(refused, begun):
    change(begun, command="python -m train.patches --seed 1")
    line = refused("--resume", begun)
    assert line == (
        f"Expected a run of train.mnist to resume. Received: {begun}, made by: python -m train.patches --seed 1."
    )


def test_a_run_of_a_library_call(refused, begun):
    (begun / "run.json").write_text("{}")
    assert refused("--resume", begun).endswith(f"Received: {begun}, made by a library call.")


@pytest.mark.parametrize("content", ["", '{"command": "python -m tr', "\xff\xfe"], ids=["empty", "cut off", "bytes"])
def test_a_damaged_config(content, refused, begun):
    (begun / "run.json").write_bytes(content.encode("latin-1"))
    assert f"Received: {begun / 'run.json'}, which cannot be read: " in refused("--resume", begun)


def test_other_data(refused, begun, idx_folder):
    expected = f"IDX files in {idx_folder}; 120 to train, 40 to test"
    line = refused("--resume", begun)
    assert line.startswith(f"Expected the data that the run had: ten digits. Received: {expected}. Give it the same")


def test_other_data_under_the_same_name(refused, settings, stop_at, idx_folder, tmp_path, capfd):
    """One label, one pixel, or the order: the record of the run knows, and so does each checkpoint."""
    folder = shutil.copytree(idx_folder, tmp_path / "idx")
    stop_at("layer_1", 0)
    config = settings("lbfgs", tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        mnist.run(dataclasses.replace(config, data=str(folder)), verbose=0)
    stop_at(None)
    capfd.readouterr()
    for name, changed in {"train-images-idx3-ubyte.gz": "images", "train-labels-idx1-ubyte.gz": "labels"}.items():
        whole = (folder / name).read_bytes()
        content = bytearray(gzip.decompress(whole))
        content[-1] ^= 1
        (folder / name).write_bytes(gzip.compress(content))
        line = refused("--resume", tmp_path / "run")
        assert line == (
            f"Expected the data that the run had. Received: other {changed}. Give it the same, or start a new run."
        )
        (folder / name).write_bytes(whole)
    change(tmp_path / "run", fingerprint={})
    (folder / name).write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=r"Expected the data that .*layer_1\.npz had\. Received: other labels\."):
        resume(tmp_path / "run")


@pytest.mark.parametrize(
    "wrong",
    [{"units": "a"}, {"units": ["a"]}, {"seed": "x"}, {"seed": -1}, {"optimizer": "sgd"}, {"freeze_encoder": 1}],
    ids=str,
)
def test_settings_that_no_command_writes(wrong, refused, begun):
    change(begun, settings=json.loads((begun / "run.json").read_text())["settings"] | wrong)
    line = refused("--resume", begun)
    assert line.startswith(
        f"Expected settings as the command writes them. Received: {begun / 'run.json'}, which cannot"
    )


def test_a_run_that_another_process_trains(refused, begun):
    """In this process a lock may be held again, so the other one is real."""
    words = "import pathlib, sys; from keras_sae import locks; h = locks.held(pathlib.Path(sys.argv[1]), 'x'); "
    words += "h.__enter__(); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", words, begun], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        line = refused("--resume", begun)
        process.stdin.close()
    assert line.startswith(
        f"Expected one process at a time to write {begun}. Received: another that is writing it (pro"
    )
    assert f"(process {process.pid} on " in line


def test_a_broken_checkpoint(begun, idx_folder):
    change(begun, data=f"IDX files in {idx_folder}; 120 to train, 40 to test")
    (begun / "checkpoints" / "layer_1.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"Expected a checkpoint to resume from\. Received: .*layer_1\.npz"):
        resume(begun)


# What is said


def test_settings_come_back_as_they_were(begun, settings, tmp_path):
    found = cli.resumed(mnist.Config, mnist.PROGRAM, str(begun))
    assert vars(found) == {**vars(settings("lbfgs", tmp_path / "begun")), "resume": str(begun)}
    assert cli.run_directory(found, "mnist") == str(begun)
    assert "--resume" not in cli.command(mnist.PROGRAM, found)


@pytest.mark.parametrize(
    ("program", "command", "resumed"),
    [
        ("train.mnist", "keras-sae train mnist --seed 1", True),  # of an installed library
        ("train.mnist", "python -m train.mnist --seed 1", True),
        (None, "python -m train.mnist --seed 1", True),  # of earlier versions
        (None, "python -m train.mnist", True),
        (None, "python -m train.mnist_own --seed 1", False),
        ("train.own", "python -m train.mnist", False),
    ],
)
def test_runs_are_resumed_however_their_command_is_spelled(program, command, resumed, begun):
    change(begun, command=command, **({} if program is None else {"program": program}))
    if resumed:
        assert cli.resumed(mnist.Config, mnist.PROGRAM, str(begun)).resume == str(begun)
    else:
        with pytest.raises(InputError, match=r"Expected a run of train\.mnist to resume\."):
            cli.resumed(mnist.Config, mnist.PROGRAM, str(begun))


def test_ctrl_c_says_how_to_go_on(settings, stop_at, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cli.Interrupted, "hint", cli.Interrupted.hint)
    config, out = settings("lbfgs", tmp_path / "run"), tmp_path / "run"
    stop_at("layer_1", 0)
    words = ["--data", config.data, "--out", out, "--units", 4, "--max-iterations", 2, "--freeze-encoder"]
    for flags in (words, ["--resume", out]):
        monkeypatch.setattr(sys, "argv", ["mnist.py", *map(str, flags)])
        with pytest.raises(SystemExit) as ended:
            cli.main(mnist.Config, mnist.run, mnist.PROGRAM, mnist.__doc__)
        assert ended.value.code == 130
        last = capsys.readouterr().err.splitlines()[-1]
        assert last == f"train.mnist: interrupted. Resume it: python -m train.mnist --resume {out}"
        stop_at("layer_1", 1)


@pytest.mark.parametrize("changed", [False, True])
def test_a_note_when_versions_changed(changed, begun, monkeypatch, capsys):
    monkeypatch.setattr(cli.Interrupted, "hint", cli.Interrupted.hint)
    if changed:
        change(begun, versions={**runs.versions(), "numpy": "1.0", "keras": "2.0"})
    config = cli.resumed(mnist.Config, mnist.PROGRAM, str(begun))
    experiment.Experiment(config, mnist.PROGRAM, "title", "ten digits", begun, fingerprint={})
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    expected = "note        not the versions that it began with: keras, numpy; numbers may differ"
    assert notes == ([expected] if changed else [])


# A real kill


@pytest.mark.slow
def test_sigkill(idx_folder, tmp_path):
    """In a process of its own, killed as soon as there is a checkpoint of layer 2, with others half written maybe."""
    flags = ["0", "--data", idx_folder, "--units", "16", "9", "--max-iterations", "30"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}

    def command(*flags):
        return [sys.executable, "-c", kills.TRAIN, *map(str, flags)]

    subprocess.run(command(*flags, "--out", tmp_path / "one"), env=environment, check=True, capture_output=True)
    other = tmp_path / "other"
    with subprocess.Popen(
        command(*flags, "--out", other), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not (other / "checkpoints" / "layer_2.npz").exists():
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (other / "model.keras").exists()
    subprocess.run(command("0", "--resume", other), env=environment, check=True, capture_output=True)
    assert kills.differences(tmp_path / "one", other) == []
