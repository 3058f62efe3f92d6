"""A reader of image files, which Pillow decodes."""

import collections
import io
import pathlib
import struct
import warnings
import zlib
from typing import Any

import numpy as np

from ...errors import InputError, NoImagesError
from ...extras import imported
from .bounds import VALUE_BYTES, check_memory
from .labels import Labels
from .rows import Audit, Rows, image_range
from .sources import Source, as_text
from .storage import cache_file, store_each

SUFFIXES = (  # what Pillow reads without another program
    r"\.(a?png|jpe?g|jpe|jfif|webp|gif|tiff?|bmp|dib|avifs?|jp2|j2k|jpc|jpx|j2c|jpf|p[bgpn]m|pfm|qoi|tga|ico|icns|cur|"
    r"pcx|dcx|sgi|rgba?|bw|psd|dds|xbm|xpm|ras|msp|fits?|blp)"
)
SIZE_CURE = " Have them resized: image_size=N."
COLORLESS = 16  # of 255: by how much the channels of a grey image may differ once it was compressed
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}
PIXEL_BYTES = 16  # of each pixel of an image while it is decoded, in colour and with transparent parts
PLAIN_PIXELS = 2**24  # that an image may declare whatever its own size is
LARGEST_EXPANSION = 10_000  # pixels of larger ones for each byte; a plain area of 1 bit a pixel reaches 8,000
_DEEP = {"I;16", "I;16L", "I;16B", "I", "F"}  # Pillow's names for grey pixels of more than 8 bits


def read_images(
    source: Source,
    labels: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    color: bool = False,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return images as rows of pixels: uint8, or with their own values if they have more than 8 bits.

    If `labels` is "folders", the class of an image is the first directory below the one that was named.
    """
    if labels not in (None, "folders"):
        raise InputError(
            f"Expected labels='folders' for images: each directory is a class. Received: labels={labels!r} for "
            f"{source}."
        )
    decoder, files = Decoder(image_size, color), list(source.files)
    images = ((file, decoder.decode(file, file)) for file in files)
    target = cache_file(cache, source.name, files, decoder.size, color)
    audit = Audit(f"the images in {source}")
    x, image_shape = store_each(images, target, audit, len(files), SIZE_CURE)
    y, class_names = (None, ()) if labels is None else _classes(source)
    notes = [*source.notes, *decoder.notes(), *audit.notes()]
    if set(class_names) & SPLITS:
        notes.append(f"the classes are called {', '.join(class_names[:6])}, as parts of a data set are")
    shown = f"images in {source}"
    return Rows(
        x, y, class_names, image_shape=image_shape, value_range=image_range(x), source=shown, notes=tuple(notes)
    )


def _classes(source: Source) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (class numbers, class names) of images by the first directory below the one that was named, as Keras."""
    classes = Labels(f"the names of directories in {source}")
    for file, base in source.files.items():
        parts = file.absolute().relative_to(base.absolute()).parts
        if len(parts) == 1:
            raise InputError(
                f"Expected a directory for each class, with its images. Received: {file}, which lies in none below "
                f"{base}. Move it into one, or name the directory above."
            )
        classes.append(as_text(parts[0]))
    return classes.classes(len(source.files))


def _size_of(image_size: Any, color: bool) -> tuple[int, int] | None:
    """Return (height, width) for the option image_size: n, (height, width) or None. Raise InputError for any other."""
    if image_size is None:
        return None
    size = (image_size, image_size) if np.ndim(image_size) == 0 else tuple(image_size)
    if len(size) != 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in size):
        raise InputError(f"Expected image_size as n or (height, width), in pixels. Received: {image_size!r}.")
    height, width = map(int, size)
    check_memory(VALUE_BYTES * (3 if color else 1) * height * width, f"images of {height:,} x {width:,} pixels")
    return height, width


def _check_declared(size: tuple[int, int], held: int, where: object) -> None:
    """Raise an error unless the pixels of an image, (width, height), may be in so many bytes, and take little memory.

    Pillow takes it before it finds that a file is cut off.
    """
    width, height = size
    if width * height > max(PLAIN_PIXELS, LARGEST_EXPANSION * held):
        raise ValueError(f"it declares {width:,} x {height:,} pixels and holds {held:,} bytes")
    check_memory(PIXEL_BYTES * width * height, f"the {width:,} x {height:,} pixels of {where}")


def check_no_images(image_size: object, color: bool, found: str) -> None:
    """Raise InputError if there are options for images where there are none."""
    if image_size is not None or color:
        option = "color=True" if image_size is None else f"image_size={image_size!r}"
        raise NoImagesError(f"Expected images to resize or to colour. Received: {option} for {found}. Leave it out.")


class Decoder:
    """Decodes images to arrays (height, width), or (height, width, 3) if `color`, and counts what it changes in them.

    An image is turned as its EXIF data say, put on white if parts are transparent, and resized to `image_size`,
    whatever its proportions were. Of pages or an animation the first is taken. Pixels are uint8, or uint16 or float32
    if they are grey with more than 8 bits: their values stay as they are, as nobody can know how many bits are used.
    """

    def __init__(self, image_size: int | tuple[int, int] | None, color: bool) -> None:
        self.size, self.color = _size_of(image_size, color), color
        self.counts: collections.Counter[str] = collections.Counter()

    def decode(self, file: pathlib.Path | bytes, where: pathlib.Path | str) -> np.ndarray:
        """Return the pixels of an image file, a path or its bytes."""
        pillow = imported("PIL.Image")
        held = len(file) if isinstance(file, bytes) else file.stat().st_size
        try:
            with (
                warnings.catch_warnings(action="ignore", category=pillow.DecompressionBombWarning),
                pillow.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image,
            ):
                _check_declared(image.size, held, where)
                return self.pixels(image)
        except InputError:
            raise
        except (
            *(OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, struct.error, zlib.error),
            pillow.DecompressionBombError,
        ) as error:
            raise InputError(
                f"Expected an image. Received: {where}, which is damaged or of a kind that Pillow does not read: "
                f"{error}. Remove, replace or convert it."
            ) from error

    def pixels(self, image: Any) -> np.ndarray:
        """Return the pixels of a Pillow image."""
        operations = imported("PIL.ImageOps")
        self.counts["of several pages or pictures, of which the first is read"] += getattr(image, "is_animated", False)
        self.counts["of 16 bit in colour, which Pillow reads as 8 bit"] += image.mode not in _DEEP and _is_deep(image)
        turned = operations.exif_transpose(image)
        self.counts["turned as their EXIF data say"] += image.getexif().get(0x0112, 1) not in (0, 1)
        return self._deep(turned, image.format) if turned.mode in _DEEP else self._of_8_bits(turned)

    def _of_8_bits(self, image: Any) -> np.ndarray:
        pillow = imported("PIL.Image")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = pillow.new("RGBA", image.size, "white")
            self.counts["with transparent parts, put on white"] += image.getextrema()[3][0] < 255
            image = pillow.alpha_composite(white, image)
        self.counts["in colour, read as grey"] += not self.color and _in_color(image)
        return np.asarray(self._resized(image.convert("RGB" if self.color else "L")))

    def _deep(self, image: Any, file_format: str | None) -> np.ndarray:
        """Return the pixels of a grey image of more than 8 bits: uint16, or float32 if they need not be whole."""
        whole = image.mode != "F" and (image.mode != "I" or file_format in ("PNG", "PPM"))
        self.counts["of more than 8 bits, with their values as they are"] += 1
        array = np.asarray(image).astype("float32")
        array = np.asarray(self._resized(imported("PIL.Image").fromarray(array)))
        array = np.round(array).astype("uint16") if whole else array
        return np.repeat(array[..., None], 3, axis=-1) if self.color else array

    def _resized(self, image: Any) -> Any:
        if self.size is None or image.size == self.size[::-1]:
            return image
        self.counts["resized"] += 1
        same = image.size[1] * self.size[1] == image.size[0] * self.size[0]
        self.counts["of other proportions, which resizing changed"] += not same
        return image.resize(self.size[::-1], imported("PIL.Image").Resampling.BILINEAR)

    def notes(self) -> list[str]:
        """Return notes on what was changed in images, and in how many."""
        return [f"{number:,} image{'s' * (number > 1)} {what}" for what, number in self.counts.items() if number]


def _is_deep(image: Any) -> bool:
    """Return whether an opened image has more than 8 bits in its file."""
    tiles = [(tile[0], tile[3]) for tile in getattr(image, "tile", ())]
    return any(";16" in str(form) or (decoder == "ppm" and form[1] > 255) for decoder, form in tiles)


def _in_color(image: Any) -> bool:
    """Return whether a Pillow image has channels that differ: many grey images are stored as red, green and blue."""
    if image.mode in ("1", "L", "LA"):
        return False
    red, green, blue = image.convert("RGB").split()
    difference = imported("PIL.ImageChops").difference
    return max(difference(red, other).getextrema()[1] for other in (green, blue)) > COLORLESS
