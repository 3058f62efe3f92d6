"""Pictures: learned features as tiles, reconstructions, training curves."""

import math

import keras
import numpy as np


def display_network(weights, shape=None, columns=None, padding=1):
    """Learned features as one grey tile image, each tile scaled to its own contrast.

    Tile j is column j of `weights`, which is also, divided by its norm, the input of norm 1 that activates unit j
    most. Each is shifted to mean 0 and divided by its largest absolute value, so 0 is mid-grey, 1 white, -1 black.

    Args:
        weights: (features, units), an encoder kernel; or the transpose of a decoder kernel or of data (rows as tiles).
        shape: (height, width) of a tile; the square root of the number of features by default.
        columns: tiles in a row; near a square picture by default.
        padding: black pixels between tiles.

    Returns:
        A uint8 array (rows * (height + padding) + padding, columns * (width + padding) + padding).

    Raises:
        ValueError: `shape` does not hold the number of features.

    Reference: UFLDL, "Visualizing a Trained Autoencoder", and the exercise's display_network.m.
    """
    weights = _array(weights)
    if weights.ndim != 2:
        raise ValueError(f"Expected weights of shape (features, units). Received shape: {weights.shape}")
    features, units = weights.shape
    height, width = shape or (math.isqrt(features), math.isqrt(features))
    if height * width != features:
        raise ValueError(
            f"A tile of {height} x {width} pixels does not hold {features} features. Pass shape=(height, width) with "
            f"height * width = {features}."
        )
    centred = weights - weights.mean(axis=0)
    largest = np.abs(centred).max(axis=0)
    tiles = (centred / np.where(largest > 0, largest, 1)).T.reshape(units, height, width)
    return tile_image(np.round(127.5 + 127.5 * tiles), columns, padding)


def tile_image(tiles, columns=None, padding=1):
    """Pictures of values 0 to 255, (number, height, width), in rows on a black ground; a uint8 array."""
    number, height, width = tiles.shape
    columns = columns or _columns(number)
    rows = math.ceil(number / columns)
    image = np.zeros((rows * (height + padding) + padding, columns * (width + padding) + padding), dtype="uint8")
    for index, tile in enumerate(tiles):
        top = padding + index // columns * (height + padding)
        left = padding + index % columns * (width + padding)
        image[top : top + height, left : left + width] = tile
    return image


def _columns(number):
    """Columns that fill every row in a picture at most four times as wide as high, or else near a square."""
    square = math.ceil(math.sqrt(number))
    return next((columns for columns in range(square, 2 * square + 1) if number % columns == 0), square)


def save_features(path, weights, title, shape=None):
    """Write the tiles of `display_network` with a title, as PNG."""
    image = display_network(weights, shape)
    figure, axes = _figure(figsize=(9, 0.4 + 9 * image.shape[0] / image.shape[1]))
    axes.imshow(image, cmap="gray", interpolation="nearest", vmin=0, vmax=255)
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def save_reconstructions(path, rows, title, shape):
    """Write rows of pictures one above the other, as PNG.

    rows: name -> (examples, features) in [0, 1], the same examples in each row.
    """
    pictures = {name: np.clip(_array(x), 0, 1).reshape(-1, *shape) * 255 for name, x in rows.items()}
    columns = len(next(iter(pictures.values())))
    image = tile_image(np.concatenate(list(pictures.values())), columns)
    figure, axes = _figure(figsize=(9, 0.4 + 9 * image.shape[0] / image.shape[1]))
    axes.imshow(image, cmap="gray", interpolation="nearest", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([(i + 0.5) * (shape[0] + 1) for i in range(len(pictures))], list(pictures))
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def save_curves(path, histories, xlabel):
    """Write the objective against the iteration, one panel for each stage, as PNG.

    histories: name -> the `history` dict of a keras History; "loss" is drawn, with its terms where it has them.
    """
    figure, axes = _figure(figsize=(3.4 * len(histories), 3.2), ncols=len(histories), squeeze=False)
    terms = {"loss": "objective", "error": "error", "weight_decay": "weight decay", "sparsity": "sparsity"}
    for panel, (name, history) in zip(axes[0], histories.items(), strict=True):
        for key, label in terms.items():
            if any(history.get(key, [])):
                iterations = np.arange(1, len(history[key]) + 1)
                panel.plot(iterations, history[key], label=label, linewidth=2 if key == "loss" else 1)
        panel.set_yscale("log")
        panel.set_title(name, fontsize=10)
        panel.set_xlabel(xlabel)
        panel.grid(alpha=0.3)
    lines, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)
    figure.savefig(path, dpi=150)


def _array(values):
    """A float64 array of an array, a tensor or a variable, on any device."""
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(values)).astype("float64")


def _figure(**options):
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: pip install 'keras-sae[train]'") from error
    size = options.pop("figsize")
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(**options)
