"""readers.parquet: Parquet, of columns, lists and images."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from keras_sae.data import readers
from keras_sae.data.readers import parquet
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises
from tests.keras_sae.data.readers.conftest import LABELS, ROWS, check_digits, encoded, table_of


@pytest.mark.parametrize(("dtype", "expected"), [("uint8", "uint8"), ("int64", "float32"), ("float64", "float32")])
def test_parquet(dtype, expected, images, classes, tmp_path):
    columns = table_of(images.astype(dtype), classes)
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "digits.parquet", row_group_size=11)
    found = readers.read_rows(tmp_path / "digits.parquet", labels=LABELS)
    check_digits(found, images, classes, expected)
    assert found.feature_names == tuple(f"p{i}" for i in range(784))


def test_parquet_of_several_types(tmp_path):
    import decimal

    columns = {
        "bool": [True, False, True],
        "int": [-1, 2, 3],
        "half": np.array([0.5, 1, 2], "float16"),
        "decimal": [decimal.Decimal("1.25"), decimal.Decimal("2.50"), decimal.Decimal("3.75")],
        "class": pyarrow.array(["b", "a", "b"]).dictionary_encode(),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    found = readers.read_rows(tmp_path / "x.parquet", labels="class")
    np.testing.assert_array_equal(found.x, [[1, -1, 0.5, 1.25], [0, 2, 1, 2.5], [1, 3, 2, 3.75]])
    assert (found.y.tolist(), found.class_names) == ([1, 0, 1], ("a", "b"))


def test_a_directory_of_parquet_files_is_one_table_in_the_order_of_their_names(tmp_path):
    for name, a, word in [("b", [3.5, 4], ["u", "v"]), ("a", [1, 2], ["v", "w"]), (".hidden", [9, 9], ["x", "y"])]:
        table = pyarrow.table({"a": np.array(a, "float32"), "word": pyarrow.array(word).dictionary_encode()})
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
    (tmp_path / "_SUCCESS").touch()
    found = readers.read_rows(tmp_path, labels="word")
    np.testing.assert_array_equal(found.x, [[1], [2], [3.5], [4]])
    assert (found.y.tolist(), found.class_names) == ([1, 2, 0, 1], ("u", "v", "w"))
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2], "word": ["u", "v"]}), tmp_path / "c.parquet")
    with raises(
        InputError, f"of the same columns and types. Received: {tmp_path / 'a.parquet'} and {tmp_path / 'c.parquet'}, w"
    ):
        readers.read_rows(tmp_path, labels="word")


def test_wrong_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 and so on")
    with raises(InputError, "Expected a table that pyarrow can read. Received: ", "x.parquet, which it cannot: "):
        readers.read_rows(path)
    columns = {"ok": [1, 2], "list": [[1], [2]], "text": ["u", "v"], "when": np.array(["2020", "2021"], "M8[s]")}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    found = readers.read_rows(path)
    assert (found.x.tolist(), found.notes) == ([[1], [2]], ("left out: ok, text, when",))
    del columns["list"]
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    with raises(InputError, "Received: 'text' (string: 'u'), 'when' (timestamp"):
        readers.read_rows(path)
    pyarrow.parquet.write_table(pyarrow.table({"a": [1.0, 2.0], "b": [float("nan"), None]}), path)
    with raises(InputError, "Received: none in column 'b', row 2 "):
        readers.read_rows(path)
    pyarrow.parquet.write_table(pyarrow.table({"a": [1.0, 2.0], "b": [3, float("nan")]}), path)
    with raises(InputError, "Received: nan in column 'b', row 2 "):
        readers.read_rows(path)
    pyarrow.parquet.write_table(pyarrow.table({"a": [1.0, 2.0], "__index_level_0__": [3, 4]}), path)
    with raises(InputError, "Expected a name for every column. Received: '__index_level_0__', column 2 of "):
        readers.read_rows(path)
    pyarrow.parquet.write_table(pyarrow.table({"a": []}), path)
    with raises(InputError, "Expected one row or more. Received: no rows in "):
        readers.read_rows(path)


@pytest.mark.parametrize("kind", ["list", "large_list", "fixed"])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_parquet_of_lists(kind, dtype, tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 200, (9, 4)).astype(dtype)
    number = pyarrow.from_numpy_dtype(values.dtype)
    types = {"list": pyarrow.list_(number), "large_list": pyarrow.large_list(number), "fixed": pyarrow.list_(number, 4)}
    table = {"id": range(9), "embedding": pyarrow.array(values.tolist(), types[kind]), "word": list("aabbaabba")}
    for part in range(3):
        columns = {name: column[3 * part : 3 * part + 3] for name, column in table.items()}
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / f"{part}.parquet")
    for feature in (None, "embedding"):
        found = readers.read_rows(tmp_path, labels="word", feature=feature)
        np.testing.assert_array_equal(found.x, values)
        assert found.x.dtype == ("uint8" if dtype == "uint8" else "float32")
        assert (found.feature_names, found.class_names) == ((), ("a", "b"))
        assert found.notes == ("3 files: 0.parquet, 1.parquet, 2.parquet", "left out: id")
        assert found.source == f"column embedding of {tmp_path}"
    found = readers.read_rows(tmp_path, feature="id")
    assert (found.x.ravel().tolist(), found.feature_names) == (list(range(9)), ("id",))


# Columns of lists that cannot be read: (columns, options, what the message says).
WRONG_LISTS = {
    "two": (
        {"a": [[1.0], [2.0]], "b": [[1.0], [2.0]]},
        {},
        ["one column of lists or images, or the name of the one to read, feature=NAME. Received: a, b in "],
    ),
    "ragged": (
        {"a": [[1.0, 2.0], [2.0]]},
        {},
        ["lists of one length in column 'a'. Received: 2 in row 1 and 1 in row 2"],
    ),
    "missing": ({"a": [[1.0, 2.0], None]}, {}, ["Expected a value in every row. Received: none in column 'a', row 2 "]),
    "missing inside": ({"a": [[1.0, 2.0], [1.0, None]]}, {}, ["Received: none in column 'a', row 2 "]),
    "ragged inside": ({"a": [[[1.0], [2.0]], [[2.0], []]]}, {}, ["Received: 1 in row 1 and 0 in row 2 "]),
    "missing deep inside": ({"a": [[[1.0], [2.0]], [[2.0], [None]]]}, {}, ["none in column 'a', row 2 "]),
    "NaN": ({"a": [[1.0, 2.0], [1.0, float("nan")]]}, {}, ["Received: nan in column 2, row 2 (counted from 1)"]),
    "empty": ({"a": pyarrow.array([[], []], pyarrow.list_(pyarrow.float32()))}, {}, ["Expected one feature or more"]),
    "of text": ({"a": [["u"], ["v"]]}, {}, ["Expected columns of numbers. Received: 'a' (list<element: string>: "]),
    "no such": ({"a": [[1.0], [2.0]]}, {"feature": "b"}, ["one column named 'b' in ", "none among the 1 columns a."]),
    "text": ({"a": [[1.0], [2.0]], "b": ["u", "v"]}, {"feature": "b"}, ["Received: 'b' (string: 'u') in "]),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_LISTS)
def test_wrong_lists(kind, tmp_path):
    columns, options, parts = WRONG_LISTS[kind]
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    with raises(InputError, *parts):
        readers.read_rows(tmp_path / "x.parquet", **options)


def test_a_mark_for_what_is_missing_in_parquet(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2, 3], "b": ["130", "165", "?"]}), tmp_path / "x.parquet")
    with raises(InputError, "Received: '?' in column 'b', row 3 (counted from 1) of ", "If it marks a missing value"):
        readers.read_rows(tmp_path / "x.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2, 3], "b": ["130", "165", None]}), tmp_path / "x.parquet")
    with raises(InputError, "Expected columns of numbers. Received: 'b' (string: '130') in "):
        readers.read_rows(tmp_path / "x.parquet")


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_images_in_parquet(form, images, classes, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "IMAGES_AT_A_TIME", 7)
    content = [encoded(image) for image in images]
    if form == "struct":
        content = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(content)]
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": range(ROWS), "image": content, "label": classes}), path)
    found = readers.read_rows(path, labels="label")
    check_digits(found, images, classes)
    assert (found.image_shape, found.value_range, found.notes) == ((28, 28), (0, 255), ("left out: id",))
    assert found.source == f"images in column image of {path}"
    assert readers.read_rows(path, feature="image", image_size=7, color=True).image_shape == (7, 7, 3)
    content[8] = b"no image" if form == "bytes" else {"bytes": b"no image", "path": ""}
    pyarrow.parquet.write_table(pyarrow.table({"image": content}), path)
    with raises(InputError, f"Expected an image. Received: row 9 of column 'image' of {path}, which is damaged or"):
        readers.read_rows(path)
    content[8] = None
    pyarrow.parquet.write_table(pyarrow.table({"image": content}), path)
    with raises(InputError, "Expected a value in every row. Received: none in column 'image', row 9 "):
        readers.read_rows(path)


def test_options_of_images_for_numbers(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2]}), tmp_path / "x.parquet")
    with raises(
        InputError, "Expected images to resize or to colour. Received: image_size=3 for numbers in ", "Leave it"
    ):
        readers.read_rows(tmp_path / "x.parquet", image_size=3)
    with raises(InputError, "Received: color=True for numbers in "):
        readers.read_rows(tmp_path / "x.parquet", color=True)


def test_lists_of_lists_in_parquet(tmp_path):
    values = np.arange(24).reshape(4, 2, 3)
    pyarrow.parquet.write_table(pyarrow.table({"a": values.tolist()}), tmp_path / "x.parquet", row_group_size=3)
    found = readers.read_rows(tmp_path / "x.parquet")
    np.testing.assert_array_equal(found.x, values.reshape(4, 6))
    [note] = found.notes
    assert note.startswith("each of the 4 examples of shape (2, 3) became one row of 6 features")
