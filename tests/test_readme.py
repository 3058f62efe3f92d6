"""The README's snippets run as they stand, each alone; what the READMEs link to and call exists."""

import dataclasses
import pathlib
import re
import shlex
import sys

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.__main__ import MODULES as MODULES_OF_COMMANDS, list_experiments

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {page: page.read_text() for page in (ROOT / "README.md", *sorted(ROOT.glob("[a-z]*/README.md")))}
LINKS = [(page, path) for page, text in PAGES.items() for path in re.findall(r"\]\(([^)#:]+)\)", text)]
MODULES = sorted(
    {module for text in PAGES.values() for module in re.findall(r"python -m (\w[\w.]*\w)", text)} - {"train.NAME"}
)
# Where a snippet stands -> the paragraph before it, and its code.
SNIPPETS = {
    README[: found.start()].count("\n") + 1: (README[: found.start()].rstrip().split("\n\n")[-1], found[1])
    for found in re.finditer(r"```python\n(.*?)```", README, flags=re.DOTALL)
}
COMMANDS = re.findall(r"^    keras-sae (.*?)(?:  +#.*)?$", README, flags=re.MULTILINE)


def extras(paragraph):
    """The extras that a snippet needs, as the paragraph before it says."""
    return [extra for found in re.findall(r"pip install '\.\[([\w,]+)\]'", paragraph) for extra in found.split(",")]


@pytest.fixture
def fewer_digits(monkeypatch):
    """A third of the digits, for speed; tests/test_wheel.py takes all."""
    digits = keras_sae.sample_digits()
    third = dataclasses.replace(digits, x_train=digits.x_train[::3], y_train=digits.y_train[::3])
    monkeypatch.setattr("keras_sae.presets.sample_digits", lambda: third)
    monkeypatch.setattr(keras_sae, "sample_digits", lambda: third)


@pytest.mark.parametrize("line", SNIPPETS)
def test_a_snippet_runs_alone(line, fewer_digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    names = {}
    exec(compile(SNIPPETS[line][1], f"README.md, line {line}", "exec"), names)
    for result in EXPECTED.keys() & names.keys():
        assert EXPECTED[result](names[result]), result
    capsys.readouterr()


# What a snippet leaves behind -> whether it is right.
EXPECTED = {
    "result": lambda result: result.value < 25,  # a trained autoencoder: untrained, J is above 100
    "codes": lambda codes: np.shape(codes)[0] in (10, 200) and np.asarray(codes).std() > 0.01,
    "errors": lambda errors: errors.shape == (200,) and errors.mean() < 25,
    "tiles": lambda tiles: tiles.dtype == "uint8",
    "classifier": lambda classifier: (
        classifier.evaluate((d := keras_sae.sample_digits()).x_test, d.y_test, verbose=0)[1] > 0.7
    ),
    "probabilities": lambda probabilities: probabilities.shape == (200, 10),
    "figure": lambda figure: figure._repr_png_()[:4] == b"\x89PNG",
    "search": lambda search: search.best_score_ > 0.6,
    "odd": lambda odd: len(set(odd)) == 10,
    "pooled": lambda pooled: pooled.shape == (200, 3 * 3 * 25),
    "loaded": lambda loaded: loaded.origin["l0"] == 16 and loaded.origin["variance_explained"] > 0.3,
    "strongest": lambda strongest: len(set(strongest)) == 10,
    "above": lambda above: above.mean() < 0.3,
    "recovered": lambda recovered: recovered.value > 0.7 and recovered.spliced < recovered.ablated,
    "change": lambda change: (
        np.abs(change[(zeros := keras_sae.sample_digits().y_test == 0)]).mean() > (3 * np.abs(change[~zeros]).mean())
    ),
}


def test_every_result_is_looked_at():
    code = "".join(code for _, code in SNIPPETS.values())
    assert [name for name in EXPECTED if f"{name} = " not in code] == []


def test_snippets_need_the_extras_that_the_text_names():
    """All others run without: see tests/test_wheel.py."""
    optional = ("visualization import", "sklearn import", "load_sae(")
    for paragraph, code in SNIPPETS.values():
        assert bool(extras(paragraph)) == any(words in code for words in optional), code


def test_the_first_screen_installs_and_shows():
    first = README.splitlines()[:40]
    assert next(line for line in first if line.startswith("    ")).startswith("    pip install .")
    assert any(line == "```python" for line in first)
    assert any(line.startswith("![") for line in first)
    for reference in (
        "http://ufldl.stanford.edu/tutorial/unsupervised/Autoencoders/",
        "https://web.stanford.edu/class/cs294a/sparseAutoencoder.pdf",
    ):
        assert reference in "\n".join(first)


@pytest.mark.parametrize(("page", "path"), LINKS)
def test_links_lead_somewhere(page, path):
    assert (page.parent / path).exists()


def test_links_within_the_readme_lead_to_headings():
    titles = re.findall(r"^#+ (.*)$", README, flags=re.MULTILINE)
    headings = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([\w-]+)\)", README)) <= headings


@pytest.mark.parametrize("module", MODULES)
def test_commands_exist(module):
    place = ROOT / module.replace(".", "/")
    assert place.with_suffix(".py").exists() or (place / "__main__.py").exists()


def test_the_commands_of_an_installed_library_exist():
    named = {command for text in PAGES.values() for command in re.findall(r"keras-sae ([a-z]+)", text)}
    assert named
    assert named <= {"train", "models", "compare", *MODULES_OF_COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_the_flags_that_its_help_teaches(command, monkeypatch, capsys):
    words = shlex.split(command)
    taught = words[:2] if words[0] == "train" and len(words) > 1 else words[:1]
    assert taught[-1] in {"train", "compare", "models", *MODULES_OF_COMMANDS, *list_experiments()}
    flags = {word for word in words if word.startswith("--")}
    if not flags:
        return
    module = f"train.{taught[1]}" if taught[1:] else MODULES_OF_COMMANDS[taught[0]]
    for name in (module, f"{module}.__main__"):  # other tests may have imported what runpy is to run
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("sys.argv", ["keras-sae", *taught, "--help"])
    with pytest.raises(SystemExit):
        keras_sae.__main__.main()
    text = capsys.readouterr().out
    assert [flag for flag in flags if flag not in text] == []
