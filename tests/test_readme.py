"""The README's snippets run as they stand, in order, in one namespace; what the READMEs link to and call exists."""

import dataclasses
import pathlib
import re

import pytest

from keras_sae.__main__ import MODULES as MODULES_OF_COMMANDS

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {page: page.read_text() for page in (ROOT / "README.md", *sorted(ROOT.glob("[a-z]*/README.md")))}
LINKS = [(page, path) for page, text in PAGES.items() for path in re.findall(r"\]\(([^)#:]+)\)", text)]
MODULES = sorted(
    {module for text in PAGES.values() for module in re.findall(r"python -m (\w[\w.]*\w)", text)} - {"train.NAME"}
)


def test_the_snippets_run(digits, tmp_path, monkeypatch, capsys):
    """On a third of the digits."""
    third = dataclasses.replace(digits, x_train=digits.x_train[::3], y_train=digits.y_train[::3])
    monkeypatch.setattr("keras_sae.data.datasets.load_images", lambda *_: third)
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(snippets) >= 2
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["result"].value < 25  # a trained autoencoder: untrained, J is above 100
    assert names["features"].shape == (1000, 196)
    accuracy = names["classifier"].evaluate(names["digits"].x_test, names["digits"].y_test, verbose=0)[1]
    assert accuracy > 0.85
    assert names["pooled"].shape == (1000, 225)
    assert names["report"].accuracies["features"].value > 0.85
    assert names["search"].score(names["digits"].x_test, names["digits"].y_test) > 0.6  # of 167 rows
    assert len(set(names["odd"])) == 10
    assert (tmp_path / "runs" / "strokes" / "model.keras").exists()
    capsys.readouterr()


@pytest.mark.parametrize(("page", "path"), LINKS)
def test_links_lead_somewhere(page, path):
    assert (page.parent / path).exists()


@pytest.mark.parametrize("module", MODULES)
def test_commands_exist(module):
    place = ROOT / module.replace(".", "/")
    assert place.with_suffix(".py").exists() or (place / "__main__.py").exists()


def test_the_commands_of_an_installed_library_exist():
    named = {command for text in PAGES.values() for command in re.findall(r"keras-sae ([a-z]+)", text)}
    assert named
    assert named <= {"train", "models", *MODULES_OF_COMMANDS}
