"""Checksums of exported files: what is found, and what has none to be compared with."""

import hashlib
import json

import pytest

from export import layout

CONTENT = {
    "encoder.tflite": b"one",
    "saved_model/1/saved_model.pb": b"two",
    "saved_model/1/variables/v.index": b"three",
}


@pytest.fixture
def export(tmp_path):
    for name, content in CONTENT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "export.json").write_text(json.dumps({"sha256": layout.checksums(tmp_path)}))
    return tmp_path


def test_checksums_are_those_of_sha256sum(export):
    record = json.loads((export / "export.json").read_text())
    assert record["sha256"] == {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}


MODELS = ("encoder.tflite", "saved_model/1")


@pytest.mark.parametrize("model", MODELS)
def test_files_as_they_were_exported_pass(export, model, monkeypatch):
    layout.check_files(export / model)
    monkeypatch.chdir(export)
    layout.check_files(export.relative_to(export) / model)
    for other in MODELS:
        if other != model:  # whose damage is its own
            path = export / other
            (path if path.is_file() else path / "saved_model.pb").write_bytes(b"")
    layout.check_files(export / model)


@pytest.mark.parametrize("name", CONTENT)
def test_a_file_that_is_another_or_gone(export, name):
    model = export / name if name.endswith("tflite") else export / "saved_model" / "1"
    (export / name).write_bytes(CONTENT[name] + b"?")
    with pytest.raises(ValueError, match=f"^{name} is damaged: its SHA-256 is not that in export.json$"):
        layout.check_files(model)
    (export / name).unlink()
    with pytest.raises(ValueError, match=f"^its file {name} is missing$"):
        layout.check_files(model)


@pytest.mark.parametrize("record", ["", "[]", "[" * 10**5, '{"sha256": 3}', "\\ud800"])
def test_a_damaged_record(export, record):
    (export / "export.json").write_text(record)
    with pytest.raises(ValueError, match=r"export\.json is damaged: "):
        layout.check_files(export / "encoder.tflite")


def test_what_has_no_checksum_passes(export, tmp_path):
    (export / "saved_model" / "2").mkdir()
    (export / "saved_model" / "2" / "saved_model.pb").write_bytes(b"made elsewhere")
    layout.check_files(export / "saved_model" / "2")
    (export / "encoder.tflite").write_bytes(b"another")
    (export / "export.json").write_text("{}")  # of an earlier version
    layout.check_files(export / "encoder.tflite")
    (export / "export.json").unlink()
    layout.check_files(export / "encoder.tflite")
