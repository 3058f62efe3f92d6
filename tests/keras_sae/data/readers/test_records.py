"""readers.records: TFRecord files and tensorflow-datasets."""

import numpy as np
import pytest

from keras_sae.data import datasets, readers
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises
from tests.keras_sae.data.readers.conftest import ROWS, check_digits, encoded

# --- TFRecord ---


def write_records(path, examples, compression=None):
    """A TFRecord file of {name: list of floats, ints or bytes}."""
    import tensorflow as tf

    def feature(values):
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for example in examples:
            features = tf.train.Features(feature={name: feature(values) for name, values in example.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())
    return path


@pytest.mark.parametrize("name", ["digits.tfrecord", "digits.tfrecords", "digits.tfrecord-00000-of-00001"])
def test_tfrecord(name, images, classes, tmp_path):
    path = write_records(
        tmp_path / name,
        [{"pixels": image.ravel().tolist(), "label": [int(c)]} for image, c in zip(images, classes, strict=True)],
    )
    for feature in (None, "pixels"):
        found = readers.read_rows(path, labels="label", feature=feature)
        check_digits(found, images, classes, "float32")
        assert (found.image_shape, found.value_range, found.source) == (None, None, f"pixels in {path}")


def test_tfrecord_of_images(images, classes, tmp_path):
    path = write_records(
        tmp_path / "digits.tfrecord",
        [
            {"image": [encoded(image)], "height": [28], "class": [f"class {c}".encode()]}
            for image, c in zip(images, classes, strict=True)
        ],
    )
    found = readers.read_rows(path, labels="class")
    np.testing.assert_array_equal(found.x, images.reshape(ROWS, 784))
    np.testing.assert_array_equal(found.y, classes)
    assert (found.class_names[:2], found.image_shape) == (("class 0", "class 1"), (28, 28))
    assert found.value_range == (0, 255)
    assert readers.read_rows(path, image_size=7, color=True).image_shape == (7, 7, 3)


def test_tfrecord_of_floats(tmp_path):
    path = write_records(tmp_path / "x.tfrecord", [{"x": [0.5, 1.5]}, {"x": [2.5, 3.5]}])
    np.testing.assert_array_equal(readers.read_rows(path).x, [[0.5, 1.5], [2.5, 3.5]])


# Records that cannot be read: (examples, options, what the message says).
WRONG_RECORDS = {
    "none": ([], {}, ["Expected one row or more. Received: no rows in "]),
    "two features": (
        [{"b": [1, 2], "a": [1.0, 2.0], "n": [3]}] * 2,
        {},
        ["Expected the name of the feature", "whose first record has: a (2 float32), b (2 int64), n (1 int64)."],
    ),
    "no feature": ([{"text": [b"hello"]}] * 2, {}, ["Received: none for ", "text (1 bytes). Name it: feature=NAME."]),
    "no such feature": (
        [{"x": [1, 2]}] * 2,
        {"feature": "z"},
        ["Expected a feature named 'z'. Received: record 1 of ", "with: x (2 int64)."],
    ),
    "other bytes": (
        [{"x": [b"hello"]}] * 2,
        {"feature": "x"},
        ["Expected numbers or one image, such as PNG or JPEG. Received: 'x' in record 1 of ", "with other bytes."],
    ),
    "broken image": ([{"x": [b"\xff\xd8\xff"]}] * 2, {}, ["Expected an image. Received: record 1 of "]),
    "lengths": (
        [{"x": [1, 2]}, {"x": [1, 2, 3]}],
        {},
        ["Expected examples of one size. Received: record 1 of ", " of 2 and record 2 of ", " of 3. Pad or cut the"],
    ),
    "image options": (
        [{"x": [1, 2]}] * 2,
        {"color": True},
        ["Expected images to resize or to colour. Received: color=True for numbers in "],
    ),
    "no such label": ([{"x": [1, 2]}] * 2, {"labels": "y"}, ["Expected a feature named 'y'. Received: record 1 of "]),
    "floats as labels": (
        [{"x": [1, 2], "y": [0.5]}] * 2,
        {"labels": "y"},
        ["Expected one label, int64 or bytes, in each record. Received: 'y' in record 1 of ", "y (1 float32)."],
    ),
    "infinity": (
        [{"x": [1.0, 2.0]}, {"x": [1.0, float("-inf")]}],
        {},
        ["Expected finite numbers", "Received: -inf in column 2, row 2 (counted from 1) of x in "],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_RECORDS)
def test_wrong_records(kind, tmp_path):
    examples, options, parts = WRONG_RECORDS[kind]
    with raises(InputError, *parts):
        readers.read_rows(write_records(tmp_path / "x.tfrecord", examples), **options)


def test_files_that_are_no_tfrecords(tmp_path):
    import tensorflow as tf

    path = tmp_path / "x.tfrecord"
    path.write_bytes(b"no records at all, only text")
    with raises(InputError, "Expected TFRecords of tf.train.Example. Received: ", "x.tfrecord, which is damaged"):
        readers.read_rows(path)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"no tf.train.Example")
    with raises(InputError, "of tf.train.Example. Received: record 1 of ", "x.tfrecord, which is something else. Wr"):
        readers.read_rows(path)
    write_records(path, [{"x": [1, 2]}] * 3)
    path.write_bytes(path.read_bytes()[:-5])
    with raises(InputError, "Received: ", "x.tfrecord, which is damaged after record 2. Write or copy") as caught:
        readers.read_rows(path)
    assert "Iterator" not in str(caught.value)


@pytest.mark.parametrize("option", ["GZIP", "ZLIB"])
def test_compressed_tfrecord(option, tmp_path):
    path = write_records(tmp_path / "x.tfrecord", [{"x": [1.0, 2.0]}, {"x": [3.0, 4.0]}], option)
    np.testing.assert_array_equal(readers.read_rows(path).x, [[1, 2], [3, 4]])


def test_single_numbers_in_tfrecords_are_columns(tmp_path):
    examples = [{"b": [float(i)], "a": [i * i], "name": [b"n"], "kind": [b"uv"[i % 2 : i % 2 + 1]]} for i in range(4)]
    path = write_records(tmp_path / "x.tfrecord", examples)
    found = readers.read_rows(path, labels="kind")
    np.testing.assert_array_equal(found.x, [[0, 0], [1, 1], [4, 2], [9, 3]])
    assert (found.feature_names, found.class_names) == (("a", "b"), ("u", "v"))
    assert found.notes == ("left out: name (1 bytes)", "the 2 features, each one number, are the columns")
    write_records(path, [{"a": [1], "b": [2]}, {"a": [1], "b": [2, 3]}])
    with raises(InputError, "Expected one number in each feature", "record 2 of ", "b (2 int64). Name the feature"):
        readers.read_rows(path)


def test_what_is_left_out_of_tfrecords_is_said(tmp_path):
    path = write_records(tmp_path / "x.tfrecord", [{"x": [1.0, 2.0], "id": [i], "y": [i % 2]} for i in range(3)])
    assert readers.read_rows(path, labels="y").notes == ("left out: id (1 int64)",)


@pytest.mark.parametrize("kind", ["gif", "bmp", "webp", "tiff"])
def test_tfrecord_of_other_images(kind, tmp_path):
    examples = [{"image": [encoded(np.full((2, 2), 51, "uint8"), kind)]}] * 2
    np.testing.assert_array_equal(readers.read_rows(write_records(tmp_path / "x.tfrecord", examples)).x, [[51] * 4] * 2)


# --- tensorflow-datasets ---


@pytest.fixture
def prepared(monkeypatch, tmp_path):
    """Prepares examples, a list of dicts, as a data set of tensorflow-datasets with these features."""
    tfds = pytest.importorskip("tensorflow_datasets")

    def prepare(examples, **features):
        class OwnDigits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, manager):
                return {"train": self._generate_examples(), "test": self._generate_examples()}

            def _generate_examples(self):
                yield from enumerate(examples)

        builder = OwnDigits(data_dir=tmp_path)
        builder.download_and_prepare()
        monkeypatch.setattr(
            datasets, "tensorflow_datasets_builder", lambda name, download: {"own_digits": builder}[name]
        )
        return tfds.features

    return prepare


@pytest.mark.parametrize("name", ["tfds:own_digits", "tfds:own_digits/test"])
def test_tensorflow_dataset(name, prepared, images, classes, tmp_path):
    features = pytest.importorskip("tensorflow_datasets").features
    examples = [
        {"image": i[..., None], "label": c, "number": n} for n, (i, c) in enumerate(zip(images, classes, strict=True))
    ]
    prepared(
        examples, image=features.Image(shape=(28, 28, 1)), label=features.ClassLabel(num_classes=10), number=np.int64
    )
    found = readers.read_rows(name, labels="label")
    order = [int(np.flatnonzero((images.reshape(ROWS, -1) == row).all(axis=1))[0]) for row in found.x]
    assert sorted(order) == list(range(ROWS))
    check_digits(found, images[order], classes[order])
    assert (found.image_shape, found.value_range) == ((28, 28), (0, 255))
    assert found.source.startswith(f"tensorflow-datasets' own_digits/{'test' if 'test' in name else 'train'} in ")
    assert readers.read_rows(name, image_size=14, color=True).image_shape == (14, 14, 3)
    with raises(InputError, "Expected a feature of tensorflow-datasets' own_digits/", "Received: 'class'."):
        readers.read_rows(name, labels="class")
    with raises(InputError, "Expected a split of own_digits: train, test. Received: 'validation'."):
        readers.read_rows("tfds:own_digits/validation")
    with raises(InputError, "Expected labels of shape (). Received: 'image' of (28, 28, 1) in "):
        readers.read_rows(name, feature="number", labels="image")
    numbers = readers.read_rows(name, feature="number")
    np.testing.assert_array_equal(numbers.x[:, 0], order)


def test_tensorflow_dataset_of_numbers(prepared):
    features = pytest.importorskip("tensorflow_datasets").features
    examples = [{"x": np.array([n, n + 0.5], "float64"), "kind": ["b", "a"][n % 2]} for n in range(6)]
    prepared(examples, x=features.Tensor(shape=(2,), dtype=np.float64), kind=features.ClassLabel(names=["b", "a"]))
    found = readers.read_rows("tfds:own_digits", labels="kind")
    assert (found.x.dtype, found.image_shape, found.class_names) == ("float32", None, ("a", "b"))
    np.testing.assert_array_equal(found.y, 1 - found.x[:, 0] % 2)
    with raises(InputError, "Expected the name of the feature to read", "which has: x, kind."):
        readers.read_rows("tfds:own_digits")


def test_tensorflow_dataset_with_nested_features(prepared):
    features = pytest.importorskip("tensorflow_datasets").features
    examples = [{"x": np.arange(2) + n, "text": "hello", "box": {"a": n, "b": n, "c": n}} for n in range(6)]
    box = {"a": np.int64, "b": np.int64, "c": np.int64}
    prepared(examples, x=features.Tensor(shape=(2,), dtype=np.int64), text=features.Text(), box=box)
    found = readers.read_rows("tfds:own_digits")
    np.testing.assert_array_equal(found.x[:, 1] - found.x[:, 0], np.ones(6))
    for feature in ("text", "box"):
        with raises(InputError, "Expected real numbers. Received: "):
            readers.read_rows("tfds:own_digits", feature=feature)


def test_tensorflow_dataset_that_is_not_there(monkeypatch):
    for name in ("minst", "mnist:9.9.9", "a b", ""):
        with raises(InputError, f"Expected the name of a data set of tensorflow-datasets. Received: {name!r}: "):
            readers.read_rows(f"tfds:{name}")


def test_tensorflow_dataset_that_cannot_be_prepared(monkeypatch, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")

    class Builder:
        data_path = tmp_path / "not" / "there"

        def download_and_prepare(self):
            raise OSError("no route\nto anywhere")

    monkeypatch.setattr(tfds, "builder", lambda name: Builder())
    with raises(
        InputError, "Expected emnist/letters, prepared by tensorflow-datasets. Received: no route to anywhere."
    ):
        readers.read_rows("tfds:emnist/letters/test")
