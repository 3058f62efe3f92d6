"""readers.image_files: folders of pictures."""

import numpy as np
import pytest
from PIL import Image

from keras_sae.data import readers
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises
from tests.keras_sae.data.readers.conftest import ROWS, check_digits


def test_image_folder(image_folder, images, classes):
    found = readers.read_rows(image_folder, labels="folders")
    order = np.lexsort((np.arange(ROWS), classes))
    check_digits(found, images[order], classes[order])
    assert (found.image_shape, found.value_range) == ((28, 28), (0, 255))
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
    with raises(InputError, "Expected images (.png, .jpg", "Received a directory with: nothing."):
        readers.read_rows(tmp_path / "none")
    (tmp_path / "none" / "a.csv").touch()
    with raises(InputError, "Received a directory with: a.csv. Name the directory of the images, or one file of data."):
        readers.read_rows(tmp_path / "none")
    with raises(
        InputError, "Expected labels of two classes or more. Received: only '3' in the names of directories in "
    ):
        readers.read_rows(image_folder / "3", labels="folders")
    with raises(InputError, "Expected labels='folders' for images", "Received: labels='label' for "):
        readers.read_rows(image_folder, labels="label")
    for size in (0, -3, 2.5, (3, 4, 5), (0, 3), "big"):
        with raises(InputError, "Expected image_size as n or (height, width)", f"Received: {size!r}."):
            readers.read_rows(image_folder, image_size=size)
