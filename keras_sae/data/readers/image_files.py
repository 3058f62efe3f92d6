"""A reader of image files, which Pillow decodes."""

import io
import os
import pathlib
import struct
import zlib
from typing import Any

import numpy as np

from ...errors import InputError
from ...extras import imported
from .labels import Labels
from .rows import Rows, cache_file, image_range, store_each

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
SIZE_CURE = " Have them resized: image_size."


def read_folder(
    path: pathlib.Path,
    labels: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    color: bool = False,
    cache: pathlib.Path | str | None = None,
) -> Rows:
    """Return the images below a directory, in the order of their names, as rows of uint8 pixels.

    If `labels` is "folders", the class of an image is the name of the directory that it is in. Hidden files are left
    out.
    """
    if labels not in (None, "folders"):
        raise InputError(
            f"Expected labels='folders' for images: each directory is a class. Received: labels={labels!r} for {path}."
        )
    size, files = size_of(image_size), _image_files(path)
    images = ((file, decode(file, file, size, color)) for file in files)
    target = cache_file(cache, path, size, color)
    x, image_shape = store_each(images, target, path, total=len(files), cure=SIZE_CURE)
    y: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    if labels is not None:
        classes = Labels(f"the names of directories in {path}")
        for file in files:
            classes.append(file.absolute().parent.name)
        y, class_names = classes.classes(len(files))
    return Rows(x, y, class_names, image_shape=image_shape, value_range=image_range(x), source=f"images in {path}")


def _image_files(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the sorted paths of the images below a directory. Raise InputError if there are none."""
    files = []
    for folder, folders, names in os.walk(path, onerror=_raise, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = [name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
        files += [pathlib.Path(folder, name) for name in names]
    if not files:
        found = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
        raise InputError(
            f"Expected images ({', '.join(SUFFIXES)}) in the directory {path}. Received a directory with: {found}. "
            "Name the directory of the images, or one file of data."
        )
    return sorted(files)


def _raise(error: OSError) -> None:
    """Raise the error that os.walk met, which would otherwise leave out directories that it cannot read."""
    raise error


def size_of(image_size: Any) -> tuple[int, int] | None:
    """Return (height, width) for the option image_size: n, (height, width) or None. Raise InputError for any other."""
    if image_size is None:
        return None
    size = (image_size, image_size) if np.ndim(image_size) == 0 else tuple(image_size)
    if len(size) != 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in size):
        raise InputError(f"Expected image_size as n or (height, width), in pixels. Received: {image_size!r}.")
    return size


def decode(
    file: pathlib.Path | bytes, where: pathlib.Path | str, size: tuple[int, int] | None = None, color: bool = False
) -> np.ndarray:
    """Return the pixels of an image file (a path or its bytes), uint8 (height, width), or (height, width, 3) if color.

    The image is turned as its EXIF data say, put on white if parts are transparent, reduced from 16 bit to 8, and
    resized to size=(height, width), whatever its proportions were. Of an animation the first picture is taken.
    """
    pillow = imported("PIL.Image")
    try:
        with pillow.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            return pixels(image, size, color)
    except (
        *(OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, struct.error, zlib.error),
        pillow.DecompressionBombError,
    ) as error:
        raise InputError(
            f"Expected an image. Received: {where}, which is damaged or something else: {error}. Remove or replace it."
        ) from error


def pixels(image: Any, size: tuple[int, int] | None = None, color: bool = False) -> np.ndarray:
    """Return the pixels of a Pillow image, as `decode` returns those of a file."""
    pillow, operations = imported("PIL.Image"), imported("PIL.ImageOps")
    image = operations.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bit, which Pillow would cut off at 255 rather than scale
        image = pillow.fromarray((np.asarray(image) // 257).astype("uint8"))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = pillow.new("RGBA", image.size, "white")
        image = pillow.alpha_composite(white, image)
    image = image.convert("RGB" if color else "L")
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], pillow.Resampling.BILINEAR)
    return np.asarray(image)
