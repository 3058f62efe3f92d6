"""python -m export.features: stopped or killed at any moment, it resumes without a lost or doubled row."""

import errno
import itertools
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
import PIL.Image
import pytest

from export import runtimes
from export.features import outputs
from tests.export.features.conftest import check, content, matrix, partial

ROOT = pathlib.Path(__file__).parents[3]
CLASSES = {".parquet": outputs.ParquetParts, ".csv": outputs.CsvFile, ".npy": outputs.NpyFile}
every_format = pytest.mark.parametrize("suffix", CLASSES)


def command(exported, data, out):
    return exported, "--data", data, "--batch-size", 4, "--model", "litert", "--out", out


def failing(number, error, function):
    """A function that raises at the call of this number, from 0 on, and passes the others on."""
    calls = itertools.count()

    def call(*arguments):
        if next(calls) == number:
            raise error
        return function(*arguments)

    return call


@every_format
@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("batch", [2, 5, 9])
def test_a_run_that_is_stopped_resumes_and_ends_with_the_same_bytes(
    main, exported, data, out, expected, monkeypatch, capfd, batch, suffix
):
    out, done = out.with_suffix(suffix), batch // 2 * 8  # whole parts, of two batches
    main(*command(exported, data, out.with_stem("undisturbed")))
    with monkeypatch.context() as patched:  # call 0 is the example
        patched.setattr(runtimes.Model, "__call__", failing(batch + 1, KeyboardInterrupt(), runtimes.Model.__call__))
        with pytest.raises(SystemExit) as ended:
            main(*command(exported, data, out))
    assert ended.value.code == 130
    line = f"export.features: interrupted. {done} rows are done: the same command resumes from there."
    assert capfd.readouterr().err.strip() == line
    assert not out.exists()
    main(*command(exported, data, out))
    assert f"Resuming after {done} of 40 rows." in capfd.readouterr().out
    check(out, expected)
    assert content(out) == content(out.with_stem("undisturbed"))


@pytest.mark.usefixtures("often")
def test_a_run_over_images_that_is_stopped_resumes(main, exported, images, tmp_path, out, expected, monkeypatch):
    """The size of images comes from the export, and is a list once it was written to a file."""
    folder, place = tmp_path / "export", tmp_path / "images"
    shutil.copytree(exported, folder)
    record = {"files": {"encoder.tflite": {"schema": {"image_shape": [28, 28], "pixel_range": 255.0}}}}
    (folder / "export.json").write_text(json.dumps(record))
    place.mkdir()
    for number, row in enumerate(images[0]):
        PIL.Image.fromarray(row.reshape(28, 28)).save(place / f"{number:02}.png")
    with monkeypatch.context() as patched:
        patched.setattr(runtimes.Model, "__call__", failing(4, KeyboardInterrupt(), runtimes.Model.__call__))
        with pytest.raises(SystemExit):
            main(*command(folder, place, out))
    main(*command(folder, place, out))
    check(out, expected)


@pytest.mark.usefixtures("often")
def test_a_run_that_is_stopped_before_its_first_part_leaves_nothing(main, exported, data, out, monkeypatch, capfd):
    monkeypatch.setattr(runtimes.Model, "__call__", failing(2, KeyboardInterrupt(), runtimes.Model.__call__))
    with pytest.raises(SystemExit):
        main(*command(exported, data, out))
    assert capfd.readouterr().err.strip() == "export.features: interrupted. Nothing was written."
    assert list(out.parent.iterdir()) == []


@every_format
@pytest.mark.usefixtures("often")
def test_a_full_disk_ends_with_one_line_and_the_command_resumes(
    main, refused, exported, data, out, expected, monkeypatch, suffix
):
    """In the thread that writes: no part after the one that failed is written."""
    out = out.with_suffix(suffix)
    with monkeypatch.context() as patched:
        full = OSError(errno.ENOSPC, "No space left on device")
        patched.setattr(CLASSES[suffix], "_write", failing(2, full, CLASSES[suffix]._write))
        line = refused(*command(exported, data, out))
    assert f"{partial(out)}. Received: No space left on device. 16 rows are done: the same command" in line
    main(*command(exported, data, out))
    check(out, expected)


class Killed(BaseException):
    """A process that ends without tidying up."""


@every_format
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["new", "overwrite"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_around_every_rename_loses_no_row(main, exported, data, out, monkeypatch, suffix, after, overwrite):
    """A part, what is known to be done, labels, what is there and the output itself are each renamed into place."""
    monkeypatch.setattr(outputs, "PART_BYTES", 20 * 9 * 4)  # two parts
    out, labels = out.with_suffix(suffix), out.with_name("features.labels.npy")
    arguments = (*command(exported, data, out), "--labels", data.with_name("y.npy"))
    main(*arguments)
    expected, replace, rmtree = content(out), os.replace, shutil.rmtree
    beside = content(labels) if suffix == ".npy" else {}
    for number in itertools.count():
        calls = itertools.count()

        def killed(source, target, calls=calls, number=number):
            doomed = next(calls) == number
            if after or not doomed:
                replace(source, target)
            if doomed:
                raise Killed

        rmtree(out.parent)
        if overwrite:
            out.mkdir(parents=True) if suffix == ".parquet" else out.parent.mkdir()
            (out / "part-00000.parquet" if suffix == ".parquet" else out).write_text("the one before")
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", killed)
            patched.setattr(shutil, "rmtree", lambda *_, **__: None)
            try:
                main(*arguments, *overwrite)
                break
            except Killed:
                pass
        if not out.exists() or content(out) != expected:
            main(*arguments, *overwrite)
        assert content(out) == expected, number
        assert (content(labels) if beside else {}) == beside
    renames = {".parquet": 5, ".csv": 3, ".npy": 4}[suffix] + (suffix == ".parquet" and bool(overwrite))
    assert number == renames


def test_what_a_kill_left_after_the_last_rename_is_deleted(main, refused, exported, data, out, expected, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)
        main(*command(exported, data, out))
    assert partial(out).exists()
    assert f"{out}, which exists" in refused(*command(exported, data, out))
    check(out, expected)
    main(*command(exported, data, out), "--overwrite")
    check(out, expected)


PAUSED = (
    "import sys, time; from export.features import __main__ as features, outputs; "
    "outputs.PART_BYTES = 4 * 9 * 4; write = outputs.Output.write; "
    "outputs.Output.write = lambda *a: (time.sleep(0.15), write(*a), time.sleep(0.15)); features.main()"
)


@every_format
@pytest.mark.slow
def test_kills_at_random_moments_cost_no_row(main, exported, data, out, expected, suffix):
    """SIGKILL, at moments from the first batch to the last rename."""
    out, moments = out.with_suffix(suffix), random.Random(0)
    arguments = [exported, "--data", data, "--model", "litert", "--batch-size", 4, "--out"]
    kills = 0
    while not out.exists():
        process = subprocess.Popen(
            [sys.executable, "-c", PAUSED, *map(str, arguments), str(out)], cwd=ROOT, stdout=subprocess.PIPE
        )
        process.stdout.readline()  # Reading ...
        time.sleep(moments.uniform(0.3, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        assert kills < 60
    assert kills > 2
    undisturbed = out.with_stem("undisturbed")
    subprocess.run([sys.executable, "-c", PAUSED, *map(str, arguments), str(undisturbed)], cwd=ROOT, check=True)
    assert content(out) == content(undisturbed)
    np.testing.assert_allclose(np.load(out) if suffix == ".npy" else matrix(out), expected, rtol=0, atol=2e-5)


@every_format
@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("change", ["--batch-size", "--data", "model"])
def test_another_command_is_told_how_to_start_anew(
    main, refused, exported, data, out, monkeypatch, change, capfd, suffix
):
    arguments = command(exported, data, out.with_suffix(suffix))
    with monkeypatch.context() as patched:
        patched.setattr(CLASSES[suffix], "_write", failing(2, KeyboardInterrupt(), CLASSES[suffix]._write))
        with pytest.raises(SystemExit):
            main(*arguments)
    before = content(partial(out.with_suffix(suffix)) / "progress.json")
    if change == "--data":
        os.utime(data, (0, 0))
    replaced = {"--batch-size": (*arguments, "--batch-size", 5), "model": (*arguments, "--model", "onnx")}
    line = refused(*replaced.get(change, arguments))
    assert f"Received: another {'content of ' * (change == '--data')}{change}. " in line
    assert f"{partial(out.with_suffix(suffix))} was begun with" in line
    assert "or delete that directory to start anew" in line
    assert content(partial(out.with_suffix(suffix)) / "progress.json") == before


def test_two_commands_at_once_are_refused(refused, exported, data, out):
    with outputs.ParquetParts(out, None).opened({}, overwrite=False):
        assert "another that is writing it" in refused(exported, "--data", data, "--out", out)
        assert partial(out).exists()


STATES = {
    "empty": b"",
    "cut off": b'{"rows": 16, "settings": {"mod',
    "no object": b"[16, {}]",
    "no rows": b'{"settings": {}}',
    "rows of text": b'{"rows": "16", "settings": {}}',
    "negative rows": b'{"rows": -16, "settings": {}}',
    "settings of text": b'{"rows": 16, "settings": "model"}',
    "depth": b"[" * 10**5,
}


@pytest.mark.usefixtures("often")
def test_a_damaged_state_ends_in_one_line(main, refused, exported, data, out, expected, monkeypatch):
    arguments, state = command(exported, data, out), partial(out) / "progress.json"
    with monkeypatch.context() as patched:
        patched.setattr(CLASSES[".parquet"], "_write", failing(2, KeyboardInterrupt(), CLASSES[".parquet"]._write))
        with pytest.raises(SystemExit):
            main(*arguments)
    whole = state.read_bytes()
    for damaged in STATES.values():
        state.write_bytes(damaged)
        line = refused(*arguments)
        assert f"Expected what an earlier command has done. Received: {state}, which cannot be read: " in line
        assert line.endswith(f"Delete {partial(out)} to start anew.")
        assert state.read_bytes() == damaged
    for rows in (15, 400):
        state.write_bytes(whole.replace(b'"rows": 16', b'"rows": %d' % rows))
        assert f"it cannot have {rows} of 40 rows" in refused(*arguments)
    state.write_bytes(whole.replace(b'"rows": 16', b'"rows": 32'))
    assert "it holds 2 parts, which is fewer than 32 rows need." in refused(*arguments)
    state.write_bytes(whole)
    main(*arguments)
    check(out, expected)
