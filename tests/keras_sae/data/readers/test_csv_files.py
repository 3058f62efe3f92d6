"""readers.csv_files: csv."""

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


# Texts of csv files that people have: (text, x).
UNUSUAL = {
    "delimiters in quoted names": ('"a;b;c",d\n1,2\n3,4\n', [[1, 2], [3, 4]]),
    "quoted": ('"a","b"\n"1","2.5"\n"3","4"\n', [[1, 2.5], [3, 4]]),
    "spaces": ("a, b\n1, 2\n3, 4\n", [[1, 2], [3, 4]]),
    "byte order mark and carriage returns": ("\ufeffa,b\r\n1,2\r\n3,4\r\n", [[1, 2], [3, 4]]),
    "blank lines": ("\na,b\n1,2\n\n3,4\n\n", [[1, 2], [3, 4]]),
    "no end of line": ("a,b\n1,2\n3,4", [[1, 2], [3, 4]]),
    "exponents": ("a,b\n1e3,-2E-1\n.5,+4\n", [[1000, -0.2], [0.5, 4]]),
    "booleans": ("a,b\ntrue,2\nfalse,4\n", [[1, 2], [0, 4]]),
    "names that count": ("0,1\n5,6\n7,8\n", [[5, 6], [7, 8]]),
    "integers, then fractions": ("a,b\n" + "1,2\n" * 50 + "1,2.5\n" * 2, [[1, 2]] * 50 + [[1, 2.5]] * 2),
    "decimal commas": ("a;b\n1,5;-2\n,25;1e3\n", [[1.5, -2], [0.25, 1000]]),
    "quoted decimal commas": ('a,b\n"1,5",2\n"2,25",3\n', [[1.5, 2], [2.25, 3]]),
    "late decimal commas": ("a\tb\n" + "1\t0,5\n" * 40 + "1,5\t2\n", [[1, 0.5]] * 40 + [[1.5, 2]]),
    "the separator first": ("sep=;\na;b\n1;2\n3;4\n", [[1, 2], [3, 4]]),
    "another separator first": ("\ufeffsep=|\r\na|b\r\n1|2\r\n3|4\r\n", [[1, 2], [3, 4]]),
    "two years as names": ("2019,2021\n5,6\n7,8\n", [[5, 6], [7, 8]]),
    "years as names": ("2019,2020,2021,2022\n5,6,7,8\n7,8,9,0\n", [[5, 6, 7, 8], [7, 8, 9, 0]]),
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
    "header only": ("a,b\n", {}, ["Expected one row or more. Received: no rows in "]),
    "header only, no end of line": ("a,b", {}, ["Expected a table that pyarrow can read", "Empty CSV file"]),
    "no header": (
        "5,0.5,1\n6,1,2\n7,2,3\n",
        {},
        ["Expected a first line with the names", "Received: numbers only, 5, 0.5, 1", "Write a line of names"],
    ),
    "text": (
        "id,name,day,x\n1,ann,2020-01-01,2\n2,bob,2020-01-02,3\n",
        {},
        ["Expected columns of numbers. Received: 'name' (string: 'ann'), 'day' (date32[day]: '2020-01-01') in ",
         "Leave these columns out (ignore=...), have texts read as columns of 0 and 1 (one_hot=True), write them as ",
         "numbers, or name one of them as the column of labels."],
    ),
    "seven columns of text": (
        "a,b,c,d,e,f,g\nu,u,u,u,u,u,u\nu,u,u,u,u,u,u\n",
        {},
        ["'f' (string: 'u') and 1 more in "],
    ),
    "pandas' index": (
        ",a,b\n0,5,6\n1,7,8\n",
        {},
        ["Expected a name for every column. Received: '', column 1 of ", "save the table with index=False"],
    ),
    "missing": ("a,b\n1,2\n3,\n5,6\n", {}, ["Expected a value in every row. Received: none in column 'b', row 2 "]),
    "NA": ("a,b\n1,2\n3,4\nNA,6\n", {}, ["Expected a value in every row. Received: none in column 'a', row 3 "]),
    "empty column": ("a,b\n1,\n2,\n", {}, ["Expected a value in every row. Received: none in column 'b', row 1 "]),
    "infinity": ("a,b\n1,2\n3,inf\n", {}, ["Expected finite numbers", "Received: inf in column 'b', row 2 (counted"]),
    "too large": ("a,b\n1,2\n3,1e39\n", {}, ["up to 3.4e+38, which float32 can hold", "Received: 1e+39 in column 'b'"]),
    "too few values": ("a,b\n1,2\n3\n", {}, ["Expected 2 values in every row of ", "Received: 1 in row 2 "]),
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
    "no labels": ("a,b\n1,\n2,\n", {"labels": "b"}, ["Expected a label for some rows. Received: none in column 'b'"]),
    "labels with fractions": (
        "a,b\n1,1.0\n2,2.5\n",
        {"labels": "b"},
        ["Expected classes as labels: whole numbers or text. Received: 2.5 in row 2 (counted from 1) of column 'b'"],
    ),
    "late text": (
        "a,b\n" + "1,2\n" * 100 + "1,unknown\n" + "1,2\n",
        {},
        ["Expected a number in every row. Received: 'unknown' in column 'b', row 101 (counted from 1) of ",
         "x.csv. Correct or drop that row or column."],
    ),
    "a mark for what is missing": (
        "a,b\n1,2\n3,?\n4,5\n",
        {},
        ["Expected a number in every row. Received: '?' in column 'b', row 2 (counted from 1) of ",
         "If it marks a missing value: remove or fill in such rows."],
    ),
    "a late mark": ("a,b\n" + "1,2\n" * 100 + "1,-\n", {}, ["Received: '-' in column 'b', row 101 "]),
    "separated thousands": (
        "a;b\n1,234;2\n22,500;3\n",
        {},
        ["Received: '1,234' in column 'a', row 1 ", "Write it as a plain number such as 1234.5."],
    ),
    "one separated thousand": (
        'a;b\n3;2\n"22,500";3\n',
        {},
        ["Received: '22,500' in column 'a', row 2 ", "Write it as a plain number such as 1234.5."],
    ),
    "mixed decimals": ("a;b\n1,5;2\n2.5;3\n", {}, ["Received: '2.5' in column 'a', row 2"]),
    "no header but a class": (
        "5.1,0.2,setosa\n4.9,0.3,setosa\n",
        {"labels": "setosa"},
        ["Received: mostly numbers, 5.1, 0.2, setosa, ... in the first line of ", "read as data: no_header=True."],
    ),
    "currency": ("a,b\n$1.5,2\n$3,4\n", {}, ["Received: '$1.5' in column 'a', row 1 ", "Write it as a plain number"]),
    "percent": ("a,b\n5 %,2\n3 %,4\n", {}, ["Received: '5 %' in column 'a', row 1 ", "Write it as a plain number"]),
    "separated by spaces": ("a b\n1 2\n3 4\n", {}, ["Expected values separated by commas", "separated by spaces in "]),
    "unquoted decimal commas": ("a,b\n1,5,2,5\n", {}, ["Received: 4 in row 1 ", "separate the values by semicolons."]),
    "a separator at the end": ("a,b,\n1,2,\n", {}, ["column 3 of ", "remove the separator at the end of the lines."]),
    "a web page": ("<!DOCTYPE html>\n<html>\n", {}, ["which is a web page. Download the file itself."]),
    "a line above the table": (
        "made by a program\na,b\n1,2\n",
        {},
        ["Expected 1 values in every row", "Received: 2 in row 1", "remove lines that are no part of the table."],
    ),
    "no such column number": (
        "1.5,2\n3,4\n",
        {"labels": "3", "no_header": True},
        ["named '3' in ", "Received: none among the 2 columns 1, 2."],
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


def test_csv_files_are_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 64)
    write_text(tmp_path / "b.csv", "u,v,w\n5,6.5,q\n")
    write_text(tmp_path / "a.csv", "sep=;\nu;v;w\n1;2;p\n3;4;q\n")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"u,v,w\n7,8,1\n"))
    for data in (tmp_path, tmp_path / "?.csv*", [tmp_path / f"{name}" for name in ("a.csv", "b.csv", "c.csv.gz")]):
        found = readers.read_rows(data, labels="w")
        np.testing.assert_array_equal(found.x, [[1, 2], [3, 4], [5, 6.5], [7, 8]])
        assert (found.class_names, found.y.tolist()) == (("1", "p", "q"), [1, 2, 2, 0])
        assert (found.feature_names, found.notes) == (("u", "v"), ("3 files: a.csv, b.csv, c.csv.gz",))
    other = readers.read_rows([tmp_path / "b.csv", tmp_path / "a.csv"], labels="w")
    assert other.x[:, 0].tolist() == [5, 1, 3]
    write_text(tmp_path / "b.csv", "u,v,w\n5,6,q\n7,?,q\n")
    with raises(InputError, "Received: '?' in column 'v', row 2 (counted from 1) of ", "b.csv. If it marks"):
        readers.read_rows(tmp_path, labels="w")
    write_text(tmp_path / "b.csv", "v,u,w\n5,6,q\n")
    with raises(InputError, "Expected csv files of the same columns.", "a.csv with u, v, w and ", " v, u, w."):
        readers.read_rows(tmp_path, labels="w")


def test_csv_by_its_first_bytes(tmp_path):
    (tmp_path / "packed.csv").write_bytes(gzip.compress(b"u,v\n1,2\n3,4\n"))
    write_text(tmp_path / "plain.csv.gz", "u,v\n1,2\n3,4\n")
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(readers.read_rows(path).x, [[1, 2], [3, 4]])


def test_csv_without_names(tmp_path):
    path = write_text(tmp_path / "x.csv", "5.1,0.2,setosa\n4.9,0.3,virginica\n4.7,0.1,setosa\n")
    found = readers.read_rows(path, labels="3", no_header=True)
    np.testing.assert_array_equal(found.x, np.array([[5.1, 0.2], [4.9, 0.3], [4.7, 0.1]], "float32"))
    assert (found.feature_names, found.class_names) == (("1", "2"), ("setosa", "virginica"))
    assert found.y.tolist() == [0, 1, 0]
    assert found.notes == ()
    write_text(path, "1,2\n3,?\n")
    with raises(InputError, "Received: '?' in column '2', row 2 (counted from 1)"):
        readers.read_rows(path, no_header=True)
    write_text(path, "0,1\n2,3\n4,5\n")
    assert len(readers.read_rows(path, no_header=True).x) == 3
    found = readers.read_rows(path)
    assert len(found.x) == 2
    assert found.notes == (f"the first line of {path}, 0, 1, was read as names; no_header=True reads it as data",)


def test_decimal_commas_are_said(tmp_path):
    path = write_text(tmp_path / "x.csv", "a;b\n1,5;2\n2,25;3\n")
    assert readers.read_rows(path).notes == ("commas in numbers were read as decimal points",)


def test_a_column_that_float32_flattens_is_said(tmp_path):
    times = 1.7e9 + np.arange(200) * 0.5
    noise = np.random.default_rng(0).normal(size=200)
    expected = (
        "float32, in which models compute, loses what varies in column 'ts', column 'flat': column 'ts' changes 199 "
        "times from row to row, in float32 1 times; subtract its least value first",
    )
    columns = {"ts": times, "v": noise, "flat": 1e9 + noise / 1e3, "large": noise * 1e20}
    found = readers.read_rows(write_csv(tmp_path / "x.csv", columns))
    assert (len(np.unique(found.x[:, 0])), found.notes) == (2, expected)
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    assert readers.read_rows(tmp_path / "x.parquet").notes == expected
    np.save(tmp_path / "x.npy", np.stack(list(columns.values()), axis=1))
    [note] = readers.read_rows(tmp_path / "x.npy").notes
    assert note.startswith("float32, in which models compute, loses what varies in column 1, column 3: column 1 ch")
    np.save(tmp_path / "x.npy", np.array([[2**40], [2**40 + 1], [2**40]]))
    assert (
        readers.read_rows(tmp_path / "x.npy")
        .notes[0]
        .startswith("float32, in which models compute, loses what varies in column 1")
    )


def test_columns_of_one_name(tmp_path):
    (tmp_path / "twice.csv").write_text("a, a,b\n1,2,3\n4,5,7\n")
    with raises(InputError, "Expected columns of different names", "Received: 'a' 2 times in ", "Rename all but one."):
        readers.read_rows(tmp_path / "twice.csv")
