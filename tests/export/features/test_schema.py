"""python -m export.features reads data as the training did: columns by name, images of its size, colour and range."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf
from PIL import Image

from export.features import schema
from export.schema import schema_of

X = np.array([[1.0, 20.0, 300.0], [4.0, 50.0, 600.0], [7.0, 80.0, 900.0]])
NAMES = ["a", "b", "c"]


@pytest.fixture
def export(tmp_path):
    """export(schema, features) -> a SavedModel whose features are its inputs, with what a run recorded of them."""

    def export(known, features=3):
        module = tf.Module()
        spec = tf.TensorSpec((None, features), tf.float32, name="inputs")
        module.encode = tf.function(lambda inputs: {"features": tf.identity(inputs)}, input_signature=[spec])
        place = tmp_path / "export" / "saved_model" / "1"
        tf.saved_model.save(module, str(place), signatures={"encode": module.encode})
        record = {"files": {"saved_model/1": {"schema": known}}}
        (tmp_path / "export" / "export.json").write_text(json.dumps(record))
        return tmp_path / "export"

    return export


@pytest.fixture
def extracted(main, tmp_path, capfd):
    """extracted(export, data, *flags) -> (features, what was printed)."""

    def extracted(export, data, *flags):
        out = tmp_path / "features.npy"
        main(export, "--data", data, "--out", out, "--overwrite", *flags)
        return np.load(out), capfd.readouterr().out

    return extracted


def write_csv(path, names, columns):
    lines = [",".join(names), *(",".join(map(str, row)) for row in zip(*columns, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_parquet(path, names, columns):
    pyarrow.parquet.write_table(pyarrow.table(dict(zip(names, columns, strict=True))), path)
    return path


def write_tfrecord(path, names, columns):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in zip(*columns, strict=True):
            lists = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
                if isinstance(value, str)
                else tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
                for name, value in zip(names, row, strict=True)
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString())
    return path


TABLES = {"x.csv": write_csv, "x.parquet": write_parquet, "x.tfrecord": write_tfrecord}
of_every_kind = pytest.mark.parametrize("name", TABLES)


@of_every_kind
def test_columns_are_taken_by_name_in_any_order(export, extracted, tmp_path, name):
    a, b, c = X.T.tolist()
    data = TABLES[name](tmp_path / name, ["c", "id", "a", "b"], [c, ["p", "q", "r"], a, b])
    found, printed = extracted(export({"feature_names": NAMES}), data)
    np.testing.assert_array_equal(found, X)
    assert "note        left out: id" in printed


@of_every_kind
def test_columns_that_are_not_there_are_named(export, refused, tmp_path, name):
    data = TABLES[name](tmp_path / name, ["c", "b", "A"], X.T.tolist())
    line = refused(export({"feature_names": NAMES}), "--data", data, "--out", tmp_path / "out.npy")
    wanted = "named 'a'" if name == "x.tfrecord" else f"the columns a, b, c. Received: {data} without a. Add what is"
    assert wanted in line
    assert not (tmp_path / "out.npy").exists()


def test_one_row_and_one_class_are_enough(export, extracted, tmp_path):
    data = write_csv(tmp_path / "x.csv", ["b", "a", "kind", "c"], [[20], [1], ["u"], [300]])
    found, _ = extracted(export({"feature_names": NAMES}), data, "--labels", "kind")
    np.testing.assert_array_equal(found, X[:1])
    assert np.load(tmp_path / "features.labels.npy").tolist() == ["u"]


def test_constant_columns_are_fine(export, extracted, tmp_path):
    found, _ = extracted(export({"feature_names": ["a"]}, 1), write_csv(tmp_path / "x.csv", ["a"], [[5, 5]]))
    np.testing.assert_array_equal(found, [[5], [5]])


def test_data_without_names_are_taken_by_position_and_said_to_be(export, extracted, tmp_path):
    np.save(tmp_path / "x.npy", X)
    found, printed = extracted(export({"feature_names": NAMES}), tmp_path / "x.npy")
    np.testing.assert_array_equal(found, X)
    assert "note        columns without names are taken in the order of a, b, c\n" in printed


def test_a_model_that_knows_no_names_takes_columns_as_they_are(export, extracted, tmp_path):
    found, printed = extracted(export({}), write_csv(tmp_path / "x.csv", ["u", "v", "w"], X.T.tolist()))
    np.testing.assert_array_equal(found, X)
    assert "note" not in printed


def pictures(folder):
    """Two colour pictures of one colour each, 4 x 6 pixels and 2 x 3."""
    folder.mkdir()
    for name, size, colour in (("0", (6, 4), (250, 100, 50)), ("1", (3, 2), (0, 255, 30))):
        Image.new("RGB", size, colour).save(folder / f"{name}.png")
    return folder


def test_images_have_the_size_and_colour_of_the_training(export, extracted, tmp_path):
    known = {"image_shape": [2, 3, 3], "pixel_range": 255}
    found, _ = extracted(export(known, 18), pictures(tmp_path / "photos"))
    np.testing.assert_array_equal(found, np.repeat([[250, 100, 50], [0, 255, 30]], 6, axis=0).reshape(2, 18))


def test_flags_override_the_size_and_the_colour(export, extracted, tmp_path):
    known = {"image_shape": [2, 3, 3], "pixel_range": 255}
    found, _ = extracted(export(known, 4), pictures(tmp_path / "photos"), "--image-size", 1, 4, "--no-color")
    assert (found.shape, len(np.unique(found))) == ((2, 4), 2)
    with pytest.raises(SystemExit):
        extracted(export(known, 4), tmp_path / "photos", "--image-size", 1, 2, 3)


def test_pixels_have_the_range_of_the_training(export, extracted, tmp_path):
    """A model of pixels from 0 to 1, as those of train.mnist, given image files."""
    found, _ = extracted(export({"image_shape": [1, 1, 3], "pixel_range": 1}), pictures(tmp_path / "photos"))
    np.testing.assert_allclose(found, np.array([[250, 100, 50], [0, 255, 30]]) / 255, rtol=1e-6)


def test_several_files_are_read_as_one(export, extracted, tmp_path):
    for i in range(3):
        write_csv(tmp_path / f"{i}.csv", NAMES, X[i : i + 1].T.tolist())
    found, _ = extracted(export({"feature_names": NAMES}), tmp_path / "*.csv")
    np.testing.assert_array_equal(found, X)


def test_what_is_known_of_a_model(export, tmp_path):
    place = export({"feature_names": NAMES})
    assert schema_of(place / "saved_model" / "1") == {"feature_names": NAMES}
    assert schema_of(place / "saved_model" / "2") == {}  # of which nothing is recorded
    assert schema_of(tmp_path / "elsewhere.tflite") == {}
    (place / "export.json").write_text("{")
    with pytest.raises(ValueError, match="which is damaged"):
        schema_of(place / "saved_model" / "1")


def test_columns_of_0_and_1_are_read_from_the_column_of_texts_that_they_were():
    """In the order of the training; a column of the data may have a name with = of its own."""
    known = {"feature_names": ["a", "colour=blue", "colour=red", "b=c"], "categories": {"colour": ["blue", "red"]}}
    found = schema.options(known, ("labels", "names", "one_hot"), None)
    assert found == {"names": ["a", "colour", "b=c"], "one_hot": {"colour": ["blue", "red"]}}
