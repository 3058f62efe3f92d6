"""Pictures of a page: tiles of one size in one PNG, which the page cuts out."""

import base64
import io
import math
from typing import Any

import numpy as np

from .extras import imported
from .visualization import as_float64

LARGEST = 2_000_000  # bytes of a PNG: larger ones are made of tiles of half the size


class Sprite:
    """Tiles of one size in a single PNG, as a style of the page: a class with its picture, and a place for each tile.

    Args:
        name: of the class in CSS.
        tiles: values 0 to 255, (number, height, width) or (number, height, width, 3).
    """

    def __init__(self, name: str, tiles: np.ndarray):
        self.name = name
        self.height, self.width = tiles.shape[1:3]  # of a tile as it is, whatever its size in the PNG
        self.columns = max(1, math.ceil(math.sqrt(len(tiles))))
        self.rows = max(1, math.ceil(len(tiles) / self.columns))
        png = as_png(_joined(tiles, self.rows, self.columns), optimize=True)
        while len(png) > LARGEST and min(tiles.shape[1:3]) > 1:
            tiles = halved(tiles)
            png = as_png(_joined(tiles, self.rows, self.columns), optimize=True)
        self.uri = "data:image/png;base64," + base64.b64encode(png).decode("ascii")

    def css(self) -> str:
        """Return the rule of the class."""
        size = f"{100 * self.columns}% {100 * self.rows}%"
        style = f"background-image:url({self.uri});background-size:{size};--ratio:{self.width / self.height:.5g}"
        return f".{self.name}{{{style}}}"

    def place(self, number: int) -> str:
        """Return where a tile is, in per cent, for `background-position`."""
        row, column = divmod(number, self.columns)
        return f"{_share(column, self.columns)} {_share(row, self.rows)}"


def contrasted(rows: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return rows that may be negative as tiles: 0 is grey, the largest absolute value of a row white or black."""
    rows = as_float64(rows)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    return _uint8(127.5 + 127.5 * rows / np.where(largest > 0, largest, 1)).reshape(-1, *shape)


def exposed(rows: Any, shape: tuple[int, ...], ends: tuple[float, float]) -> np.ndarray:
    """Return rows as tiles whose black and white are the two values given."""
    low, high = ends
    return _uint8(255 * (as_float64(rows) - low) / (high - low if high > low else 1)).reshape(-1, *shape)


def ends_of(rows: np.ndarray) -> tuple[float, float]:
    """Return what is black and what is white in pictures of rows: 0 and 1 if these hold all, else all but extremes."""
    if rows.min() >= 0 and rows.max() <= 1:
        return 0.0, 1.0
    low, high = np.quantile(rows, [0.005, 0.995])
    return float(low), float(high)


def _uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(np.nan_to_num(values)), 0, 255).astype("uint8")


def _joined(tiles: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the tiles side by side, (rows * height, columns * width) or (..., 3), black where there are none."""
    height, width = tiles.shape[1:3]
    image = np.zeros((rows * columns, *tiles.shape[1:]), "uint8")
    image[: len(tiles)] = tiles
    grid = image.reshape(rows, columns, *tiles.shape[1:]).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, *tiles.shape[3:])


def halved(tiles: np.ndarray) -> np.ndarray:
    """Return tiles of half the height and width, each pixel the mean of four."""
    height, width = (size - size % 2 for size in tiles.shape[1:3])
    parts = [tiles[:, i:height:2, j:width:2].astype("float64") for i in (0, 1) for j in (0, 1)]
    return _uint8(np.mean(parts, axis=0))


def as_png(image: np.ndarray, **options: Any) -> bytes:
    """Return a uint8 array, (height, width) or (height, width, 3), as the bytes of a PNG file; options are Pillow's."""
    file = io.BytesIO()
    imported("PIL.Image", "write a report").fromarray(image).save(file, format="PNG", **options)
    return file.getvalue()


def _share(number: int, of: int) -> str:
    return f"{100 * number / (of - 1) if of > 1 else 0:.6g}%"
