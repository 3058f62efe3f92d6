"""Rows of pixels from image files, read with Pillow."""

import io
import os
import pathlib
import struct
import zlib

import numpy as np

from ...errors import InputError
from ...extras import imported
from .labels import Labels
from .rows import Rows, cache_file, store_each

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
SIZE_CURE = " Have them resized: image_size."


def read_folder(path, labels=None, image_size=None, color=False, cache=None):
    """The images in a folder and the folders in it, in the order of their names, as rows of uint8 pixels.

    labels="folders": the class of an image is the name of the folder that it is in. Hidden files are left out.
    """
    if labels not in (None, "folders"):
        raise InputError(
            f"Expected labels='folders' for images: each folder is a class. Received: labels={labels!r} for {path}."
        )
    size, files = size_of(image_size), _image_files(path)
    images = ((file, decode(file, file, size, color)) for file in files)
    target = cache_file(cache, path, size, color)
    x, image_shape = store_each(images, target, path, total=len(files), cure=SIZE_CURE)
    y, class_names = None, ()
    if labels is not None:
        classes = Labels(f"the names of folders in {path}")
        for file in files:
            classes.append(file.absolute().parent.name)
        y, class_names = classes.classes(len(files))
    return Rows(x, y, class_names, image_shape=image_shape, source=f"images in {path}")


def _image_files(path):
    """Paths of the images below a folder, sorted."""
    files = []
    for folder, folders, names in os.walk(path, onerror=_raise, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = [name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
        files += [pathlib.Path(folder, name) for name in names]
    if not files:
        found = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
        raise InputError(
            f"Expected images ({', '.join(SUFFIXES)}) in the folder {path}. Received a folder with: {found}. Name the "
            "folder of the images, or one file of data."
        )
    return sorted(files)


def _raise(error):
    """For os.walk, which leaves out folders that it cannot read."""
    raise error


def size_of(image_size):
    """(height, width) of the option image_size: n, (height, width) or None."""
    if image_size is None:
        return None
    size = (image_size, image_size) if np.ndim(image_size) == 0 else tuple(image_size)
    if len(size) != 2 or not all(isinstance(n, (int, np.integer)) and n > 0 for n in size):
        raise InputError(f"Expected image_size as n or (height, width), in pixels. Received: {image_size!r}.")
    return size


def decode(file, where, size=None, color=False):
    """The pixels of an image file (a path or its bytes), uint8 (height, width), or (height, width, 3) with color.

    Turned as its EXIF says, on white where it is transparent, 16 bit reduced to 8, the first picture of an animation;
    resized to size=(height, width), whatever the proportions were.
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


def pixels(image, size=None, color=False):
    """The pixels of a Pillow image, as `decode`."""
    pillow, operations = imported("PIL.Image"), imported("PIL.ImageOps")
    image = operations.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bit, which Pillow would cut at 255 and not scale
        image = pillow.fromarray((np.asarray(image) // 257).astype("uint8"))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = pillow.new("RGBA", image.size, "white")
        image = pillow.alpha_composite(white, image)
    image = image.convert("RGB" if color else "L")
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], pillow.Resampling.BILINEAR)
    return np.asarray(image)
