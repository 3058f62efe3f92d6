"""What the tests of the readers share."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from keras_sae.data.readers import rows

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


def encoded(image, kind="png"):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()
