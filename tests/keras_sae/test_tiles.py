"""Tiles in one PNG, and where they are in it."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from keras_sae import tiles


def pixels(sprite):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(sprite.uri.partition(",")[2]))))


@pytest.mark.parametrize("depth", [(), (3,)])
def test_tiles_stand_in_rows(depth):
    made = np.random.default_rng(0).integers(0, 255, (5, 2, 4, *depth), "uint8")
    sprite = tiles.Sprite("name", made)
    image = pixels(sprite)
    assert (sprite.columns, sprite.rows) == (3, 2)
    assert image.shape == (4, 12, *depth)
    for number, tile in enumerate(made):
        row, column = divmod(number, 3)
        np.testing.assert_array_equal(image[2 * row : 2 * row + 2, 4 * column : 4 * column + 4], tile)
    assert not image[2:, 8:].any()
    assert [sprite.place(number) for number in (0, 1, 2, 4)] == ["0% 0%", "50% 0%", "100% 0%", "50% 100%"]
    assert sprite.css().startswith(".name{background-image:url(data:image/png;base64,")
    assert "background-size:300% 200%;--ratio:2}" in sprite.css()


def test_a_single_tile():
    assert tiles.Sprite("name", np.zeros((1, 2, 2), "uint8")).place(0) == "0% 0%"


def test_large_pictures_are_made_smaller_by_means(monkeypatch):
    made = np.random.default_rng(0).integers(0, 255, (4, 8, 8), "uint8")
    monkeypatch.setattr(tiles, "LARGEST", len(tiles.as_png(tiles._joined(made, 2, 2), optimize=True)) - 1)
    image = pixels(tiles.Sprite("name", made))
    assert image.shape == (8, 8)
    assert image[0, 0] == round(made[0, :2, :2].mean())


def test_shades():
    rows = np.array([[0, 1, -2, 0.5], [0, 0, 0, 0]])
    np.testing.assert_array_equal(tiles.contrasted(rows, (2, 2))[0], [[128, 191], [0, 159]])
    np.testing.assert_array_equal(tiles.contrasted(rows, (2, 2))[1], 128)
    np.testing.assert_array_equal(tiles.exposed(rows[:1], (2, 2), (0, 1))[0], [[0, 255], [0, 128]])
    assert tiles.ends_of(np.array([[0.2, 0.9]])) == (0, 1)
    low, high = tiles.ends_of(np.arange(1001)[None])
    assert (low, high) == (5, 995)
