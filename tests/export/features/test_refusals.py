"""python -m export.features: what it refuses, in one line, before it writes."""

import sys
import types

import numpy as np
import pytest

from tests.export.features.conftest import check


def test_a_file_that_is_there_stays_without_overwrite(main, refused, exported, data, out, expected):
    out.parent.mkdir()
    out.write_text("mine")
    command = (exported, "--data", data, "--out", out, "--model", "litert")
    assert f"{out}, which exists. Nothing was changed. Name another, or add --overwrite." in refused(*command)
    assert out.read_text() == "mine"
    main(*command, "--overwrite")
    check(out, expected)


def test_what_is_no_export_is_refused(refused, exported, data, out, tmp_path):
    def line(export, *others):
        return refused(export, "--data", data, "--out", out, *others)

    assert f"Received: {tmp_path / 'no'}, which does not exist" in line(tmp_path / "no")
    assert f"Received: {tmp_path}, which holds none. Make one: python -m export RUN" in line(tmp_path)
    assert f"Received: {tmp_path}, which has no onnx" in line(tmp_path, "--model", "onnx")
    assert "Received: other.tflite, which is none" in line(exported, "--model", "other.tflite")
    for name in ("encoder_a.tflite", "encoder_b.tflite"):
        (tmp_path / name).write_bytes(b"")
    assert "Received: encoder_a.tflite, encoder_b.tflite. Name one: --model" in line(tmp_path)
    assert not out.parent.exists()


@pytest.mark.parametrize("name", ["encoder.tflite", "encoder.onnx", "saved_model.pb"])
def test_a_damaged_model_is_refused(refused, data, out, tmp_path, name):
    (tmp_path / name).write_bytes(b"what is this")
    path = tmp_path if name == "saved_model.pb" else tmp_path / name
    line = refused(path, "--data", data, "--out", out)
    assert f"Expected a model that can be read. Received: {path}, which cannot be: " in line


def test_an_unknown_signature_is_refused_with_those_there_are(refused, exported, several, data, out):
    command = ("--data", data, "--out", out, "--signature")
    assert "encode, serving_default. Received: other" in refused(exported, *command, "other")
    assert "classify, encode. Received: decode" in refused(exported, *command, "decode", "--model", "onnx")
    assert "classify, name, reconstruct" in refused(several, *command, "encode")
    assert "Expected numbers for each row. Received: name of object" in refused(several, *command, "name")
    npy = out.with_suffix(".npy")
    line = refused(several, "--data", data, "--out", npy, "--signature", "classify")
    assert "Expected one output for a .npy file. Received: " in line


def test_the_number_of_features_is_checked(refused, exported, out, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 5)))
    line = refused(exported, "--data", tmp_path / "x.npy", "--out", out, "--model", "onnx")
    assert "Expected rows of 784 features, as " in line
    assert f"Received: 5 in {tmp_path / 'x.npy'}." in line
    assert list(out.parent.iterdir()) == []


def test_data_that_are_no_finite_numbers_are_refused_and_nothing_stays(refused, exported, out, tmp_path):
    np.save(tmp_path / "x.npy", np.full((3, 784), np.nan))
    line = refused(exported, "--data", tmp_path / "x.npy", "--out", out, "--model", "onnx")
    assert "Received: nan in column 1, row 1" in line
    assert list(out.parent.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_refused(refused, exported, data, tmp_path):
    command = (exported, "--data", data, "--model", "onnx", "--out")
    line = refused(*command, "x.txt")
    assert "--out: expected a name that ends in .parquet, .csv, .npy or no suffix, received: x.txt" in line
    (tmp_path / "directory.npy").mkdir()
    assert "directory.npy, which exists" in refused(*command, tmp_path / "directory.npy")
    line = refused(*command, data / "below.npy")
    assert f"can be written to. Received: {data / '.below.npy.partial'} (Not a directory). Nothing was written." in line


@pytest.mark.parametrize("name", ["photos", "photos.npy"])
def test_a_directory_of_something_else_is_never_overwritten(refused, exported, data, tmp_path, name):
    place = tmp_path / name
    place.mkdir()
    (place / ("mine.png" if name == "photos" else "part-00000.parquet")).write_text("mine")
    line = refused(exported, "--data", data, "--model", "onnx", "--out", place, "--overwrite")
    assert f"Received: {place}, a directory" in line
    assert [file.read_text() for file in place.iterdir()] == ["mine"]


def test_a_disk_without_room_is_told_before_the_work(refused, exported, data, out, monkeypatch):
    usage = types.SimpleNamespace(free=10)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    assert "GB of room on the disk of" in refused(exported, "--data", data, "--out", out, "--model", "onnx")


@pytest.mark.parametrize(
    ("model", "module", "package"),
    [("onnx", "onnxruntime", "onnxruntime"), ("litert", "ai_edge_litert.interpreter", "ai-edge-litert")],
)
def test_a_missing_package_is_named(refused, exported, data, out, monkeypatch, model, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    line = refused(exported, "--data", data, "--out", out, "--model", model)
    assert f"Received: Python without it. pip install {package}" in line


@pytest.mark.parametrize("flags", [["--outt", "x"], ["--batch-size", "0"], ["--image-size", "big"], []], ids=str)
def test_a_wrong_command_line_ends_with_one_line(refused, flags):
    assert refused("export", "--data", "x", *(["--out", "y"] if flags else []), *flags).endswith(" See --help.")


def test_help_teaches(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for taught in (
        "python -m export.features exports/mnist",
        "--labels",
        "the same command resumes",
        "(default: 4096)",
    ):
        assert taught in text


def test_a_batch_that_takes_too_much_memory_is_refused(refused, exported, data, out):
    line = refused(exported, "--data", data, "--out", out, "--model", "onnx", "--batch-size", 10**12)
    assert "Expected batches of rows that take 4 GB of memory at most. Received: --batch-size 1000000000000 of" in line
    assert line.endswith("which take 6,272,000.0 GB. Lower it, or allow --memory 6272000.")
    line = refused(exported, "--data", data, "--out", out, "--model", "onnx", "--memory", "0")
    assert "argument --memory: expected a finite number of GB above 0, received: 0" in line
    line = refused(exported, "--data", data, "--out", out, "--model", "onnx", "--memory", "0.00001")
    assert "Expected data that can be read in 1e-05 GB of memory. Received: rows of 784 numbers" in line
    assert "allow it: --memory 1." in line
