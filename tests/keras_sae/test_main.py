"""The command keras-sae; tests/test_wheel.py runs it as pip users do."""

import pathlib
import runpy

import pytest

import keras_sae
from keras_sae import __main__ as command

ROOT = pathlib.Path(keras_sae.__file__).parents[1]


@pytest.mark.parametrize("package", ["train", "export"])
def test_commands_are_those_of_the_same_copy_of_the_library(package):
    """Another one may be installed while a checkout is tried."""
    spec = command.find(package)
    assert pathlib.Path(spec.origin) == ROOT / package / "__init__.py"
    assert spec.name in (package, f"keras_sae.{package}")


def test_every_experiment_is_listed_with_what_it_is_about():
    found = command.list_experiments()
    assert set(found) == {path.stem for path in (ROOT / "train").glob("*.py") if "cli.main(" in path.read_text()}
    assert all(line.endswith(".") and len(line) > 40 for line in found.values())


def test_modules_run_with_the_words_that_follow(monkeypatch):
    ran = []
    monkeypatch.setattr(command.runpy, "run_module", lambda name, **_: ran.append((name, command.sys.argv[1:])))
    for words in ("features exports --data x.npy", "export runs/1 --help", "train mnist --units 4 3"):
        monkeypatch.setattr(command.sys, "argv", ["keras-sae", *words.split()])
        command.main()
    assert [(name.removeprefix("keras_sae."), words) for name, words in ran] == [
        ("export.features", ["exports", "--data", "x.npy"]),
        ("export", ["runs/1", "--help"]),
        ("train.mnist", ["--units", "4", "3"]),
    ]


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_the_package_of_experiments_lists_them(words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("train", run_name="__main__", alter_sys=True)
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "usage: python -m train [-h] NAME\n\nRun an experiment. python -m train.NAME --help teaches"
    )
    assert [name for name, line in command.list_experiments().items() if f"  {name:<16}  {line}\n" not in printed] == []


@pytest.mark.parametrize(
    ("words", "meant"),
    [("train minst", "mnist"), ("train feature --data x.csv", "features"), ("exprot runs/1", "export"), ("x", None)],
)
def test_an_unknown_name_is_answered_with_the_nearest(words, meant, monkeypatch, capsys):
    monkeypatch.setattr(command.sys, "argv", ["keras-sae", *words.split()])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    question = f"Did you mean {meant}? " if meant else ""
    assert capsys.readouterr().err.endswith(f"). {question}See --help.\n")
