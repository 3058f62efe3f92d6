"""A run on a small table, its export, and python -m export.anomalies as a function."""

import sys

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

import keras_sae
from export.anomalies import __main__ as anomalies
from keras_sae import runs
from keras_sae.anomalies import UsualErrors
from keras_sae.data.preprocessing import fit_preprocessing
from keras_sae.stack import build_stack
from tests.export.conftest import export_here

NAMES = ["length", "width", "mass", "heat", "rate"]


def rows(number, seed):
    """Five columns in units of their own that two numbers decide, and a little noise, float32."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(size=(2, number))
    columns = np.stack([a, b, (a + b) / 2, 1 - a, (1 - a + b) / 2], axis=1) + rng.normal(0, 0.01, size=(number, 5))
    return (columns * [1, 100, 1e4, 1e-3, 10] + [0, 500, -3e3, 0, 0]).astype("float32")


@pytest.fixture(scope="module")
def stack():
    """Two layers, trained on 300 rows for a second."""
    x = rows(300, 1)
    stack = build_stack((8, 6), 0.2, beta=0.0, weight_decay=1e-5, preprocessing=fit_preprocessing(x))
    stack.build((None, 5))
    np.random.seed(0)
    stack.pretrain(x, iterations=60, verbose=0)
    return stack


@pytest.fixture(scope="module")
def usual(stack):
    return UsualErrors.measure(stack, rows(199, 2))


@pytest.fixture(scope="module")
def run(stack, usual, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "table"
    keras_sae.save(stack, folder, {"feature_names": NAMES, "usual_errors": usual.record()})
    runs.save_examples(folder / "examples.npz", rows(50, 3))
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """An export with a SavedModel and a LiteRT file."""
    out = tmp_path_factory.mktemp("exports") / "table"
    export_here(run, out)
    return out


@pytest.fixture(scope="module")
def x():
    """40 usual rows but row 7, whose heat is ten times what it can be."""
    x = rows(40, 4)
    x[7, 3] += 0.01
    return x


@pytest.fixture
def data(x, tmp_path):
    """The path of the rows as a csv file, with an identifier; the columns in another order."""
    lines = [f"{row[4]!r},{','.join(map(repr, row[:4]))},n{i}" for i, row in enumerate(x.astype("float64").tolist())]
    (tmp_path / "x.csv").write_text("\n".join([",".join([NAMES[4], *NAMES[:4], "id"]), *lines]))
    return tmp_path / "x.csv"


@pytest.fixture
def main(monkeypatch):
    """main(*arguments) as `python -m export.anomalies ARGUMENTS` calls it."""

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", [anomalies.PROGRAM, *map(str, arguments)])
        anomalies.main()

    return main


def table(path):
    """An output: name of a column -> its values."""
    found = (pyarrow.csv.read_csv if path.suffix == ".csv" else pyarrow.parquet.read_table)(path)
    return {name: np.array(found[name].to_pylist()) for name in found.column_names}
