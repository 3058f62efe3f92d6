"""Snippets of the README and the documentation run as they stand, each alone; what they link to and call exists."""

import dataclasses
import pathlib
import re
import shlex
import sys

import keras
import numpy as np
import pytest

import keras_sae
from export import exporting
from keras_sae.__main__ import MODULES as MODULES_OF_COMMANDS, list_experiments
from tests.export.conftest import run_here
from tests.export.serve.conftest import serving

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {
    page: page.read_text()
    for page in (ROOT / "README.md", *sorted(ROOT.glob("[a-z]*/README.md")), *sorted(ROOT.glob("docs/**/*.md")))
}
LINKS = [
    (page, *link) for page, text in PAGES.items() for link in re.findall(r"\]\(((?!\w+:)[^)#\s]*)#?([^)\s]*)\)", text)
]
MODULES = sorted(
    {module for text in PAGES.values() for module in re.findall(r"python -m (\w[\w.]*\w)", text)} - {"train.NAME"}
)
# Where a snippet stands -> the paragraph before it, and its code.
SNIPPETS = {
    f"{page.relative_to(ROOT)}, line {text[: found.start()].count(chr(10)) + 1}": (
        text[: found.start()].rstrip().split("\n\n")[-1],
        found[1],
    )
    for page, text in PAGES.items()
    if page == ROOT / "README.md" or page.is_relative_to(ROOT / "docs")
    for found in re.finditer(r"```python\n(.*?)```", text, flags=re.DOTALL)
}
SLOW = ("dead = {}",)  # in snippets that take seconds


def commands(text):
    """The commands of an installed library that a page has, without the remarks behind them."""
    return re.findall(r"^    keras-sae (.*?)(?:  +#.*)?$", text, flags=re.MULTILINE)


COMMANDS = commands(README)
ALL_COMMANDS = sorted({command for page, text in PAGES.items() for command in commands(text)})


def extras(paragraph):
    """The extras that a snippet needs, as the paragraph before it says."""
    return [extra for found in re.findall(r"pip install '\.\[([\w,]+)\]'", paragraph) for extra in found.split(",")]


@pytest.fixture
def fewer_digits(monkeypatch):
    """A third of the digits, for speed; tests/test_wheel.py takes all."""
    digits = keras_sae.sample_digits()
    third = dataclasses.replace(digits, x_train=digits.x_train[::3], y_train=digits.y_train[::3])
    monkeypatch.setattr("keras_sae.runs.presets.sample_digits", lambda: third)
    monkeypatch.setattr(keras_sae, "sample_digits", lambda: third)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, marks=[pytest.mark.slow] * any(words in code for words in SLOW))
        for place, (_, code) in SNIPPETS.items()
    ],
)
def test_a_snippet_runs_alone(place, fewer_digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    names = {}
    exec(compile(SNIPPETS[place][1], place, "exec"), names)
    for result in EXPECTED.keys() & names.keys():
        assert EXPECTED[result](names[result]), result
    capsys.readouterr()


# What a snippet leaves behind -> whether it is right.
EXPECTED = {
    "result": lambda result: result.value < 25,  # a trained autoencoder: untrained, J is above 100
    "largest": lambda largest: largest < 1e-6,
    "differences": lambda differences: max(differences) < 1e-4,
    "ratio": lambda ratio: float(ratio) == pytest.approx(392, rel=1e-4),
    "penalties": lambda penalties: (
        penalties["here", 500] == pytest.approx(penalties["here", 100], rel=1e-5)
        and penalties["naive", 500] == pytest.approx(penalties["naive", 100] / 5, rel=1e-5)
    ),
    "kept": lambda kept: kept["in proportion"] > 0.9 and kept["as for 784"] < 0.75,
    "dead": lambda dead: dead["AuxK"] < dead["as they die"],
    "folded": lambda folded: [np.shape(weight) for weight in folded] == [(784, 256), (256,), (256, 784), (784,)],
    "back": lambda back: back.max() > 100,
    "again": lambda again: again.transform(np.zeros((2, 784))).shape == (2, 64),
    "encoder": lambda encoder: encoder.output_shape == (None, 36),
    "report": lambda report: 0 < report.explained_variance < 1,
    "codes": lambda codes: np.shape(codes)[0] in (10, 200) and np.asarray(codes).std() > 0.01,
    "errors": lambda errors: errors.shape == (200,) and errors.mean() < 25,
    "tiles": lambda tiles: tiles.dtype == "uint8",
    "classifier": lambda classifier: (
        classifier.evaluate((d := keras_sae.sample_digits()).x_test, d.y_test, verbose=0)[1] > 0.7
    ),
    "probabilities": lambda probabilities: probabilities.shape == (200, 10),
    "figure": lambda figure: figure._repr_png_()[:4] == b"\x89PNG",
    "board": lambda board: pathlib.Path(board.log_dir, "projector_config.pbtxt").exists(),
    "search": lambda search: search.best_score_ > 0.6,
    "odd": lambda odd: len(set(odd)) == 10,
    "pooled": lambda pooled: pooled.shape == (200, 3 * 3 * 25),
    "loaded": lambda loaded: loaded.origin["l0"] == 16 and loaded.origin["variance_explained"] > 0.3,
    "ask": lambda ask: (ask["k"], np.shape(ask["instances"])) == (10, (1, 784)),
    "above": lambda above: above.mean() < 0.3,
    "recovered": lambda recovered: recovered.value > 0.7 and recovered.spliced < recovered.ablated,
    "right": lambda right: right.mean() > 0.95,
    "untrained": lambda untrained: untrained.output_shape == (None, 10),
    "even": lambda even: even.history.history["accuracy"][-1] > 0.85,
    "pipeline": lambda pipeline: (
        pipeline[-1].n_iter_[0] < 1000 and pipeline.score((d := keras_sae.sample_digits()).x_test, d.y_test) > 0.88
    ),
    "shares": lambda shares: shares["as they are"] < 0.1 and shares["shifted"] > 0.8,
    "change": lambda change: (
        np.abs(change[(zeros := keras_sae.sample_digits().y_test == 0)]).mean() > (3 * np.abs(change[~zeros]).mean())
    ),
}


@pytest.mark.filterwarnings("ignore")  # of load_sae, after so little training
def test_a_loaded_autoencoder_is_exported_and_asked_by_the_readme(fewer_digits, tmp_path, monkeypatch, capsys):
    """By the commands that follow the snippet, in this process."""
    monkeypatch.chdir(tmp_path)
    fit, names = keras_sae.fit, {}
    monkeypatch.setattr(keras_sae, "fit", lambda *args, **options: fit(*args, **options | {"iterations": 1}))
    exec(next(code for _, code in SNIPPETS.values() if "load_sae(" in code), names)
    export, serve = (
        next(line for line in COMMANDS if line.startswith(f"{name} ") and "exports/sae" in line)
        for name in ("export", "serve")
    )
    monkeypatch.setattr(exporting.subprocess, "run", run_here)
    monkeypatch.setattr("sys.argv", ["keras-sae", *shlex.split(export)])
    keras_sae.__main__.main()
    [file, path] = re.findall(r"^    curl -d @(\S+) http://127.0.0.1:8501(\S+)", README, flags=re.MULTILINE)[0]
    with serving(pathlib.Path(serve.split()[1])) as client:
        [found] = client.post(path, content=pathlib.Path(file).read_bytes()).json()["predictions"]
    [codes] = names["loaded"].transform(names["x"][:1])
    assert found["indices"] == np.argsort(-codes)[:10].tolist()
    np.testing.assert_allclose(found["values"], -np.sort(-codes)[:10], rtol=1e-5)
    capsys.readouterr()


def test_every_result_is_looked_at():
    code = "".join(code for _, code in SNIPPETS.values())
    assert [name for name in EXPECTED if f"{name} = " not in code] == []


def test_snippets_need_the_extras_that_the_text_names():
    """All others run without: see tests/test_wheel.py."""
    optional = ("visualization import", "from sklearn", "load_sae(", "TensorBoard(")
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


def anchors(text):
    """What a page can be entered at: its headings, and the names of the reference with all that they hold."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    headings = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    return tuple(headings), tuple(re.findall(r"^::: (\S+)$", text, flags=re.MULTILINE))


@pytest.mark.parametrize(("page", "path", "anchor"), LINKS)
def test_links_lead_somewhere(page, path, anchor):
    target = (page.parent / path).resolve() if path else page
    assert target.exists()
    if anchor:
        headings, names = anchors(PAGES[target])
        assert anchor in headings or anchor.startswith(names)


@pytest.mark.parametrize("module", MODULES)
def test_commands_exist(module):
    place = ROOT / module.replace(".", "/")
    assert place.with_suffix(".py").exists() or (place / "__main__.py").exists()


def test_the_commands_of_an_installed_library_exist():
    named = {command for text in PAGES.values() for command in re.findall(r"keras-sae ([a-z]+)", text)}
    assert named
    assert named <= {"train", "models", "compare", *MODULES_OF_COMMANDS}


@pytest.mark.parametrize("command", ALL_COMMANDS)
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
