"""Names of columns and classes that mean something in formulas, Markdown, HTML or paths: shown as they are."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_sae import cards, visualization
from keras_sae.data import readers
from keras_sae.event_files import EventFile, write_projector
from train import figures

ODD = ("$x$ \\frac{", "_a_", "^", "<b>&amp;|", "lin\ne", "\\", "$", "`c`")


def test_in_pictures(tmp_path):
    weights = np.arange(16.0).reshape(8, 2)
    figures.save_columns(tmp_path / "a.png", weights, np.ones(2), ODD)
    figures.save_accuracies(tmp_path / "b.png", [1, 2], {"pretrained": [0.1, 0.2]}, 3)
    visualization.confusion_picture(np.eye(8, dtype=int), ODD)
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.filterwarnings("ignore:Type google")  # of protobuf, in tensorboard
def test_in_tensorboard(tmp_path):
    file = EventFile(tmp_path)
    file.scalars(dict.fromkeys(ODD, 1.0), 0)
    file.hparams({"columns": ODD, "labels": ODD[0]})
    file.close()
    write_projector(tmp_path, np.zeros((8, 2)), ODD)
    assert (tmp_path / "labels.tsv").read_text().splitlines() == [" ".join(name.split()) for name in ODD]


def test_on_cards(tmp_path):
    notes = [f"left out: {name}" for name in ODD]
    config = {"notes": notes, "feature_names": [*ODD], "low": [0.0] * 8, "high": [1.0] * 8, "settings": {}}
    card = cards.render(tmp_path, config, {})
    assert "- left out: \\$x\\$ \\\\frac{\n" in card
    assert "| \\<b>\\&amp;\\| | 0 | 1 |" in card
    assert "| lin e | 0 | 1 |" in card


def test_names_of_files_that_are_no_utf8(tmp_path):
    content = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), "uint8")).save(content, "PNG")
    for folder in ("a\udcff$", "b"):
        (tmp_path / "im\udcfe" / folder).mkdir(parents=True)
        (tmp_path / "im\udcfe" / folder / "x\udcff.png").write_bytes(content.getvalue())
    rows = readers.read_rows(tmp_path / "im\udcfe", labels="folders")
    assert rows.class_names == ("a\\udcff$", "b")
    assert rows.source == f"images in {tmp_path}/im\\udcfe"
    assert all(text.isprintable() for text in (rows.source, *rows.notes))
    rows.fingerprint()


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.npy", "x.npz", "x.h5", "x.safetensors", "x.tfrecord"])
def test_files_of_every_kind_whose_name_is_no_utf8(name, tmp_path):
    import h5py
    import pyarrow.parquet
    import safetensors.numpy
    import tensorflow as tf

    x, path = np.arange(6, dtype="float32").reshape(3, 2), tmp_path / name
    table = pyarrow.table({"a": x[:, 0], "b": x[:, 1]})
    example = [tf.train.Example() for _ in x]
    for row, one in zip(x, example, strict=True):
        one.features.feature["x"].float_list.value.extend(row)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = x
    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer:
        for one in example:
            writer.write(one.SerializeToString())
    (tmp_path / "x.csv").write_text("a,b\n0,1\n2,3\n4,5\n")
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    safetensors.numpy.save_file({"x": x}, tmp_path / "x.safetensors")
    odd = path.rename(tmp_path / f"\udcff\udcfe{name}")
    np.testing.assert_array_equal(readers.read_rows(odd).x, x)
