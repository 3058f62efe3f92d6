import contextlib
import csv
import errno
import gzip
import io
import os
import pathlib
import shutil
import sys
import tempfile
import types
import zipfile

import hypothesis
import hypothesis.extra.numpy as arrays_of
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import strategies
from PIL import Image

from keras_sae import datasets, readers
from keras_sae.errors import InputError
from keras_sae.readers import labels, rows, tables
from tests.keras_sae.conftest import raises

ROWS = 40
LABELS = "the label"


@pytest.fixture
def images(digits):
    """40 real digits, uint8 (40, 28, 28)."""
    return np.round(digits.x_test[::25] * 255).astype("uint8").reshape(ROWS, 28, 28)


@pytest.fixture
def classes(digits):
    return digits.y_test[::25]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """Chunks of a few rows, so that tiny data come in several."""
    monkeypatch.setattr(rows, "CHUNK_BYTES", 7 * 784)


def is_mapped(x):
    """Whether x is a read-only map of a file."""
    return isinstance(x, np.memmap) and not x.flags.writeable


def check_digits(found, images, classes, dtype="uint8"):
    np.testing.assert_array_equal(found.x, images.reshape(ROWS, 784))
    np.testing.assert_array_equal(found.y, classes)
    assert (found.x.dtype, found.y.dtype, found.class_names) == (dtype, "int64", tuple("0123456789"))
    assert is_mapped(found.x)


def write_csv(path, columns, delimiter=","):
    """A csv file of {name: values}."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def write_text(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def table_of(images, classes):
    """{name: values} of pixels p0, p1, ... with the labels in the middle."""
    pixels = {f"p{i}": column for i, column in enumerate(images.reshape(ROWS, 784).T)}
    names = list(pixels)
    return {**{n: pixels[n] for n in names[:300]}, LABELS: classes, **{n: pixels[n] for n in names[300:]}}


# --- npy ---


def test_npy(images, classes, tmp_path):
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "y.npy", classes)
    found = readers.read_rows(tmp_path / "x.npy", labels=tmp_path / "y.npy")
    check_digits(found, images, classes)
    assert (found.image_shape, found.feature_names) == ((28, 28), ())
    assert found.source == f"array in {tmp_path / 'x.npy'}"


def test_npy_without_labels(images, tmp_path):
    np.save(tmp_path / "x.npy", images.reshape(ROWS, 784) / 255)
    found = readers.read_rows(str(tmp_path / "x.npy"))
    np.testing.assert_array_equal(found.x, images.reshape(ROWS, 784) / 255)
    assert (found.x.dtype, found.y, found.class_names, found.image_shape) == ("float64", None, (), None)
    assert found.x.filename == tmp_path / "x.npy"  # the file itself, not a copy


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((4, 2, 3), "uint8", (2, 3)),
        ((4, 2, 3, 1), "uint8", (2, 3)),
        ((4, 2, 3, 3), "uint8", (2, 3, 3)),
        ((4, 2, 3, 2), "uint8", None),
        ((4, 2, 3), "float32", None),
        ((4, 2, 3, 3, 2), "uint8", None),
    ],
)
def test_image_shape_of_arrays(shape, dtype, expected, tmp_path):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / "x.npy", array)
    found = readers.read_rows(tmp_path / "x.npy")
    np.testing.assert_array_equal(found.x, array.reshape(4, -1))
    assert found.image_shape == expected


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "<i8", "f2", "f4", "f8", ">f4", ">i4", ">f8", "g"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(30, 6), (30, 3, 2)])
def test_every_layout_of_arrays(shape, order, dtype, tmp_path):
    array = np.asarray(np.arange(180).reshape(shape) % 120, dtype, order=order)
    np.save(tmp_path / "x.npy", array)
    found = readers.read_rows(tmp_path / "x.npy", cache=tmp_path / "cache")
    np.testing.assert_array_equal(found.x, array.reshape(30, 6))
    assert is_mapped(found.x)
    assert found.x.dtype.isnative
    assert found.x.dtype.kind in "uif"
    assert found.x.dtype.itemsize <= 8


# --- npz ---


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["x", "x_train", "pictures"])
def test_npz(save, name, images, classes, tmp_path):
    save(tmp_path / "digits.npz", **{name: images, "y": classes, "number": 7})
    found = readers.read_rows(tmp_path / "digits.npz", labels="y", cache=tmp_path / "cache")
    check_digits(found, images, classes)
    assert found.image_shape == (28, 28)
    assert found.source == f"array {name} in {tmp_path / 'digits.npz'}"
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".npy"]


def test_npz_whose_array_cannot_be_guessed(images, tmp_path):
    np.savez(tmp_path / "two.npz", a=images, b=images, y=np.arange(3))
    with raises(
        InputError,
        "Expected an array named x or x_train, or only one of two dimensions or more",
        "Received: a (40, 28, 28) uint8, b (40, 28, 28) uint8, y (3,) int64. Save it again",
    ):
        readers.read_rows(tmp_path / "two.npz")
    with raises(InputError, "Expected labels named 'z' in ", "two.npz. Received: a (40, 28, 28) uint8"):
        readers.read_rows(tmp_path / "two.npz", labels="z")


def test_damaged_npz(images, tmp_path):
    np.savez(tmp_path / "x.npz", x=images)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    (tmp_path / "cut.npz").write_bytes(content[:5000])
    with raises(InputError, "Expected a npz file. Received: ", "cut.npz, which is damaged: "):
        readers.read_rows(tmp_path / "cut.npz")
    content[5000] ^= 1
    (tmp_path / "flipped.npz").write_bytes(content)
    with raises(InputError, "Expected a npz file. Received: ", "flipped.npz, which is damaged: Bad CRC-32"):
        readers.read_rows(tmp_path / "flipped.npz", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    with zipfile.ZipFile(tmp_path / "texts.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with raises(InputError, "Expected a NumPy array. Received: notes.txt in "):
        readers.read_rows(tmp_path / "texts.npz")


# --- tables ---


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("csv", ";"), ("tsv", "\t"), ("CSV", "|")])
def test_csv(suffix, delimiter, images, classes, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK_BYTES", 20_000)  # smaller than the file
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
    monkeypatch.setattr(tables, "BLOCK_BYTES", 64)
    text, expected = UNUSUAL[kind]
    found = readers.read_rows(write_text(tmp_path / "x.csv", text))
    np.testing.assert_array_equal(found.x, np.array(expected, "float32"))
    assert all(name == name.strip() for name in found.feature_names)


def test_thousands_of_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK_BYTES", 1000)  # less than a row
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
         "Drop these columns, write them as numbers, or name the column of labels with --labels."],
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
    monkeypatch.setattr(tables, "BLOCK_BYTES", 128)
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


# --- images ---


@pytest.fixture
def image_folder(images, classes, tmp_path):
    """Digits as png files in a folder for each class, with what people's computers leave beside them."""
    folder = tmp_path / "digits"
    for i, (image, label) in enumerate(zip(images, classes, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{i:03}.png")
    for name in (".DS_Store", "Thumbs.db", "0/._000.png", "0/notes.txt", ".trash/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no image")
    return folder


def test_image_folder(image_folder, images, classes):
    found = readers.read_rows(image_folder, labels="folders")
    order = np.lexsort((np.arange(ROWS), classes))
    check_digits(found, images[order], classes[order])
    assert found.image_shape == (28, 28)
    assert found.source == f"images in {image_folder}"


def test_resized_images(image_folder, images):
    found = readers.read_rows(image_folder, image_size=14)
    assert (found.x.shape, found.image_shape, found.y) == ((ROWS, 196), (14, 14), None)
    np.testing.assert_allclose(found.x.mean(), images.mean(), rtol=0.02)
    assert readers.read_rows(image_folder, image_size=(14, 7)).image_shape == (14, 7)


def test_color_images(image_folder, images):
    found = readers.read_rows(image_folder, color=True)
    assert found.image_shape == (28, 28, 3)
    np.testing.assert_array_equal(found.x.reshape(ROWS, 784, 3).min(axis=2), found.x[:, ::3])


def test_the_class_of_an_image_is_the_folder_of_its_link(image_folder, tmp_path):
    for name, target in {"even/a.png": "0", "even/b.png": "2", "odd/a.png": "1"}.items():
        (tmp_path / "links" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "links" / name).symlink_to(next((image_folder / target).glob("[0-9]*.png")))
    found = readers.read_rows(tmp_path / "links", labels="folders")
    assert (found.y.tolist(), found.class_names) == ([0, 0, 1], ("even", "odd"))


# Kinds of pictures: (Pillow image, format, grey value expected).
KINDS = {
    "16 bit": (lambda: Image.fromarray(np.full((2, 3), 128 * 257, "uint16")), "png", 128),
    "1 bit": (lambda: Image.new("1", (3, 2), 1), "png", 255),
    "palette": (lambda: Image.new("L", (3, 2), 51).convert("P"), "png", 51),
    "CMYK": (lambda: Image.new("CMYK", (3, 2), (0, 0, 0, 204)), "jpg", 51),
    "transparent": (lambda: Image.new("RGBA", (3, 2), (0, 0, 0, 0)), "png", 255),
    "half transparent grey": (lambda: Image.new("LA", (3, 2), (0, 127)), "png", 128),
    "gif": (lambda: Image.new("L", (3, 2), 51), "gif", 51),
    "bmp": (lambda: Image.new("RGB", (3, 2), (51, 51, 51)), "bmp", 51),
    "jpeg": (lambda: Image.new("L", (3, 2), 51), "jpeg", 51),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_images(kind, tmp_path):
    make, suffix, value = KINDS[kind]
    for name in "ab":
        make().save(tmp_path / f"{name}.{suffix}")
    for color in (False, True):
        found = readers.read_rows(tmp_path, color=color)
        np.testing.assert_array_equal(found.x, np.full((2, 18 if color else 6), value))


def test_image_turned_by_its_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    for name in "ab":
        Image.new("L", (3, 2)).save(tmp_path / f"{name}.jpg", exif=exif)
    assert readers.read_rows(tmp_path).image_shape == (3, 2)


def test_images_of_different_sizes(image_folder):
    odd = image_folder / "3" / "odd.png"
    Image.new("L", (20, 30)).save(odd)
    with raises(
        InputError,
        "Expected examples of one size. Received: ",
        "0/000.png of 28 x 28 and " if (image_folder / "0" / "000.png").exists() else ".png of 28 x 28 and ",
        f"{odd} of 30 x 20. Have them resized: image_size.",
    ):
        readers.read_rows(image_folder)
    assert readers.read_rows(image_folder, image_size=28).x.shape == (ROWS + 1, 784)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_broken_image(content, image_folder):
    broken = image_folder / "3" / "broken.png"
    broken.write_bytes(content)
    with raises(InputError, f"Expected an image. Received: {broken}, which is damaged", "Remove or replace it."):
        readers.read_rows(image_folder)


def test_cut_off_image(image_folder):
    path = sorted(image_folder.glob("3/*.png"))[0]
    path.write_bytes(path.read_bytes()[:-60])
    with raises(InputError, f"Expected an image. Received: {path}, which is damaged"):
        readers.read_rows(image_folder)


def test_folders_that_cannot_be_read(image_folder, tmp_path):
    (tmp_path / "none" / "a.txt").parent.mkdir()
    with raises(InputError, "Expected images (.png, .jpg", "Received a folder with: nothing."):
        readers.read_rows(tmp_path / "none")
    (tmp_path / "none" / "a.csv").touch()
    with raises(InputError, "Received a folder with: a.csv. Name the folder of the images, or one file of data."):
        readers.read_rows(tmp_path / "none")
    with raises(InputError, "Expected labels of two classes or more. Received: only '3' in the names of folders in "):
        readers.read_rows(image_folder / "3", labels="folders")
    with raises(InputError, "Expected labels='folders' for images", "Received: labels='label' for "):
        readers.read_rows(image_folder, labels="label")
    for size in (0, -3, 2.5, (3, 4, 5), (0, 3), "big"):
        with raises(InputError, "Expected image_size as n or (height, width)", f"Received: {size!r}."):
            readers.read_rows(image_folder, image_size=size)


# --- TFRecord ---


def write_records(path, examples):
    """A TFRecord file of {name: list of floats, ints or bytes}."""
    import tensorflow as tf

    def feature(values):
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    with tf.io.TFRecordWriter(str(path)) as writer:
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
        assert (found.image_shape, found.source) == (None, f"pixels in {path}")


def encoded(image, kind="png"):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


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
    assert readers.read_rows(path, image_size=7, color=True).image_shape == (7, 7, 3)


def test_tfrecord_of_floats(tmp_path):
    path = write_records(tmp_path / "x.tfrecord", [{"x": [0.5, 1.5]}, {"x": [2.5, 3.5]}])
    np.testing.assert_array_equal(readers.read_rows(path).x, [[0.5, 1.5], [2.5, 3.5]])


# Records that cannot be read: (examples, options, what the message says).
WRONG_RECORDS = {
    "none": ([], {}, ["Expected two rows or more. Received: no rows in "]),
    "one": ([{"x": [1, 2]}], {}, ["Expected two rows or more. Received: 1 row in x in "]),
    "two features": (
        [{"b": [1, 2], "a": [1.0, 2.0], "n": [3]}] * 2,
        {},
        ["Expected the name of the feature", "whose first record has: a (2 float32), b (2 int64), n (1 int64)."],
    ),
    "no feature": ([{"text": [b"hello"]}] * 2, {}, ["Received: feature=None", "has: text (1 bytes)."]),
    "no such feature": (
        [{"x": [1, 2]}] * 2,
        {"feature": "z"},
        ["Expected a feature named 'z'. Received: record 1 of ", "with: x (2 int64)."],
    ),
    "other bytes": (
        [{"x": [b"hello"]}] * 2,
        {"feature": "x"},
        ["Expected numbers or one PNG or JPEG image. Received: 'x' in record 1 of ", "with other bytes."],
    ),
    "broken image": ([{"x": [b"\xff\xd8\xff"]}] * 2, {}, ["Expected an image. Received: record 1 of "]),
    "lengths": (
        [{"x": [1, 2]}, {"x": [1, 2, 3]}],
        {},
        ["Expected examples of one size. Received: record 1 of ", " of 2 and record 2 of ", " of 3."],
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
    with raises(InputError, "Expected TFRecords of tf.train.Example. Received: ", "x.tfrecord, which is damaged"):
        readers.read_rows(path)


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
        monkeypatch.setattr(datasets, "tensorflow_datasets_builder", {"own_digits": builder}.get)
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
    assert found.image_shape == (28, 28)
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

    def no_addresses(name):
        raise StopIteration

    monkeypatch.setattr(datasets, "tensorflow_datasets_builder", no_addresses)
    with raises(InputError, "Received: 'mine', which is neither prepared nor reachable."):
        readers.read_rows("tfds:mine")
    monkeypatch.setattr(datasets, "tensorflow_datasets_builder", lambda name: None)
    with raises(
        InputError,
        "Expected a data set that tensorflow-datasets has prepared or can download. Received: 'emnist/letters', which "
        "is neither prepared nor reachable.",
    ):
        readers.read_rows("tfds:emnist/letters/test")


# --- what all formats share ---


def test_missing_path(tmp_path):
    with raises(
        InputError,
        f"Expected a file or folder of data. Received: {tmp_path / 'none'}, which does not exist. Name a npy, npz, "
        "csv (or csv.gz), parquet or tfrecord file, a folder of images, or a name of tensorflow-datasets such as "
        "tfds:mnist.",
    ):
        readers.read_rows(tmp_path / "none")


def test_unknown_suffix(tmp_path):
    path = write_text(tmp_path / "table.xlsx", "x")
    with raises(InputError, f"Expected a file of data by its suffix. Received: {path}. Name a npy, npz, csv"):
        readers.read_rows(path)


def test_data_that_must_not_be_read(image_folder, tmp_path, monkeypatch):
    path = write_text(tmp_path / "x.npy", "")

    def deny(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    with raises(InputError, f"Expected data that can be read. Received: {path}, which cannot be (Permission denied)."):
        readers.read_rows(path)
    monkeypatch.setattr(os, "scandir", deny)
    with raises(InputError, f"Expected data that can be read. Received: {image_folder}, which cannot be (Permission"):
        readers.read_rows(image_folder)


def test_options_of_another_format(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3))
    with raises(InputError, "Expected labels as the only option for ", "Received: feature='a'. Leave it out."):
        readers.read_rows(tmp_path / "x.npy", feature="a")
    with raises(InputError, "Expected labels as the only option for ", "Received: color=True. Leave it out."):
        readers.read_rows(tmp_path / "x.npy", color=True)


def test_a_folder_that_is_called_like_a_file(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with raises(InputError, "Expected images"):
        readers.read_rows(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("module", "name", "content", "package"),
    [
        ("pyarrow.csv", "x.csv", b"a\n1\n2\n", "pyarrow"),
        ("pyarrow.parquet", "x.parquet", b"", "pyarrow"),
        ("PIL.Image", "x.png", b"", "pillow"),
    ],
)
def test_missing_package(module, name, content, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(content)
    with raises(
        InputError, f"Expected {package} to read", "Received: Python without it. pip install 'keras-sae[data]'"
    ):
        readers.read_rows(tmp_path if name.endswith("png") else tmp_path / name)


def test_missing_tensorflow_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with raises(InputError, "Expected tensorflow-datasets", "pip install 'keras-sae[train]'"):
        readers.read_rows("tfds:mnist")


# Arrays that cannot be read: (array, what the message says).
WRONG_ARRAYS = {
    "one dimension": (np.arange(5), ["Expected rows of numbers, (examples, features). Received: shape (5,) in "]),
    "a number": (np.array(3.0), ["Received: shape () in "]),
    "no rows": (np.zeros((0, 3)), ["Expected two rows or more. Received: no rows in "]),
    "one row": (np.zeros((1, 3)), ["Expected two rows or more. Received: 1 row in "]),
    "no columns": (np.zeros((3, 0)), ["Expected one feature or more. Received: shape (3, 0) in "]),
    "complex": (np.zeros((3, 2), complex), ["Expected real numbers. Received: complex numbers in "]),
    "text": (np.array([["a"], ["b"]]), ["Expected real numbers. Received: text in "]),
    "objects": (np.array([[1, None]] * 2), ["Expected real numbers. Received: Python objects in "]),
    "dates": (np.zeros((3, 2), "M8[s]"), ["Expected real numbers. Received: dates in "]),
    "records": (np.zeros((3, 2), [("a", "f4")]), ["Expected real numbers. Received: records in "]),
    "NaN": (np.array([[1, 2], [3, np.nan]]), ["Expected finite numbers", "Received: nan in column 2, row 2 (counted"]),
    "infinity": (np.array([[1, 2], [-np.inf, 3]], "f2"), ["Received: -inf in column 1, row 2 (counted from 1) of "]),
    "too large": (np.array([[1, 2], [3, 1e39]]), ["up to 3.4e+38, which float32 can hold. Received: 1e+39 in"]),
    "late NaN": (np.array([[0.0] * 784] * 30 + [[0.0] * 783 + [np.nan]]), ["Received: nan in column 784, row 31 "]),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("kind", WRONG_ARRAYS)
def test_wrong_arrays(kind, suffix, tmp_path):
    array, parts = WRONG_ARRAYS[kind]
    path = tmp_path / f"x.{suffix}"
    np.save(path, array) if suffix == "npy" else np.savez(path, x=array)
    with raises(InputError, *parts, str(path)) as caught:
        readers.read_rows(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [3, 50, 200])
def test_cut_off_array(cut, images, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, images)
    path.write_bytes(path.read_bytes()[:cut])
    with raises(InputError, "Expected ", "Received: ", "x.npy, which is "):
        readers.read_rows(path)


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
    "one class": (np.zeros(3), ["Expected labels of two classes or more. Received: only '0' in "]),
    "NaN": (np.array([0, np.nan, 1]), ["Expected a label for every row. Received: none in row 2 (counted from 1)"]),
    "empty": (np.array(["a", " ", "b"]), ["Expected a label for every row. Received: none in row 2 (counted from 1)"]),
    "fractions": (np.array([0, 1, 0.5]), ["Expected classes as labels: whole numbers or text. Received: 0.5 in row 3"]),
    "infinity": (np.array([0, 1, np.inf]), ["Expected classes as labels: whole numbers", "Received: inf in row 3"]),
    "complex": (np.zeros(3, complex), ["Expected labels that are integers or text. Received: complex128 in "]),
    "objects": (np.array([1, None, "a"]), ["Expected labels as a NumPy array. Received: "]),
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
    with raises(InputError, "Expected a npy file with the labels. Received: y.npy, which cannot be read (No such file"):
        readers.read_rows(tmp_path / "x.npy", labels="y.npy")


# --- the file of rows ---


def test_rows_stay_after_they_are_read_again(tmp_path):
    """Another read of the same data replaces the file, and what is mapped already stays as it was."""
    path = write_text(tmp_path / "x.csv", "a,b\n1,2\n3,4\n")
    first = readers.read_rows(path, cache=tmp_path / "cache")
    write_text(path, "a,b\n5,6\n7,8\n9,10\n")
    second = readers.read_rows(path, cache=tmp_path / "cache")
    np.testing.assert_array_equal(first.x, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(second.x, [[5, 6], [7, 8], [9, 10]])
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_different_options_have_different_files(image_folder, tmp_path):
    for options in ({}, {"color": True}, {"image_size": 14}):
        readers.read_rows(image_folder, **options, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_no_examples(tmp_path):
    with raises(InputError, "Expected two rows or more. Received: no rows in here."):
        rows.store_each([], tmp_path / "x.raw", "here")


def test_too_little_space(image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
    with raises(InputError, "Expected 0.0 GB of room on the disk of ", "Received: 0.0 GB free. Free some space"):
        readers.read_rows(image_folder, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_full_disk(tmp_path, monkeypatch):
    path = write_text(tmp_path / "x.csv", "a,b\n1,2\n3,4\n")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rows, "check_finite", full)
    with raises(
        InputError, "Expected room for the data in ", "Received: a full disk. Free some space, or name a folder"
    ):
        readers.read_rows(path, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_cache_that_cannot_be_written_to(tmp_path):
    path = write_text(tmp_path / "x.csv", "a,b\n1,2\n3,4\n")
    with raises(InputError, "Expected a folder that can be written to, for the data. Received: ", "(File exists)"):
        readers.read_rows(path, cache=path)


def test_interrupted_while_writing(tmp_path, monkeypatch):
    path = write_text(tmp_path / "x.csv", "a,b\n1,2\n3,4\n")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(rows, "check_finite", interrupt)
    with pytest.raises(KeyboardInterrupt):
        readers.read_rows(path, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_constant_and_counting_columns():
    x = np.random.default_rng(0).uniform(size=(50, 784)).astype("float32")
    x[:, 3], x[:, 700], x[:-1, 10] = 0.5, -1, 2
    x[:, 5], x[:, 6] = np.arange(50), np.arange(7, 57)
    assert readers.constant_columns(x).tolist() == [3, 700]
    assert readers.counting_columns(x).tolist() == [5, 6]
    assert readers.counting_columns(np.arange(20, dtype="uint8").reshape(10, 2)[::-1] // 2).tolist() == []


# --- properties: rows or an InputError, whatever the values ---


def property_test(*arguments, **keywords):
    return lambda function: hypothesis.settings(
        max_examples=30,
        derandomize=True,  # the same examples on every machine
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
    )(hypothesis.given(*arguments, **keywords)(function))


ANY_DTYPE = strategies.one_of(
    arrays_of.boolean_dtypes(),
    arrays_of.integer_dtypes(endianness="?"),
    arrays_of.unsigned_integer_dtypes(endianness="?"),
    arrays_of.floating_dtypes(endianness="?"),
    arrays_of.complex_number_dtypes(),
    arrays_of.unicode_string_dtypes(),
    arrays_of.datetime64_dtypes(),
)
ANY_ARRAY = ANY_DTYPE.flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
TABLE_COLUMNS = strategies.integers(0, 5).flatmap(
    lambda number: strategies.dictionaries(
        strategies.text("abc é0", min_size=1, max_size=3),
        strategies.one_of(
            strategies.lists(strategies.integers(-(2**63), 2**63 - 1), min_size=number, max_size=number),
            strategies.lists(strategies.floats(), min_size=number, max_size=number),
            strategies.lists(strategies.booleans(), min_size=number, max_size=number),
            strategies.lists(strategies.none() | strategies.floats(-10, 10), min_size=number, max_size=number),
            strategies.lists(strategies.text(max_size=3), min_size=number, max_size=number),
        ),
        max_size=4,
    )
)


@contextlib.contextmanager
def rows_or_input_error():
    message = "Received"
    try:
        yield
    except InputError as error:
        message = str(error)
    assert "Received" in message
    assert "\n" not in message


def check_equal(found, expected):
    """Rows with these values, which could only be read if they are as they should be."""
    with np.errstate(over="ignore"):
        expected = np.asarray(expected).astype(found.x.dtype)
    assert expected.ndim >= 2
    assert len(expected) >= 2
    assert np.isfinite(found.x).all()
    np.testing.assert_array_equal(found.x, expected.reshape(len(expected), -1))


@property_test(array=ANY_ARRAY, suffix=strategies.sampled_from(["npy", "npz"]), order=strategies.sampled_from("CF"))
def test_any_array(array, suffix, order):
    with tempfile.TemporaryDirectory() as folder, rows_or_input_error():
        path, array = pathlib.Path(folder, f"x.{suffix}"), np.asarray(array, order=order)
        np.save(path, array) if suffix == "npy" else np.savez(path, x=array)
        check_equal(readers.read_rows(path, cache=folder), array)


@property_test(values=ANY_DTYPE.flatmap(lambda dtype: arrays_of.arrays(dtype, 3)))
def test_any_labels(values):
    with tempfile.TemporaryDirectory() as folder, rows_or_input_error():
        path = pathlib.Path(folder, "x.npz")
        np.savez(path, x=np.eye(3), y=values)
        found = readers.read_rows(path, labels="y", cache=folder)
        assert set(found.y) == set(range(len(found.class_names)))


@property_test(columns=TABLE_COLUMNS, label=strategies.none() | strategies.sampled_from("abc"))
def test_any_parquet(columns, label):
    with tempfile.TemporaryDirectory() as folder, rows_or_input_error():
        path = pathlib.Path(folder, "x.parquet")
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        found = readers.read_rows(path, labels=label, cache=folder)
        check_equal(found, np.array([values for name, values in columns.items() if name.strip() != label]).T)


@property_test(columns=TABLE_COLUMNS, label=strategies.none() | strategies.sampled_from("abc"))
def test_any_csv(columns, label):
    with tempfile.TemporaryDirectory() as folder, rows_or_input_error():
        path = write_csv(pathlib.Path(folder, "x.csv"), columns)
        found = readers.read_rows(path, labels=label, cache=folder)
        expected = [values for name, values in columns.items() if name.strip() != label]
        check_equal(found, np.array(expected, "float64").T)


@property_test(text=strategies.text("a1,;\"'\n\r\t .é-\0", max_size=40) | strategies.text(max_size=20))
def test_any_text_as_csv(text):
    with tempfile.TemporaryDirectory() as folder, rows_or_input_error():
        found = readers.read_rows(write_text(pathlib.Path(folder, "x.csv"), text, "utf-8"), cache=folder)
        assert np.isfinite(found.x).all()


@property_test(
    content=strategies.binary(max_size=80), start=strategies.sampled_from([b"", b"\x93NUMPY\x01\x00", b"PK\3\4"])
)
@pytest.mark.parametrize("suffix", ["npy", "npz", "parquet", "csv.gz", "tfrecord"])
def test_any_bytes(suffix, content, start):
    with tempfile.TemporaryDirectory() as folder, rows_or_input_error():
        path = pathlib.Path(folder, f"x.{suffix}")
        path.write_bytes(start + content)
        readers.read_rows(path, cache=folder)
