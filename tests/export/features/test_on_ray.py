"""python -m export.features --engine ray: the rows of one machine, in their order, with their keys, after deaths too.

Actors are objects of this process but for the last test.
"""

import pathlib
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from export.features import on_ray
from keras_sae.cluster import ray_engine
from tests.export.features.conftest import check, matrix, partial
from tests.keras_sae.cluster.double import Here

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def engine(monkeypatch):
    engine = Here(on_ray.Extractor)
    monkeypatch.setattr(ray_engine, "RayEngine", lambda *_: engine)
    monkeypatch.setattr(on_ray, "use_threads", lambda number: None)
    return engine


@pytest.fixture
def files(images, tmp_path):
    """Three Parquet files of lists, in an order in which they were not written, with keys of their rows."""
    x, y = images
    for number, rows in enumerate(np.split(np.arange(40), [5, 23])):
        pixels = pyarrow.FixedSizeListArray.from_arrays(x[rows].reshape(-1), 784)
        keys = [f"row {row}" for row in rows]
        table = pyarrow.table({"pixels": pixels, "digit": y[rows], "key": keys})
        pyarrow.parquet.write_table(table, tmp_path / f"x-{number:05}-of-00003.parquet")
    return str(tmp_path / "x-*.parquet")


def test_rows_are_those_of_one_machine_in_their_order_with_keys_and_labels(
    main, exported, engine, files, out, expected, images, often, capfd
):
    options = ["--data", files, "--feature", "pixels", "--labels", "digit", "--keys", "key", "--batch-size", 8]
    main(exported, *options, "--out", out, "--engine", "ray")
    check(out, expected)
    table = pyarrow.parquet.read_table(out)
    assert table["key"].to_pylist() == [f"row {row}" for row in range(40)]
    assert table["label"].to_pylist() == images[1].tolist()
    names = sorted(path.name for path in out.iterdir())
    assert names[:2] == ["part-00000-00000.parquet", "part-00001-00000.parquet"]
    assert "40 rows" in capfd.readouterr().out
    assert engine.closed
    here = out.with_name("here.parquet")
    main(exported, *options, "--out", here)
    assert pyarrow.parquet.read_table(here).schema == table.schema
    assert pyarrow.parquet.read_table(here)["key"].to_pylist() == table["key"].to_pylist()
    np.testing.assert_allclose(matrix(here), matrix(out), rtol=0, atol=1e-6)


def test_an_actor_that_dies_is_replaced(main, exported, engine, files, out, expected):
    engine.deaths = {"extract": 2}
    main(exported, "--data", files, "--feature", "pixels", "--out", out, "--engine", "ray")
    check(out, expected)
    assert engine.started >= 3


def test_a_command_that_ended_early_resumes(main, exported, engine, files, out, expected, capfd, monkeypatch):
    arguments = [exported, "--data", files, "--feature", "pixels", "--out", out, "--engine", "ray"]
    whole = on_ray.Extractor.extract
    monkeypatch.setattr(on_ray.Extractor, "extract", failing_after(1, whole))
    with pytest.raises(SystemExit):
        main(*arguments)
    assert "Expected a disk that lives." in capfd.readouterr().err
    assert len([*(partial(out) / "pieces").glob("0*")]) == 1
    monkeypatch.setattr(on_ray.Extractor, "extract", whole)
    main(*arguments)
    check(out, expected)


def test_labels_and_keys_of_other_kinds_in_each_file_become_one_table(main, exported, engine, images, tmp_path, out):
    """Whole numbers, texts, and none at all; keys of 32 and 64 bits. What was unified stays so if it is done again."""
    x, _ = images
    labels = [pyarrow.array([1, 2] * 5), pyarrow.array(["a", None, "1", "b"]), pyarrow.nulls(3, "string")]
    keys = [np.arange(10, dtype="int64"), np.arange(4, dtype="int32"), np.arange(3, dtype="int64")]
    for number, (label, key) in enumerate(zip(labels, keys, strict=True)):
        pixels = pyarrow.FixedSizeListArray.from_arrays(x[: len(label)].reshape(-1), 784)
        table = pyarrow.table({"pixels": pixels, "kind": label, "key": key})
        pyarrow.parquet.write_table(table, tmp_path / f"y-{number}.parquet")
    options = ["--feature", "pixels", "--labels", "kind", "--keys", "key", "key", "--engine", "ray"]
    main(exported, "--data", tmp_path / "y-*.parquet", *options, "--out", out)
    table = pyarrow.parquet.read_table(out)
    assert table["label"].to_pylist() == ["1", "2"] * 5 + ["a", None, "1", "b"] + [None] * 3
    assert table["key"].to_pylist() == [*range(10), *range(4), *range(3)]
    before = [path.read_bytes() for path in sorted(out.iterdir())]
    on_ray.unify(sorted(out.iterdir()))
    assert [path.read_bytes() for path in sorted(out.iterdir())] == before


def test_memory_is_obeyed(main, exported, engine, files, out, capfd):
    with pytest.raises(SystemExit):
        main(exported, "--data", files, "--feature", "pixels", "--out", out, "--engine", "ray", "--memory", "0.001")
    assert "GB" in capfd.readouterr().err


def test_a_file_of_labels_is_found_from_other_directories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a = on_ray.argparse.Namespace(export="e", model="litert", labels="y.npy", data=["x"], out="o")
    assert on_ray.absolute(a).labels == str(tmp_path / "y.npy")
    a.labels = "digit"
    assert (on_ray.absolute(a).labels, on_ray.absolute(a).model) == ("digit", "litert")


def failing_after(number, extract):
    done = []

    def failing(self, path, place):
        if len(done) == number:
            raise on_ray.InputError("Expected a disk that lives.")
        done.append(path)
        return extract(self, path, place)

    return failing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "x.npy", "--engine", "ray"], "argument --engine: expected a new directory for Parquet"),
        (["--out", "x.npy", "--keys", "key"], "argument --keys: expected a table as --out"),
        (
            ["--out", "x", "--cluster", "h:1"],
            "argument --cluster: expected --engine ray beside it, received: h:1",
        ),
        (["--out", "x", "--keys", "none"], "Expected --keys that are columns of the data. Received: none, not in"),
        (["--out", "x", "--keys", "feature_1"], "not in"),
    ],
    ids=["place", "no table", "no engine", "no column", "taken"],
)
def test_flags_that_do_not_fit_are_refused(main, exported, files, tmp_path, options, message, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(exported, "--data", files, "--feature", "pixels", *options)
    assert stopped.value.code == 2
    assert message in capfd.readouterr().err


def test_images_have_no_files_of_rows(main, exported, engine, tmp_path, out, capfd):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((28, 28), "uint8")).save(tmp_path / "x.png")
    with pytest.raises(SystemExit):
        main(exported, "--data", tmp_path / "x.png", "--out", out, "--engine", "ray")
    assert "Expected files of many rows for --engine ray. Received: images in" in capfd.readouterr().err


@pytest.mark.slow
def test_ray_itself_gives_the_same(exported, files, out, expected):
    pytest.importorskip("ray", reason="needs Ray: pip install 'keras-sae[cluster]'")
    command = [sys.executable, "-m", "export.features", exported, "--data", files, "--feature", "pixels", "--out", out]
    done = subprocess.run([*command, "--engine", "ray"], cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    check(out, expected)
