"""Pictures: learned features as tiles, reconstructions, training curves."""

import functools
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from .extras import imported

TERMS = {  # of the objective, as a history names them -> as people do
    "loss": "objective", "val_loss": "held out", "reconstruction": "loss on the data",
    "data_loss": "loss on the data", "weight_decay": "weight decay", "sparsity": "sparsity",
}  # fmt: skip
PNG = {"dpi": 150, "bbox_inches": "tight", "format": "png"}


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
    shape = _tile_shape(features, shape)
    centred = weights - weights.mean(axis=0)
    largest = np.abs(centred).max(axis=0)
    tiles = (centred / np.where(largest > 0, largest, 1)).T.reshape(units, *shape)
    return tile_image(np.round(127.5 + 127.5 * tiles), columns, padding)


def _tile_shape(features: int, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape of a tile, by default a square. Raise ValueError if it does not hold the number of features."""
    shape = tuple(shape or (math.isqrt(features), math.isqrt(features)))
    if math.prod(shape) != features:
        raise ValueError(
            f"A tile of {' x '.join(map(str, shape))} pixels does not hold {features} features. Pass "
            f"shape=(height, width) with height * width = {features}."
        )
    return shape


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


def confusion_picture(counts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return how many rows of each class were taken for each class as a picture, uint8 (height, width, 3).

    The darker a cell, the larger is its share of its row. More than 30 classes have neither names nor numbers.

    Args:
        counts: (classes, classes); the row is the label, the column what a model says.
        names: of the classes.
    """
    pillow, drawing, fonts = (imported(f"PIL.{name}", "draw with") for name in ("Image", "ImageDraw", "ImageFont"))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell, written = (32, True) if len(counts) <= 30 else (8, False)
    colours = 255 - shares.reshape(-1, 1, 1, 1) * (255 - np.array([31, 119, 180]))  # white to blue
    cells = tile_image(colours.repeat(cell, axis=1).repeat(cell, axis=2), len(counts))
    font = fonts.load_default(12)
    names = [name if len(name) <= 24 else f"{name[:23]}\N{HORIZONTAL ELLIPSIS}" for name in names] if written else []
    margin = 8 + round(max([0, *map(font.getlength, names)]))  # of names, on the left and above
    image = pillow.new("RGB", (margin + len(cells),) * 2, "white")
    image.paste(pillow.fromarray(cells), (margin, margin))
    middles = margin + (cell + 1) * (np.arange(len(names)) + 0.5)
    for middle, name in zip(middles, names, strict=True):
        drawing.Draw(image).text((margin - 4, middle), name, "black", font, "rm")
    image = image.transpose(pillow.Transpose.ROTATE_270)
    for middle, name in zip(middles, names, strict=True):  # of columns, from below
        drawing.Draw(image).text((len(cells) + 4, middle), name, "black", font, "lm")
    image = image.transpose(pillow.Transpose.ROTATE_90)
    for (row, column), count in np.ndenumerate(counts if written else np.zeros((0, 0))):
        colour = "white" if shares[row, column] > 0.5 else "black"
        drawing.Draw(image).text((middles[column], middles[row]), str(count), colour, font, "mm")
    words = "row: label, column: what the model says"
    captioned = pillow.new("RGB", (max(image.width, 8 + round(font.getlength(words))), image.height + 20), "white")
    captioned.paste(image)
    drawing.Draw(captioned).text((4, image.height + 10), words, "black", font, "lm")
    return np.asarray(captioned)


def plot_features(
    weights: Any, title: str = "", shape: tuple[int, ...] | None = None, columns: int | None = None
) -> Any:
    """Return a matplotlib Figure of the tiles of `display_network`, with a title.

    >>> plot_features(ae.kernel)
    """
    return _pictured(display_network(weights, shape, columns), title)[0]


def plot_reconstructions(rows: Mapping[str, Any], title: str = "", shape: tuple[int, ...] | None = None) -> Any:
    """Return a matplotlib Figure of rows of pictures, one above the other.

    Args:
        rows: name -> (examples, features) in [0, 1], the same examples in each row.
        title: of the figure.
        shape: (height, width) of a picture, or (height, width, 3) in colour; by default a grey square.

    >>> plot_reconstructions({"input": x[:16], "autoencoder": ae.reconstruct(x[:16])})
    """
    arrays = {name: np.clip(as_float64(x), 0, 1) for name, x in rows.items()}
    shape = _tile_shape(next(iter(arrays.values())).shape[-1], shape)
    pictures = np.concatenate([255 * x.reshape(-1, *shape) for x in arrays.values()])
    figure, axes = _pictured(tile_image(pictures, len(pictures) // len(arrays)), title)
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([(i + 0.5) * (shape[0] + 1) for i in range(len(arrays))], list(arrays))
    axes.tick_params(length=0)
    return figure


def _pictured(image: np.ndarray, title: str) -> tuple[Any, Any]:
    """Return a figure of an image with a title, and its axes, which are hidden."""
    figure, axes = new_figure(figsize=(9, 0.4 + 9 * image.shape[0] / image.shape[1]))
    axes.imshow(image, cmap="gray", interpolation="nearest", vmin=0, vmax=255)
    axes.set_axis_off()
    axes.set_title(title, fontsize=10, parse_math=False)
    return figure, axes


def plot_rho_hat(rho_hat: np.ndarray, rho: float) -> Any:
    """Return a matplotlib Figure of the distribution of the units' mean activations, with their target rho.

    >>> plot_rho_hat(keras_sae.objective(ae, x).rho_hat[0], ae.sparsity.rho)
    """
    figure, axes = new_figure(figsize=(5, 3))
    axes.hist(rho_hat, bins=30, color="tab:red", alpha=0.7)
    axes.axvline(rho, color="black", linestyle="--", label=f"target rho = {rho}")
    axes.locator_params(axis="x", nbins=5)  # numbers that hardly differ are long
    axes.set_xlabel("rho_hat, the mean activation over the whole training set")
    axes.set_ylabel("units")
    axes.legend(frameon=False)
    return figure


def plot_history(histories: Any, xlabel: str = "iteration") -> Any:
    """Return a matplotlib Figure of the objective and its terms against the iteration, one panel for each stage.

    histories: a keras History, or name -> its `history` dict; "loss" is drawn, and what else there is of its terms and
    of "val_loss".

    >>> plot_history(keras_sae.fit(ae, x))
    """
    if not isinstance(histories, Mapping):
        histories = {"": histories.history}
    figure, axes = new_figure(figsize=(max(4.5, 3.4 * len(histories)), 3.2), ncols=len(histories), squeeze=False)
    for panel, (name, history) in zip(axes[0], histories.items(), strict=True):
        for key, label in TERMS.items():
            if any(history.get(key, [])):
                iterations = np.arange(1, len(history[key]) + 1)
                panel.plot(iterations, history[key], label=label, linewidth=2 if key == "loss" else 1)
        panel.set_yscale("log")
        panel.set_title(name, fontsize=10, parse_math=False)
        panel.set_xlabel(xlabel)
        panel.grid(alpha=0.3)
    lines, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=min(3, len(labels)), fontsize=9, frameon=False)
    return figure


def save_features(
    path: str | pathlib.Path,
    weights: Any,
    title: str,
    shape: tuple[int, ...] | None = None,
    columns: int | None = None,
) -> None:
    """Write `plot_features` as PNG."""
    plot_features(weights, title, shape, columns).savefig(path, **PNG)


def save_reconstructions(path: str | pathlib.Path, rows: Mapping[str, Any], title: str, shape: tuple[int, ...]) -> None:
    """Write `plot_reconstructions` as PNG."""
    plot_reconstructions(rows, title, shape).savefig(path, **PNG)


def save_rho_hat(path: str | pathlib.Path, rho_hat: np.ndarray, rho: float) -> None:
    """Write `plot_rho_hat` as PNG."""
    plot_rho_hat(rho_hat, rho).savefig(path, **PNG)


def save_curves(path: str | pathlib.Path, histories: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str) -> None:
    """Write `plot_history` as PNG."""
    plot_history(histories, xlabel).savefig(path, **PNG)


def as_float64(values: Any) -> np.ndarray:
    """Return a float64 array of an array, a tensor or a variable, on any device."""
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(values)).astype("float64")


def new_figure(figsize: tuple[float, float], **options: Any) -> tuple[Any, Any]:
    """Return a matplotlib Figure without a window, and its axes; options are those of `Figure.subplots`.

    Notebooks show it: matplotlib itself sees to that only for figures of pyplot.
    """
    figure = imported("matplotlib.figure", "draw pictures with").Figure(figsize=figsize, layout="constrained")
    figure._repr_png_ = functools.partial(_png, figure)
    return figure, figure.subplots(**options)


def _png(figure: Any) -> bytes:
    """Return a matplotlib Figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, **PNG | {"dpi": 80})
    return file.getvalue()
