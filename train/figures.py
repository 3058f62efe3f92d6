"""Figures of single experiments: weights of tables, hidden codes, what labels are worth."""

import numpy as np

from keras_sae.visualization import as_float64, new_figure


def save_weights(path, weights, title, names=()):
    """Write the weights of units (columns) from the features of a table (rows, with their names) as colours, PNG."""
    weights = as_float64(weights)
    size = (min(14, 3 + 0.12 * weights.shape[1]), min(12, max(3, 1.5 + 0.2 * weights.shape[0])))
    figure, axes = new_figure(figsize=size)
    largest = np.abs(weights).max()
    image = axes.imshow(weights, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest")
    if 0 < len(names) <= 50:
        axes.set_yticks(range(len(names)), names, fontsize=8)
    else:
        axes.set_ylabel("input feature")
    axes.set_xlabel("unit")
    axes.set_title(title, fontsize=10, parse_math=False)
    figure.colorbar(image, label="weight")
    figure.savefig(path, dpi=150)


def save_accuracies(path, numbers, accuracies, unlabelled):
    """Write accuracy against the number of labels, a line for each way of training, as PNG.

    accuracies: name -> test accuracies, one for each of `numbers`.
    """
    figure, axes = new_figure(figsize=(6, 4))
    for name, values in accuracies.items():
        axes.plot(numbers, [100 * value for value in values], marker="o", label=name)
    axes.set_xscale("log")
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axes.minorticks_off()
    axes.set_xlabel("labelled examples")
    axes.set_ylabel("test accuracy, %")
    axes.set_title(f"Pretrained on {unlabelled:,} examples without labels, and not pretrained (scratch)", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def save_codes(path, codes):
    """Write the hidden codes of the encoder problem, (inputs, units) in [0, 1], as a table of grey squares, PNG."""
    figure, axes = new_figure(figsize=(1.5 + 0.6 * codes.shape[1], 1 + 0.4 * codes.shape[0]))
    axes.imshow(codes, cmap="gray", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(codes):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.5 else "white")
    axes.set_xticks(range(codes.shape[1]), [f"unit {j + 1}" for j in range(codes.shape[1])])
    axes.set_yticks(range(codes.shape[0]), [f"input {i + 1}" for i in range(codes.shape[0])])
    axes.set_title("Hidden codes", fontsize=10)
    figure.savefig(path, dpi=150)
