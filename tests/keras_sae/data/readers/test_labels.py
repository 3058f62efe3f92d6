"""readers.labels: the classes of rows."""

import numpy as np
import pytest

from keras_sae.data import readers
from keras_sae.data.readers import csv_files, labels
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises

# Labels: (values, class numbers, class names).
LABELS_OF_ALL_KINDS = {
    "integers": (np.array([10, -1, 9]), [2, 0, 1], ("-1", "9", "10")),
    "whole floats": (np.array([2.0, 10.0, 2.0]), [0, 1, 0], ("2", "10")),
    "text": (np.array(["b", " a", "b"]), [1, 0, 1], ("a", "b")),
    "numbers as text": (np.array(["10", "9", "10"]), [1, 0, 1], ("9", "10")),
    "bytes": (np.array([b"b", b"\xff", b"b"]), [1, 0, 1], ("\\xff", "b")),
    "booleans": (np.array([True, False, True]), [1, 0, 1], ("False", "True")),
    "one column": (np.array([[1], [0], [1]], "uint8"), [1, 0, 1], ("0", "1")),
}


@pytest.mark.parametrize("kind", LABELS_OF_ALL_KINDS)
def test_labels(kind, tmp_path):
    values, numbers, names = LABELS_OF_ALL_KINDS[kind]
    np.savez(tmp_path / "x.npz", x=np.eye(3), y=values)
    found = readers.read_rows(tmp_path / "x.npz", labels="y")
    assert (found.y.tolist(), found.y.dtype, found.class_names) == (numbers, "int64", names)


# Labels that cannot be used: (values, what the message says).
WRONG_LABELS = {
    "too few": (np.arange(2), ["Expected one label for each of 3 rows. Received: 2 in "]),
    "too many": (np.arange(4), ["Expected one label for each of 3 rows. Received: 4 in "]),
    "one-hot": (np.eye(3), ["Expected labels of shape (examples,). Received: shape (3, 3) in "]),
    "NaN": (np.array([0, np.nan, 1]), ["Expected a label for every row. Received: none in row 2 (counted from 1)"]),
    "empty": (np.array(["a", " ", "b"]), ["Expected a label for every row. Received: none in row 2 (counted from 1)"]),
    "fractions": (np.array([0, 1, 0.5]), ["Expected classes as labels: whole numbers or text. Received: 0.5 in row 3"]),
    "infinity": (np.array([0, 1, np.inf]), ["Expected classes as labels: whole numbers", "Received: inf in row 3"]),
    "complex": (np.zeros(3, complex), ["Expected labels that are integers or text. Received: complex128 in "]),
    "objects": (np.array([1, None, "a"]), ["Expected labels that are integers or text. Received: Python objects in "]),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_LABELS)
def test_wrong_labels(kind, tmp_path):
    values, parts = WRONG_LABELS[kind]
    np.save(tmp_path / "x.npy", np.eye(3))
    np.save(tmp_path / "y.npy", values)
    with raises(InputError, *parts, "y.npy"):
        readers.read_rows(tmp_path / "x.npy", labels=tmp_path / "y.npy")


def test_labels_one_by_one():
    found = labels.Labels("here")
    for i in range(20_001):
        found.append(i % 3)
    numbers, names = found.classes(20_001)
    np.testing.assert_array_equal(numbers, np.arange(20_001) % 3)
    assert names == ("0", "1", "2")


def test_labels_that_are_not_there(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3))
    with raises(
        InputError, "Expected an npy file with the labels. Received: y.npy, which cannot be read (No such file"
    ):
        readers.read_rows(tmp_path / "x.npy", labels="y.npy")


# Columns of labels in a csv file, which are text as written: (texts, class names).
TEXTS = {
    "a word after thousands of digits": (["1", "0"] * 3000 + ["A"], ("0", "1", "A")),
    "as written": (["01", "1", "1.0"], ("01", "1", "1.0")),
    "by number": (["10", "9", "-1"], ("-1", "9", "10")),
    "dates": (["2020-01-02", "2020-01-01"], ("2020-01-01", "2020-01-02")),
    "true": (["true", "false"], ("false", "true")),
    "country": (["NA", "DE"], ("DE", "NA")),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_labels_of_csv_are_text_as_written(kind, tmp_path, monkeypatch):
    texts, names = TEXTS[kind]
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 128)
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{i}.5,{text}\n" for i, text in enumerate(texts)))
    found = readers.read_rows(tmp_path / "x.csv", labels="b")
    assert found.class_names == names
    assert [names[number] for number in found.y] == texts
    noted = "'NA' in column 'b' of " in "".join(found.notes)
    assert noted == (kind == "country")


def test_numbers_with_a_missing_label(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,0\n2,1\n3,NA\n")
    with raises(InputError, "Expected a label for every row. Received: none in row 3 (counted from 1) of column 'b'"):
        readers.read_rows(tmp_path / "x.csv", labels="b")
