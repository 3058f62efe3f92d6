"""Figures: what is drawn where."""

import numpy as np
import pytest

from train import figures


@pytest.fixture
def panels(monkeypatch):
    """What `new_figure` gave last: its axes."""
    found = {}
    new_figure = figures.new_figure

    def remembered(*arguments, **options):
        figure, found["axes"] = new_figure(*arguments, **options)
        return figure, found["axes"]

    monkeypatch.setattr(figures, "new_figure", remembered)
    return found


def test_a_unit_is_used_as_much_as_it_is_active_and_its_decoder_is_long():
    activations, decoder = [[0.1, 0.4], [0.3, 0.0]], [[3.0, 4.0], [0.0, 10.0]]
    np.testing.assert_allclose(figures.use_of_units(activations, decoder), [0.2 * 5, 0.2 * 10])


def test_the_largest_weights_of_the_most_used_units_are_drawn_by_name_and_sign(panels, tmp_path):
    weights = np.array([[0.1, 5.0, 0.0], [-3.0, 1.0, 0.0], [2.0, -6.0, 1.0]])
    names = ["a", "b" * 30, "c"]
    figures.save_columns(tmp_path / "x.png", weights, np.array([1.0, 3.0, 2.0]), names, units=2, columns=2)
    first, second = panels["axes"].flat
    assert [panel.get_title() for panel in (first, second)] == ["unit 1", "unit 2"]
    assert [text.get_text() for text in first.get_yticklabels()] == ["c", "a"]
    assert [bar.get_width() for bar in first.patches] == [-6, 5]
    assert second.get_yticklabels()[0].get_text() == "c"
    assert (tmp_path / "x.png").stat().st_size > 1000
    assert figures.shortened(names[1]) == "b" * 23 + "\N{HORIZONTAL ELLIPSIS}"


def test_columns_without_names_are_numbered(panels, tmp_path):
    figures.save_columns(tmp_path / "x.png", np.eye(3), np.arange(3.0))
    assert panels["axes"].flat[0].get_yticklabels()[0].get_text() == "number 2"


def test_a_comparison_shows_the_upper_values_and_lets_lines_to_the_lowest_leave_it(panels, tmp_path):
    points = [("top_k", 8, 0.8), ("top_k", 32, 0.9), ("l1", 10, 0.7), ("l1", 40, 0.8), ("kl", 1, -5.0)]
    names = ("l0", "explained_variance", "accuracy")
    rows = [
        (method, 64, 8, dict(zip(names, (l0, value, value), strict=True)), dict.fromkeys(names, 0.0))
        for method, l0, value in points
    ]
    figures.save_comparison(tmp_path / "x.png", rows, "Methods")
    explained, accuracy = panels["axes"]
    assert 0.4 < explained.get_ylim()[0] < 0.7 < 0.9 < explained.get_ylim()[1]
    assert 1 < explained.get_xlim()[0] < 8 < 40 < explained.get_xlim()[1]
    assert 40 < accuracy.get_ylim()[0] < 70 < 90 < accuracy.get_ylim()[1]  # per cent
    assert [text.get_text() for text in explained.figure.legends[0].get_texts()] == ["top k", "l1", "kl"]
