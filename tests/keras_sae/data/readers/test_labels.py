"""readers.labels: the classes of rows."""

import numpy as np
import pyarrow.parquet
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
    "NaN": (np.array([4, np.nan, 1]), [1, -1, 0], ("1", "4")),
    "empty": (np.array(["b", " ", "a"]), [1, -1, 0], ("a", "b")),
    "marks among numbers": (np.array(["10", "?", "9"]), [1, -1, 0], ("9", "10")),
}


@pytest.mark.parametrize("kind", LABELS_OF_ALL_KINDS)
def test_labels(kind, tmp_path):
    values, numbers, names = LABELS_OF_ALL_KINDS[kind]
    np.savez(tmp_path / "x.npz", x=np.eye(3), y=values)
    found = readers.read_rows(tmp_path / "x.npz", labels="y")
    assert (found.y.tolist(), found.y.dtype, found.class_names) == (numbers, "int64", names)
    assert ("1 of 3 rows have no label" in found.notes) == (-1 in numbers)


# Labels that cannot be used: (values, what the message says).
WRONG_LABELS = {
    "too few": (np.arange(2), ["Expected one label for each of 3 rows. Received: 2 in "]),
    "too many": (np.arange(4), ["Expected one label for each of 3 rows. Received: 4 in "]),
    "one-hot": (np.eye(3), ["Expected labels of shape (examples,). Received: shape (3, 3) in "]),
    "none": (np.array(["", "", " "]), ["Expected a label for some rows. Received: none in "]),
    "marks alone": (np.array(["NA", "?", ""]), ["Expected a label for some rows. Received: none in "]),
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


@pytest.mark.parametrize("texts", [["u", "", "v"], ["1", "", "0"], ["1", "NA", "0"]])
def test_empty_cells_of_csv_are_no_labels(texts, tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{i},{text}\n" for i, text in enumerate(texts)))
    found = readers.read_rows(tmp_path / "x.csv", labels="b")
    assert [found.class_names[number] if number >= 0 else "" for number in found.y] == [texts[0], "", texts[2]]
    assert "1 of 3 rows have no label" in found.notes


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


# Values of a column in Parquet, by their type: (values, class numbers, class names).
NULLS = {
    "int64": ([3, None, 1], [1, -1, 0], ("1", "3")),
    "float64": ([3.0, None, 1.0], [1, -1, 0], ("1", "3")),
    "bool_": ([True, None, False], [1, -1, 0], ("False", "True")),
    "string": (["b", None, "a"], [1, -1, 0], ("a", "b")),
}


@pytest.mark.parametrize("kind", NULLS)
def test_nulls_of_parquet_are_no_labels(kind, tmp_path):
    values, numbers, names = NULLS[kind]
    table = pyarrow.table({"a": [0.5, 1.5, 2.5], "b": pyarrow.array(values, getattr(pyarrow, kind)())})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    found = readers.read_rows(tmp_path / "x.parquet", labels="b")
    assert (found.y.tolist(), found.class_names) == (numbers, names)
