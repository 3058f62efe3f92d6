"""Pictures: learned features as tiles, reconstructions, training curves."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from .extras import imported


def display_network(
    weights: Any, shape: tuple[int, ...] | None = None, columns: int | None = None, padding: int = 1
) -> np.ndarray:
    """Return learned features as one tile image, grey or colour, each tile scaled to its own contrast.

    Tile j is column j of `weights`, which is also, divided by its norm, the input of norm 1 that activates unit j
    most. Each is shifted to mean 0 and divided by its largest absolute value, so 0 is mid-grey, 1 white, -1 black.

    Args:
        weights: (features, units), an encoder kernel; or the transpose of a decoder kernel or of data (rows as tiles).
        shape: (height, width) of a tile, or (height, width, 3) for red, green and blue; by default a grey square.
        columns: tiles in a row; by default the picture is nearly square.
        padding: black pixels between tiles.

    Returns:
        A uint8 array (rows * (height + padding) + padding, columns * (width + padding) + padding), (..., 3) in colour.

    Raises:
        ValueError: `shape` does not hold the number of features.

    Reference: UFLDL, "Visualizing a Trained Autoencoder", and the exercise's display_network.m.
    """
    weights = as_float64(weights)
    if weights.ndim != 2:
        raise ValueError(f"Expected weights of shape (features, units). Received shape: {weights.shape}")
    features, units = weights.shape
    shape = tuple(shape or (math.isqrt(features), math.isqrt(features)))
    if math.prod(shape) != features:
        raise ValueError(
            f"A tile of {' x '.join(map(str, shape))} pixels does not hold {features} features. Pass "
            f"shape=(height, width) with height * width = {features}."
        )
    centred = weights - weights.mean(axis=0)
    largest = np.abs(centred).max(axis=0)
    tiles = (centred / np.where(largest > 0, largest, 1)).T.reshape(units, *shape)
    return tile_image(np.round(127.5 + 127.5 * tiles), columns, padding)


def tile_image(tiles: np.ndarray, columns: int | None = None, padding: int = 1) -> np.ndarray:
    """Return pictures of values 0 to 255, (number, height, width) or (..., 3), in rows on black, as a uint8 array."""
    number, height, width = tiles.shape[:3]
    columns = columns or _default_columns(number)
    rows = math.ceil(number / columns)
    size = (rows * (height + padding) + padding, columns * (width + padding) + padding)
    image = np.zeros((*size, *tiles.shape[3:]), dtype="uint8")
    for index, tile in enumerate(tiles):
        top = padding + index // columns * (height + padding)
        left = padding + index % columns * (width + padding)
        image[top : top + height, left : left + width] = tile
    return image


def _default_columns(number: int) -> int:
    """Return columns that fill every row of a picture at most four times as wide as high, or else nearly a square."""
    square = math.ceil(math.sqrt(number))
    return next((columns for columns in range(square, 2 * square + 1) if number % columns == 0), square)


def save_features(
    path: str | pathlib.Path,
    weights: Any,
    title: str,
    shape: tuple[int, ...] | None = None,
    columns: int | None = None,
) -> None:
    """Write the tiles of `display_network` with a title, as PNG."""
    image = display_network(weights, shape, columns)
    figure, axes = new_figure(figsize=(9, 0.4 + 9 * image.shape[0] / image.shape[1]))
    axes.imshow(image, cmap="gray", interpolation="nearest", vmin=0, vmax=255)
    axes.set_axis_off()
    axes.set_title(title, fontsize=10, parse_math=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def save_reconstructions(path: str | pathlib.Path, rows: Mapping[str, Any], title: str, shape: tuple[int, ...]) -> None:
    """Write rows of pictures one above the other, as PNG.

    rows: name -> (examples, features) in [0, 1], the same examples in each row.
    """
    pictures = {name: np.clip(as_float64(x), 0, 1).reshape(-1, *shape) * 255 for name, x in rows.items()}
    columns = len(next(iter(pictures.values())))
    image = tile_image(np.concatenate(list(pictures.values())), columns)
    figure, axes = new_figure(figsize=(9, 0.4 + 9 * image.shape[0] / image.shape[1]))
    axes.imshow(image, cmap="gray", interpolation="nearest", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([(i + 0.5) * (shape[0] + 1) for i in range(len(pictures))], list(pictures))
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=10, parse_math=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def save_rho_hat(path: str | pathlib.Path, rho_hat: np.ndarray, rho: float) -> None:
    """Write the distribution of the units' mean activations, with their target rho, as PNG."""
    figure, axes = new_figure(figsize=(5, 3))
    axes.hist(rho_hat, bins=30, color="tab:red", alpha=0.7)
    axes.axvline(rho, color="black", linestyle="--", label=f"target rho = {rho}")
    axes.set_xlabel("rho_hat, the mean activation over the whole training set")
    axes.set_ylabel("units")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def save_curves(path: str | pathlib.Path, histories: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str) -> None:
    """Write the objective against the iteration, one panel for each stage, as PNG.

    histories: name -> the `history` dict of a keras History; "loss" is drawn, and its terms if it has them.
    """
    figure, axes = new_figure(figsize=(3.4 * len(histories), 3.2), ncols=len(histories), squeeze=False)
    terms = {
        "loss": "objective", "reconstruction": "loss on the data", "data_loss": "loss on the data",
        "weight_decay": "weight decay", "sparsity": "sparsity",
    }  # fmt: skip
    for panel, (name, history) in zip(axes[0], histories.items(), strict=True):
        for key, label in terms.items():
            if any(history.get(key, [])):
                iterations = np.arange(1, len(history[key]) + 1)
                panel.plot(iterations, history[key], label=label, linewidth=2 if key == "loss" else 1)
        panel.set_yscale("log")
        panel.set_title(name, fontsize=10, parse_math=False)
        panel.set_xlabel(xlabel)
        panel.grid(alpha=0.3)
    lines, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)
    figure.savefig(path, dpi=150)


def as_float64(values: Any) -> np.ndarray:
    """Return a float64 array of an array, a tensor or a variable, on any device."""
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(values)).astype("float64")


def new_figure(figsize: tuple[float, float], **options: Any) -> tuple[Any, Any]:
    """Return a matplotlib Figure without a window, and its axes; options are those of `Figure.subplots`."""
    figure = imported("matplotlib.figure", "draw pictures with").Figure(figsize=figsize, layout="constrained")
    return figure, figure.subplots(**options)
