"""python -m export.features: every row once and in order, by every runtime, from every format."""

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import tensorflow as tf
from PIL import Image

from export import layout, runtimes
from export.features import columns, outputs
from export.features.keys import read_keys
from keras_sae.data import readers
from keras_sae.errors import InputError
from tests.export.features.conftest import NAMES, ROWS, check, matrix


def test_the_features_tell_rows_apart(expected):
    """Without this, rows in another order would pass."""
    assert np.unique(expected.round(3), axis=0).shape == (ROWS, 9)


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".csv"])
@pytest.mark.parametrize("model", layout.FORMATS)
def test_every_runtime_gives_keras_features_in_the_order_of_the_rows(
    main, exported, data, out, expected, model, suffix, capfd
):
    out = out.with_suffix(suffix)
    main(exported, "--data", data, "--out", out, "--model", model, "--batch-size", 7)
    check(out, expected)
    printed = capfd.readouterr()
    assert "40 rows of feature_0, ..., feature_8 (" in printed.out
    assert printed.err == ""


def table(images):
    pixels = {f"p{i}": column for i, column in enumerate(images[0].T)}
    return pyarrow.table({**pixels, "digit": images[1]})


def write_csv(folder, images):
    pyarrow.csv.write_csv(table(images), folder / "t.csv")
    return folder / "t.csv", "digit"


def write_parquet(folder, images):
    pyarrow.parquet.write_table(table(images), folder / "t.parquet")
    return folder / "t.parquet", "digit"


def write_npz(folder, images):
    np.savez(folder / "t.npz", x=images[0], y=images[1])
    return folder / "t.npz", "y"


def write_npy(folder, images):
    np.save(folder / "t.npy", images[0])
    np.save(folder / "classes.npy", images[1])
    return folder / "t.npy", folder / "classes.npy"


def write_images(folder, images):
    for number, (image, y) in enumerate(zip(*images, strict=True)):
        (folder / "images" / str(y)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.reshape(28, 28)).save(folder / "images" / str(y) / f"{number:02}.png")
    return folder / "images", "folders"


def write_tfrecord(folder, images):
    with tf.io.TFRecordWriter(str(folder / "t.tfrecord")) as writer:
        for image, y in zip(*images, strict=True):
            pixels = tf.train.Feature(float_list=tf.train.FloatList(value=image))
            label = tf.train.Feature(int64_list=tf.train.Int64List(value=[y]))
            feature = tf.train.Features(feature={"pixels": pixels, "digit": label})
            writer.write(tf.train.Example(features=feature).SerializeToString())
    return folder / "t.tfrecord", "digit"


@pytest.mark.parametrize("write", [write_csv, write_parquet, write_npz, write_npy, write_images, write_tfrecord])
def test_every_format_is_read_and_its_labels_kept(main, exported, images, out, expected, tmp_path, write):
    path, labels = write(tmp_path, images)
    main(exported, "--data", path, "--labels", labels, "--out", out, "--model", "litert")
    order = np.argsort(images[1], kind="stable") if write is write_images else slice(None)  # by folder
    check(out, expected[order])
    found = pyarrow.parquet.read_table(out)
    assert found.column_names == [*NAMES, "digit" if write in (write_csv, write_parquet) else "label"]
    np.testing.assert_array_equal(found.column(9), images[1][order])


def test_labels_that_are_words_stay_words_and_the_readers_read_the_file(
    main, exported, images, expected, out, tmp_path
):
    pyarrow.csv.write_csv(table((images[0], np.array(["even", "odd"])[images[1] % 2])), tmp_path / "t.csv")
    main(exported, "--data", tmp_path / "t.csv", "--labels", "digit", "--out", out, "--model", "onnx")
    rows = readers.read_rows(out, labels="digit")
    np.testing.assert_allclose(rows.x, expected, atol=2e-5)
    np.testing.assert_array_equal(rows.y, images[1] % 2)
    assert (rows.class_names, rows.feature_names) == (("even", "odd"), tuple(NAMES))


def test_labels_of_a_npy_file_lie_beside_it(main, refused, exported, data, images, out):
    out = out.with_suffix(".npy")
    command = (exported, "--data", data, "--labels", data.with_name("y.npy"), "--out", out, "--model", "onnx")
    main(*command)
    np.testing.assert_array_equal(np.load(out.with_name("features.labels.npy")), images[1])
    out.unlink()
    assert "features.labels.npy, which exists" in refused(*command)


def test_a_csv_file_holds_the_labels_as_they_were(main, exported, images, tmp_path, expected):
    names = np.array(["zero, or 0", 'quoted "1"', *map(str, range(2, 10))])[images[1]]
    path, _ = write_parquet(tmp_path, (images[0], names))
    out = tmp_path / "out.csv"
    main(exported, "--data", path, "--labels", "digit", "--out", out, "--model", "litert")
    check(out, expected)
    found = pyarrow.csv.read_csv(out)
    assert found.column_names == [*NAMES, "digit"]
    assert found["digit"].to_pylist() == names.tolist()


@pytest.mark.parametrize("names", [["7", "", "5"], ["b", "", "a"]])
@pytest.mark.parametrize("suffix", ["", ".csv", ".npy"])
def test_rows_without_a_label_have_none_in_an_output(names, suffix, tmp_path):
    """What was read from a file with gaps has the same gaps in what is written, for whoever reads it."""
    np.savez(tmp_path / "x.npz", x=np.eye(3), y=np.array(names))
    rows = readers.read_rows(tmp_path / "x.npz", labels="y")
    output = outputs.output_at(tmp_path / f"out{suffix}", "y")
    with output.opened({}, overwrite=False):
        output.begin({"features": np.ones((1, 2), "float32")}, 3, rows)
        output.write([{"features": np.ones((3, 2), "float32")}], 0, 3)
        output.publish()
    if suffix == ".npy":
        found = readers.read_rows(output.place, labels=tmp_path / "out.labels.npy")
    else:
        found = readers.read_rows(output.place, labels="label")
    assert (found.y.tolist(), found.class_names) == (rows.y.tolist(), rows.class_names)
    assert rows.y.tolist() == [1, -1, 0]


def test_class_names_that_only_look_like_numbers_stay_text():
    assert columns.label_values(("1", "02")).tolist() == ["1", "02"]
    assert columns.label_values(("-1", "9" * 30)).tolist() == ["-1", "9" * 30]
    assert columns.label_values(("-1", "20")).tolist() == [-1, 20]


def test_a_signature_of_several_outputs_becomes_several_groups_of_columns(main, several, data, out, expected):
    main(several, "--data", data, "--out", out, "--signature", "reconstruct", "--batch-size", 11)
    assert set(pyarrow.parquet.read_table(out).column_names) == {*NAMES, "output_0", "output_1", "error"}
    check(out, expected)
    np.testing.assert_allclose(matrix(out, ["output_0", "output_1"]), expected[:, :2], atol=2e-5)
    np.testing.assert_allclose(matrix(out, ["error"])[:, 0], expected.sum(axis=1), atol=1e-4)


def test_an_onnx_file_with_a_head_has_both_signatures(main, exported, data, out, expected):
    main(exported, "--data", data, "--out", out, "--signature", "classify", "--model", "onnx")
    names = [f"probability_{i}" for i in range(9)]
    assert pyarrow.parquet.read_table(out).column_names == names
    np.testing.assert_allclose(matrix(out, names), expected, atol=2e-5)


def test_the_models_label_and_the_datas_both_stay(main, several, data, out, images, expected):
    command = (several, "--data", data, "--labels", data.with_name("y.npy"), "--out", out)
    main(*command, "--signature", "classify")
    found = pyarrow.parquet.read_table(out)
    np.testing.assert_array_equal(found["true_label"], images[1])
    np.testing.assert_array_equal(found["label"], expected.argmax(axis=1))
    assert str(found["label"].type) == "int64"
    assert {"probability_0", "score"} <= set(found.column_names)


def test_the_newest_saved_model_is_taken(tmp_path):
    for version in ("2", "10", "draft"):
        (tmp_path / "saved_model" / version).mkdir(parents=True)
        (tmp_path / "saved_model" / version / "saved_model.pb").touch()
    assert runtimes.find(tmp_path, None) == tmp_path / "saved_model" / "10"


def test_a_model_may_be_named_in_every_way(exported):
    assert runtimes.find(exported, None) == exported / "saved_model" / "1"
    assert runtimes.find(exported, "litert") == exported / "encoder.tflite"
    assert runtimes.find(exported, "encoder.onnx") == exported / "encoder.onnx"
    assert runtimes.find(exported, str(exported / "encoder.tflite")) == exported / "encoder.tflite"
    assert runtimes.find(exported / "encoder.onnx", None) == exported / "encoder.onnx"
    assert runtimes.find(exported / "saved_model" / "1", None) == exported / "saved_model" / "1"


def test_keys_are_of_one_kind_in_all_files(tmp_path):
    """Integers of several widths and columns without values become one; texts beside integers are refused."""
    write = pyarrow.parquet.write_table
    write(pyarrow.table({"a": pyarrow.array([1, 2], "int32"), "b": ["x", "y"]}), tmp_path / "x-0.parquet")
    write(pyarrow.table({"a": pyarrow.array([3], "int64"), "b": pyarrow.nulls(1)}), tmp_path / "x-1.parquet")
    found = read_keys([str(tmp_path / "x-*.parquet")], ["a", "b", "a"])
    assert {name: column.to_pylist() for name, column in found.items()} == {"a": [1, 2, 3], "b": ["x", "y", None]}
    write(pyarrow.table({"a": ["text"], "b": ["z"]}), tmp_path / "x-2.parquet")
    with pytest.raises(InputError, match="Expected --keys of one kind in all files"):
        read_keys([str(tmp_path / "x-*.parquet")], ["a"])


def test_keys_of_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and more, but no table PAR1")
    with pytest.raises(InputError, match=r"Expected a Parquet file\. Received: .*x\.parquet, which cannot be read"):
        read_keys([str(tmp_path / "x.parquet")], ["a"])
