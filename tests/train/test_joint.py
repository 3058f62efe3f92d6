"""Data of which few rows have a label: what is held out, what is learned from, and a network that learns from all."""

import numpy as np
import pytest

import keras_sae
from keras_sae import runs
from train import features, joint, parts


@pytest.mark.parametrize(("rows", "known", "number", "size"), [(250, 20, 2, 125), (257, 20, 3, 85), (60, 60, 1, 60)])
def test_minibatches_are_whole_and_rows_with_labels_stay(rows, known, number, size):
    y = np.full(rows, -1)
    y[:: rows // known][:known] = 0
    chosen, batch_size = joint.whole_minibatches(y)
    assert (len(chosen), batch_size) == (number * size, size)
    assert (y[chosen] == 0).sum() == (y == 0).sum()
    assert (np.diff(chosen) > 0).all()


def test_of_rows_with_labels_and_without_a_tenth_each_is_held_out():
    y = np.where(np.arange(200) < 30, 1, -1)
    train, held_out = parts.split(200, 0, y)
    assert (y[held_out] == 1).sum() == 3
    assert (y[held_out] == -1).sum() == 17
    assert sorted([*train, *held_out]) == list(range(200))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A table of two clouds, of whose rows a quarter have a label."""
    rng = np.random.default_rng(0)
    y = np.arange(160) % 2
    x = rng.normal(size=(160, 4)) + np.where(y[:, None], 3.0, -3.0)
    lines = [
        ",".join([*map("{:.4f}".format, row), "ab"[label] if number % 8 < 2 else ""])
        for number, (row, label) in enumerate(zip(x, y, strict=True))
    ]
    path = tmp_path_factory.mktemp("few") / "x.csv"
    path.write_text("\n".join(["p,q,r,s,kind", *lines]))
    return path


def train(out, data, **settings):
    config = features.Config(data=(str(data),), labels="kind", units=(6,), max_iterations=5, out=str(out), **settings)
    return features.run(config, verbose=0)


def test_labels_are_learned_from_the_rows_that_have_one(data, tmp_path, capsys):
    metrics = train(tmp_path / "run", data)
    assert (metrics["num_train"], metrics["num_labels"], metrics["accuracy_raw"]) == (144, 36, 1)
    said = capsys.readouterr().out
    assert "120 of 160 rows have no label" in said
    assert "2 classes: a 20, b 20" in said
    assert "--joint learns the classes from rows without labels as well" in said
    assert set(runs.load_examples(tmp_path / "run")[1]) == {0, 1}


def test_labels_and_reconstruction_are_learned_as_one(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(joint, "STEPS", 60)
    metrics = train(tmp_path / "run", data, joint=True)
    assert metrics["accuracy_joint"] == 1
    assert "--joint learns" not in capsys.readouterr().out
    model, (x, y) = keras_sae.load(tmp_path / "run"), runs.load_examples(tmp_path / "run")
    np.testing.assert_array_equal(np.asarray(model(x)).argmax(axis=1), y)
    assert np.asarray(keras_sae.load_encoder(tmp_path / "run", finetuned=True)(x)).min() == 0  # of rectified units
    assert keras_sae.load_encoder(tmp_path / "run")(x).shape == (len(x), 6)
