"""Columns of texts as columns of 0 and 1."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from keras_sae.data.readers import read_rows
from keras_sae.errors import InputError

TABLE = {
    "age": [10, 20, 30, 40],
    "colour": ["red", "blue", "red", "green"],
    "day": ["2020-01-01", "2020-01-02", "2020-01-01", "2020-01-01"],  # which pyarrow takes for dates
    "size": [1.5, 2.5, 3.5, 4.5],
}
NAMES = ("age", "colour=blue", "colour=green", "colour=red", "day=2020-01-01", "day=2020-01-02", "size")
EXPECTED = [[10, 0, 0, 1, 1, 0, 1.5], [20, 1, 0, 0, 0, 1, 2.5], [30, 0, 0, 1, 1, 0, 3.5], [40, 0, 1, 0, 1, 0, 4.5]]
CATEGORIES = {"colour": ("blue", "green", "red"), "day": ("2020-01-01", "2020-01-02")}


def write(path, columns):
    if path.suffix == ".csv":
        lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        path.write_text("\n".join(lines))
    else:
        table = pyarrow.table(columns)
        if "colour" in columns:  # as pandas writes categories
            place = table.schema.get_field_index("colour")
            table = table.set_column(place, "colour", table["colour"].dictionary_encode())
        pyarrow.parquet.write_table(table, path)
    return path


@pytest.fixture(params=["csv", "parquet"])
def file(request, tmp_path):
    return tmp_path / f"x.{request.param}"


def test_each_text_is_a_column(file):
    rows = read_rows(write(file, TABLE), one_hot=True)
    assert rows.feature_names == NAMES
    assert rows.categories == CATEGORIES
    np.testing.assert_array_equal(rows.x, EXPECTED)
    assert rows.x.dtype == "float32"


def test_other_data_are_read_by_the_texts_that_are_known(file):
    """In the order of the names, whatever the order of the file, and without texts that it lacks."""
    write(
        file, {"size": [7.0, 8.0], "day": ["2020-01-02"] * 2, "name": ["u", "v"], "colour": ["red"] * 2, "age": [1, 2]}
    )
    rows = read_rows(file, names=list(TABLE), one_hot=CATEGORIES)
    assert rows.feature_names == NAMES
    np.testing.assert_array_equal(rows.x, [[1, 0, 0, 1, 0, 1, 7], [2, 0, 0, 1, 0, 1, 8]])


def test_a_text_that_is_not_known_is_refused(file):
    write(file, {**TABLE, "colour": ["red", "blue", "pink", "red"]})
    with pytest.raises(InputError) as raised:
        read_rows(file, names=list(TABLE), one_hot=CATEGORIES)
    assert str(raised.value) == (
        "Expected one of the 3 texts 'blue', 'green', 'red' in column 'colour'. Received: 'pink' in row 3 (counted "
        f"from 1) of {file}. Correct or drop that row."
    )


def test_a_text_that_is_missing_is_refused(file):
    write(file, {"age": [1, 2], "colour": ["red", "" if file.suffix == ".csv" else None]})
    with pytest.raises(InputError, match=r"Expected a value in every row\. Received: none in column 'colour', row 2 "):
        read_rows(file, one_hot=True)


def test_free_text_is_refused(file):
    write(file, {"age": range(101), "name": [f"n{i}" for i in range(101)]})
    with pytest.raises(InputError, match=r"at most 100 different texts in a column\. Received: more in column 'name'"):
        read_rows(file, one_hot=True)
    assert read_rows(file, one_hot=True, ignore=["name"]).feature_names == ("age",)


def test_a_mark_among_numbers_is_no_text(tmp_path):
    write(tmp_path / "x.csv", {"age": [1, "?", 3], "colour": ["red", "blue", "red"]})
    with pytest.raises(InputError, match=r"Expected a number in every row\. Received: '\?' in column 'age', row 2"):
        read_rows(tmp_path / "x.csv", one_hot=True)


def test_labels_are_no_columns(file):
    rows = read_rows(write(file, TABLE), labels="colour", one_hot=True)
    assert rows.feature_names == ("age", "day=2020-01-01", "day=2020-01-02", "size")
    assert rows.class_names == CATEGORIES["colour"]
