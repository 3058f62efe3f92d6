"""Figures of single experiments: what units see in tables, hidden codes, what labels are worth."""

import numpy as np

from keras_sae.visualization import as_float64, new_figure


def use_of_units(activations, decoder):
    """Return how much each unit does for the reconstruction: its mean activation times the norm of its decoder row."""
    return as_float64(activations).mean(axis=0) * np.linalg.norm(as_float64(decoder), axis=1)


def save_columns(path, weights, use, names=(), units=16, columns=6):
    """Write the columns of a table that units look for, the largest weights by name and sign, as PNG.

    weights: (features, units), of scaled columns.  use: of each unit; the most used ones are shown, in this order.
    """
    weights = as_float64(weights)
    names = names or [f"number {i}" for i in range(len(weights))]
    order = np.argsort(-use, kind="stable")[:units]
    across = min(4, len(order))
    down = -(-len(order) // across)
    figure, axes = new_figure(figsize=(3.4 * across, 0.4 + 1.7 * down), nrows=down, ncols=across, squeeze=False)
    largest = 1.1 * np.abs(weights[:, order]).max()
    for panel in axes.flat[len(order) :]:
        panel.set_axis_off()
    for panel, unit in zip(axes.flat, order, strict=False):
        top = np.argsort(-np.abs(weights[:, unit]), kind="stable")[:columns]
        values = weights[top, unit]
        panel.barh(range(len(top)), values, color=np.where(values > 0, "tab:red", "tab:blue"))
        panel.set_yticks(range(len(top)), [shortened(names[i]) for i in top], fontsize=7, parse_math=False)
        panel.invert_yaxis()
        panel.set_xlim(-largest, largest)
        panel.axvline(0, color="black", linewidth=0.5)
        panel.tick_params(axis="x", labelsize=7)
        panel.set_title(f"unit {unit}", fontsize=8)
    figure.suptitle(
        f"What units of layer 1 look for: the columns of largest weight. {len(order)} of {weights.shape[1]} units, the "
        "most used first",
        fontsize=10,
    )
    figure.savefig(path, dpi=150)


def shortened(name, length=24):
    return name if len(name) <= length else f"{name[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


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


def _focus(panel, l0, values):
    """Let a panel show the upper values well: lines to those far below the lowest quarter leave it at the bottom."""
    quarter = np.quantile(values, 0.25)
    bottom = min(quarter, max(values.min(), 2 * quarter - values.max()))
    shown = values >= bottom
    margin = 0.05 * (values.max() - bottom) or 1e-3
    panel.set_ylim(bottom - margin, values.max() + margin)
    panel.set_xlim(l0[shown].min() / 1.15, l0[shown].max() * 1.15)


def save_comparison(path, rows, title):
    """Write what codes keep of the data and of its classes against their active units, a line a method and width, PNG.

    rows: (method, units, setting, means by name, spreads over seeds by name); their names are "l0",
        "explained_variance" and "accuracy".
    """
    figure, panels = new_figure(figsize=(11, 5.2), ncols=2)
    labels = {
        "explained_variance": "variance explained, held-out rows",
        "accuracy": "accuracy of a softmax, test rows (%)",
    }
    widths = {units for _, units, *_ in rows}
    for panel, (name, label) in zip(panels, labels.items(), strict=True):
        scale = 100 if name == "accuracy" else 1
        for number, (method, units) in enumerate(dict.fromkeys(row[:2] for row in rows)):
            points = sorted(
                (means["l0"], means[name], spreads[name])
                for *found, _, means, spreads in rows
                if found == [method, units]
            )
            l0, values, spread = np.transpose(points)
            style = {
                "marker": "osD^v<>P*"[number % 9],
                "capsize": 2,
                "linewidth": 1.2,
                "label": method.replace("_", " ") + (f", {units:,} units" if len(widths) > 1 else ""),
            }
            panel.errorbar(l0, scale * values, scale * spread, **style)
        panel.set_xscale("log", base=2)
        _focus(panel, *np.transpose([(means["l0"], scale * means[name]) for *_, means, _ in rows]))
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.set_xlabel("active units of an example (L0)")
        panel.set_ylabel(label)
        panel.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
