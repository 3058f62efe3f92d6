"""readers.image_files: folders of pictures."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

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
    "16 bit": (lambda: Image.fromarray(np.full((2, 3), 4095, "uint16")), "png", 4095),
    "16 bit tif": (lambda: Image.fromarray(np.full((2, 3), 4095, "uint16")), "tif", 4095),
    "32 bit tif": (lambda: Image.fromarray(np.full((2, 3), 70_000, "int32")), "tif", 70_000),
    "float tif": (lambda: Image.fromarray(np.full((2, 3), -0.5, "float32")), "tif", -0.5),
    "webp": (lambda: Image.new("L", (3, 2), 51), "webp", 51),
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
        f"{odd} of 30 x 20. Have them resized: image_size=N.",
    ):
        readers.read_rows(image_folder)
    assert readers.read_rows(image_folder, image_size=28).x.shape == (ROWS + 1, 784)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_broken_image(content, image_folder):
    broken = image_folder / "3" / "broken.png"
    broken.write_bytes(content)
    with raises(
        InputError, f"Expected an image. Received: {broken}, which is damaged", "Remove, replace or convert it."
    ):
        readers.read_rows(image_folder)


def test_cut_off_image(image_folder):
    path = sorted(image_folder.glob("3/*.png"))[0]
    path.write_bytes(path.read_bytes()[:-60])
    with raises(InputError, f"Expected an image. Received: {path}, which is damaged"):
        readers.read_rows(image_folder)


def test_folders_that_cannot_be_read(image_folder, tmp_path):
    (tmp_path / "none" / "a.txt").parent.mkdir()
    with raises(InputError, f"Expected data in {tmp_path / 'none'}. Received a directory with: nothing. Name npy"):
        readers.read_rows(tmp_path / "none")
    for name in ("a.doc", "b.doc", "c"):
        (tmp_path / "none" / name).touch()
    with raises(InputError, "Received a directory with: 2 doc, 1 without a suffix. Name npy"):
        readers.read_rows(tmp_path / "none")
    with raises(InputError, "Expected a directory for each class", ".png, which lies in none below ", "3. Move it"):
        readers.read_rows(image_folder / "3", labels="folders")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "3").symlink_to(image_folder / "3")
    with raises(InputError, "Received a directory with: 1 links to directories. Name npy"):
        readers.read_rows(tmp_path / "one", labels="folders")
    with raises(InputError, "Expected labels='folders' for images", "Received: labels='label' for "):
        readers.read_rows(image_folder, labels="label")
    for size in (0, -3, 2.5, (3, 4, 5), (0, 3), "big"):
        with raises(InputError, "Expected image_size as n or (height, width)", f"Received: {size!r}."):
            readers.read_rows(image_folder, image_size=size)


def picture(path, value=0, size=(3, 2)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size[::-1], value, "uint8")).save(path)


def test_the_class_of_an_image_is_the_first_directory_below_the_data(tmp_path):
    pets = tmp_path / "pets"
    for name in ("cat/train/a", "cat/test/a", "dog/train/deep/a", "dog/b"):
        picture(pets / f"{name}.png")
    for data in (pets, pets / "**" / "*.png", pets / "[cd]*"):
        found = readers.read_rows(data, labels="folders")
        assert (found.class_names, found.y.tolist()) == (("cat", "dog"), [0, 0, 1, 1])
        assert found.notes == ("4 files: 4 png",)
    picture(tmp_path / "split" / "train" / "cat" / "a.png")
    picture(tmp_path / "split" / "test" / "cat" / "a.png")
    found = readers.read_rows(tmp_path / "split", labels="folders")
    assert found.notes[1:] == ("the classes are called test, train, as parts of a data set are",)


def test_images_that_are_named_one_by_one(tmp_path):
    for name in ("a/1", "a/_2", "b/1"):
        picture(tmp_path / f"{name}.png")
    files = sorted(tmp_path.glob("*/*.png"))
    for data in (files, [tmp_path / "a", tmp_path / "b"]):
        found = readers.read_rows(data, labels="folders")
        assert (found.class_names, found.y.tolist()) == (("a", "b"), [0, 0, 1])
    again = readers.read_rows([files[2], tmp_path / "a", files[2]])
    assert (len(again.x), again.notes) == (3, ("3 files: 3 png", "left out: 1 named twice"))


SUFFIXES = ["apng", "gif", "webp", "tiff", "bmp", "jpe", "jp2", "ppm", "pgm", "tga", "ico", "sgi", "pcx", "dds"]


@pytest.mark.parametrize("suffix", [*SUFFIXES, pytest.param("avif", marks=pytest.mark.skipif(
    not features.check("avif"), reason="Pillow was built without AVIF"))])  # fmt: skip
def test_what_pillow_writes_is_read(suffix, tmp_path):
    for name in "ab":
        Image.new("L" if suffix == "pgm" else "RGB", (16, 16), 51 if suffix == "pgm" else (51, 51, 51)).save(
            tmp_path / f"{name}.{suffix}"
        )
    np.testing.assert_allclose(readers.read_rows(tmp_path).x, np.full((2, 256), 51), atol=2)


def test_what_is_left_out_and_changed_in_images_is_said(tmp_path):
    Image.new("RGB", (4, 4), (200, 0, 0)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 4), (9, 9, 9)).save(tmp_path / "b.webp")
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "c.png")
    frames = [Image.new("L", (4, 4), value) for value in (1, 200)]
    frames[0].save(tmp_path / "d.gif", save_all=True, append_images=frames[1:])
    for name in ("photo.heic", "labels.csv", ".hidden", "read.me", "more.heic"):
        (tmp_path / name).touch()
    found = readers.read_rows(tmp_path, image_size=4)
    assert found.notes == (
        "4 files: 2 png, 1 webp, 1 gif",
        "left out: 1 hidden, 2 heic, 1 me, 1 csv beside the images",
        "1 image of several pages or pictures, of which the first is read",
        "1 image in colour, read as grey",
        "1 image resized",
        "1 image of other proportions, which resizing changed",
        "1 image with transparent parts, put on white",
    )
    assert "colour" not in "".join(readers.read_rows(tmp_path, image_size=4, color=True).notes)


@pytest.mark.parametrize("color", [False, True])
def test_images_of_12_bits_keep_their_values(color, tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (5, 6, 8)).astype("uint16")
    for i, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    found = readers.read_rows(tmp_path, color=color)
    assert (found.x.dtype, found.value_range) == ("uint16", None)
    np.testing.assert_array_equal(found.x.reshape(5, 6, 8, -1)[..., -1], values)
    assert found.notes[1:] == ("5 images of more than 8 bits, with their values as they are",)
    smaller = readers.read_rows(tmp_path, image_size=(3, 4), color=color)
    assert smaller.x.dtype == "uint16"
    np.testing.assert_allclose(smaller.x.mean(), values.mean(), rtol=0.1)
    Image.new("L", (8, 6)).save(tmp_path / "z.png")
    with raises(InputError, "Expected examples of one type.", "0.png of uint16 and ", "z.png of uint8. Conv"):
        readers.read_rows(tmp_path, color=False)


def test_colour_of_16_bits_that_pillow_reduces_is_said(tmp_path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header, pixels = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0), bytes(26)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    notes = readers.read_rows(tmp_path, color=True).notes
    assert notes[1:] == ("2 images of 16 bit in colour, which Pillow reads as 8 bit",)


def test_deep_colour_in_ppm_that_pillow_reduces_is_said(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    notes = readers.read_rows(tmp_path, color=True).notes
    assert notes[1:] == ("2 images of 16 bit in colour, which Pillow reads as 8 bit",)
