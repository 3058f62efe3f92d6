"""readers.tables: csv and Parquet."""

import gzip

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from keras_sae.data import readers
from keras_sae.data.readers import csv_files
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises
from tests.keras_sae.data.readers.conftest import LABELS, check_digits, table_of, write_csv, write_text


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("csv", ";"), ("tsv", "\t"), ("CSV", "|")])
def test_csv(suffix, delimiter, images, classes, tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 20_000)  # smaller than the file
    path = write_csv(tmp_path / f"digits.{suffix}", table_of(images, classes), delimiter)
    found = readers.read_rows(path, labels=LABELS)
    check_digits(found, images, classes, "float32")
    assert found.feature_names == tuple(f"p{i}" for i in range(784))
    assert found.source == f"columns of {path}"


def test_gzipped_csv(images, classes, tmp_path):
    path = write_csv(tmp_path / "digits.csv", table_of(images, classes))
    (tmp_path / "digits.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    check_digits(readers.read_rows(tmp_path / "digits.csv.gz", labels=LABELS), images, classes, "float32")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(path.read_bytes())[:-900])
    with raises(InputError, "Expected a table that pyarrow can read. Received: ", "cut.csv.gz, which it cannot: "):
        readers.read_rows(tmp_path / "cut.csv.gz", labels=LABELS)


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
    with raises(InputError, f"of the same columns and types. Received: {tmp_path / 'a.parquet'} and c.parquet, which"):
        readers.read_rows(tmp_path, labels="word")


# Texts of csv files that people have: (text, x).
UNUSUAL = {
    "quoted": ('"a","b"\n"1","2.5"\n"3","4"\n', [[1, 2.5], [3, 4]]),
    "spaces": ("a, b\n1, 2\n3, 4\n", [[1, 2], [3, 4]]),
    "byte order mark and carriage returns": ("\ufeffa,b\r\n1,2\r\n3,4\r\n", [[1, 2], [3, 4]]),
    "blank lines": ("\na,b\n1,2\n\n3,4\n\n", [[1, 2], [3, 4]]),
    "no end of line": ("a,b\n1,2\n3,4", [[1, 2], [3, 4]]),
    "exponents": ("a,b\n1e3,-2E-1\n.5,+4\n", [[1000, -0.2], [0.5, 4]]),
    "booleans": ("a,b\ntrue,2\nfalse,4\n", [[1, 2], [0, 4]]),
    "names that count": ("0,1\n5,6\n7,8\n", [[5, 6], [7, 8]]),
    "integers, then fractions": ("a,b\n" + "1,2\n" * 50 + "1,2.5\n" * 2, [[1, 2]] * 50 + [[1, 2.5]] * 2),
    "two columns of one name": ("a,a\n1,2\n3,4\n", [[1, 2], [3, 4]]),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_csv(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 64)
    text, expected = UNUSUAL[kind]
    found = readers.read_rows(write_text(tmp_path / "x.csv", text))
    np.testing.assert_array_equal(found.x, np.array(expected, "float32"))
    assert all(name == name.strip() for name in found.feature_names)


def test_thousands_of_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 1000)  # less than a row
    values = np.arange(15_000.0).reshape(3, 5000)
    path = write_csv(tmp_path / "wide.csv", {f"column {i}": column for i, column in enumerate(values.T)})
    np.testing.assert_array_equal(readers.read_rows(path).x, values)


# Texts of csv files that cannot be read: (text, options, what the message says).
WRONG_CSV = {
    "empty": ("", {}, ["Expected a csv file with a line of names", "x.csv, empty."]),
    "header only": ("a,b\n", {}, ["Expected two rows or more. Received: no rows in "]),
    "header only, no end of line": ("a,b", {}, ["Expected a table that pyarrow can read", "Empty CSV file"]),
    "one row": ("a,b\n1,2\n", {}, ["Expected two rows or more. Received: 1 row in "]),
    "no header": (
        "5,0.5,1\n6,1,2\n7,2,3\n",
        {},
        ["Expected a first line with the names", "Received: numbers only, 5, 0.5, 1", "Write a line of names"],
    ),
    "text": (
        "id,name,day,x\n1,ann,2020-01-01,2\n2,bob,2020-01-02,3\n",
        {},
        ["Expected columns of numbers. Received: 'name' (string: 'ann'), 'day' (date32[day]: '2020-01-01') in ",
         "Drop these columns, write them as numbers, or name one of them as the column of labels."],
    ),
    "seven columns of text": (
        "a,b,c,d,e,f,g\nu,u,u,u,u,u,u\nu,u,u,u,u,u,u\n",
        {},
        ["'f' (string: 'u') and 1 more in "],
    ),
    "decimal commas": ('a;b\n1,5;2\n2,5;3\n', {}, ["Expected columns of numbers. Received: 'a' (string: '1,5') in "]),
    "pandas' index": (
        ",a,b\n0,5,6\n1,7,8\n",
        {},
        ["Expected a name for every column. Received: '', column 1 of ", "save the table with index=False"],
    ),
    "missing": ("a,b\n1,2\n3,\n5,6\n", {}, ["Expected a value in every row. Received: none in column 'b', row 2 "]),
    "NA": ("a,b\n1,2\n3,4\nNA,6\n", {}, ["Expected a value in every row. Received: none in column 'a', row 3 "]),
    "empty column": ("a,b\n1,\n2,\n", {}, ["Expected a value in every row. Received: none in column 'b', row 1 "]),
    "infinity": ("a,b\n1,2\n3,inf\n", {}, ["Expected finite numbers", "Received: inf in column 'b', row 2 (counted"]),
    "too large": ("a,b\n1,2\n3,1e39\n", {}, ["up to 3.4e+38, which float32 can hold", "Received: inf in column 'b'"]),
    "too few values": ("a,b\n1,2\n3\n", {}, ["Expected a table that pyarrow can read", "Row #3: Expected 2 columns"]),
    "no such label": (
        "a,b\n1,2\n3,4\n",
        {"labels": "c"},
        ["Expected one column of labels named 'c' in ", "Received: none among the 2 columns a, b."],
    ),
    "two columns of labels": (
        "a,a,b\n1,2,3\n3,4,5\n",
        {"labels": "a"},
        ["Expected one column of labels named 'a'", "Received: 2 among the 3 columns a, a, b."],
    ),
    "labels only": ("a\n1\n2\n", {"labels": "a"}, ["Expected one column of numbers or more", "no others than 'a'"]),
    "no label": ("a,b\n1,u\n2,\n3,v\n", {"labels": "b"}, ["Expected a label for every row. Received: none in row 2 "]),
    "no label, of numbers": ("a,b\n1,0\n2,\n3,1\n", {"labels": "b"}, ["Received: none in column 'b', row 2 "]),
    "no labels": ("a,b\n1,\n2,\n", {"labels": "b"}, ["Received: none in column 'b', row 1 "]),
    "labels with fractions": (
        "a,b\n1,1.0\n2,2.5\n",
        {"labels": "b"},
        ["Expected classes as labels: whole numbers or text. Received: 2.5 in row 2 (counted from 1) of column 'b'"],
    ),
    "dates as labels": (
        "a,b\n1,2020-01-01\n2,2020-01-02\n",
        {"labels": "b"},
        ["Expected labels that are integers or UTF-8 text. Received: date32[day] in column 'b' of "],
    ),
    "one class": ("a,b\n1,u\n2,u\n", {"labels": "b"}, ["Expected labels of two classes or more. Received: only 'u'"]),
    "late text": (
        "a,b\n" + "1,2\n" * 100 + "1,unknown\n" + "1,2\n",
        {},
        ["Expected values in column 'b' like those in its first rows. Received: 'unknown' in row 101 (counted from 1)"],
    ),
    "late text among labels": (
        "a,b\n" + "1,2\n" * 100 + "1,unknown\n" + "1,2\n",
        {"labels": "b"},
        ["Expected values in column 'b' like those in its first rows. Received: 'unknown' in row 101 (counted from 1)"],
    ),
    "late missing": ("a,b\n" + "1,2\n" * 100 + "1,\n", {}, ["Received: none in column 'b', row 101 "]),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_CSV)
def test_wrong_csv(kind, tmp_path, monkeypatch):
    text, options, parts = WRONG_CSV[kind]
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 128)
    with raises(InputError, *parts) as caught:
        readers.read_rows(write_text(tmp_path / "x.csv", text), **options, cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("cache/.*"))  # nothing half-written


@pytest.mark.parametrize(
    ("text", "encoding", "options"),
    [
        ("a,größe\n1,2\n3,4\n", "latin-1", {}),
        ("a,b\n1,2\n3,4\n", "utf-16", {}),
        ("a,b\n1,fünf\n3,sechs\n", "latin-1", {"labels": "b"}),
        ("a,b\n1,fünf\n3,sechs\n", "latin-1", {}),
    ],
)
def test_csv_that_is_not_utf8(text, encoding, options, tmp_path):
    with raises(InputError, "Expected ", "Received: "):
        readers.read_rows(write_text(tmp_path / "x.csv", text, encoding), **options)
    with raises(InputError, "Expected text in UTF-8. Received: ", "Save it as UTF-8, for example with iconv."):
        readers.read_rows(write_text(tmp_path / "x.csv", "größe,b\n1,2\n", "latin-1"))


def test_wrong_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 and so on")
    with raises(InputError, "Expected a table that pyarrow can read. Received: ", "x.parquet, which it cannot: "):
        readers.read_rows(path)
    columns = {"ok": [1, 2], "list": [[1], [2]], "text": ["u", "v"], "when": np.array(["2020", "2021"], "M8[s]")}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    with raises(InputError, "'list' (list<element: int64>: '[1]'), 'text' (string: 'u'), 'when' (timestamp"):
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
    with raises(InputError, "Expected two rows or more. Received: no rows in "):
        readers.read_rows(path)
