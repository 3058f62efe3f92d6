import sys

import pytest

import keras_sae
import keras_sae.__main__
from keras_sae.publishing import command, repository
from keras_sae.runs import presets
from tests.keras_sae.publishing.conftest import SAID

FLAGS = [word for name, text in SAID.items() for word in (f"--{name.replace('_', '-')}", text)]


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["keras-sae", "models", *map(str, words)])
    keras_sae.__main__.main()


def error(monkeypatch, capsys, *words):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, *words)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_the_table_of_presets(preset, monkeypatch, capsys):
    monkeypatch.setattr(presets, "ZOO", preset.parent)
    call(monkeypatch)
    head, row = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "name"
    assert head.index("data ") == row.index("numbers  explained")
    assert row.startswith("numbers  Numbers | of a test  numbers  explained variance 75.00 %  ")
    assert row.endswith(" kB")


def test_a_preset_is_published_to_a_directory(run, tmp_path, monkeypatch, capsys):
    call(monkeypatch, "publish", run, "numbers", "--to", tmp_path / "zoo", *FLAGS)
    said = capsys.readouterr().out
    assert said == f'{tmp_path / "zoo" / "numbers"}: keras_sae.from_preset("{tmp_path / "zoo" / "numbers"}")\n'
    assert keras_sae.from_preset(tmp_path / "zoo" / "numbers").units == 8


def test_a_preset_is_published_to_the_hub(preset, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(repository, "check_login", asked.append)
    monkeypatch.setattr(repository, "upload", lambda directory, address: f"https://hub/{directory.name}")
    call(monkeypatch, "publish", preset, "numbers", "--to", "hf://me/numbers")
    assert asked == ["hf://me/numbers"]
    assert capsys.readouterr().out == 'https://hub/numbers: keras_sae.from_preset("hf://me/numbers")\n'


def test_what_is_missing_is_named_as_flags_in_one_line(run, tmp_path, monkeypatch, capsys):
    line = error(monkeypatch, capsys, "publish", run, "numbers", "--to", tmp_path, "--use", "tests")
    assert line == (
        "keras-sae models publish: error: Expected all that a card says. Received: nothing for --title, --data, "
        "--data-license, --limits, --hardware, --headline.\n"
    )


def test_an_installed_library_asks_where_to(run, monkeypatch, capsys):
    monkeypatch.setattr(command, "IN_CHECKOUT", False)
    line = error(monkeypatch, capsys, "publish", run, "numbers")
    assert "Expected a directory of presets, or hf://user/repository, as --to. Received: nothing." in line


def test_a_run_that_is_not_there(tmp_path, monkeypatch, capsys):
    line = error(monkeypatch, capsys, "publish", tmp_path / "nowhere", "numbers", *FLAGS)
    assert line.startswith("keras-sae models publish: error: Expected one of the presets ")
    assert len(line.splitlines()) == 1


def test_an_unknown_word(monkeypatch, capsys):
    assert error(monkeypatch, capsys, "nothing").startswith("keras-sae models: error: unrecognized arguments: nothing")
