import sys

import keras
import numpy as np
import pytest

from keras_sae import display_network, visualization
from tests.keras_sae.conftest import raises


def test_two_tiles_by_hand():
    # column 1, mean 0: scaled by 2 to [1, -1, 0.5, -0.5]; 127.5 + 127.5 t, rounded to even: 255, 0, 191, 64
    # column 2 is 10 + [3, -1, -1, -1]: mean 10, scaled by 3 to [1, -1/3, -1/3, -1/3]: 255, 85, 85, 85
    weights = np.array([[2.0, 13.0], [-2.0, 9.0], [1.0, 9.0], [-1.0, 9.0]])
    expected = [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 255, 0, 0, 255, 85, 0],
        [0, 191, 64, 0, 85, 85, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    image = display_network(weights)
    assert image.dtype == "uint8"
    np.testing.assert_array_equal(image, expected)


def test_constant_tile_is_mid_grey():
    np.testing.assert_array_equal(display_network(np.full((4, 1), 7.0), padding=0), np.full((2, 2), 128))


def test_shape_columns_and_padding():
    weights = np.random.default_rng(0).standard_normal((6, 5))
    image = display_network(weights, shape=(2, 3), columns=2, padding=2)
    assert image.shape == (3 * (2 + 2) + 2, 2 * (3 + 2) + 2)
    for unit, (top, left) in enumerate([(2, 2), (2, 7), (6, 2), (6, 7), (10, 2)]):
        tile = image[top : top + 2, left : left + 3]
        centred = weights[:, unit] - weights[:, unit].mean()
        np.testing.assert_allclose(tile.ravel(), 127.5 + 127.5 * centred / np.abs(centred).max(), atol=0.51)
    assert not image[10:12, 7:10].any()  # the sixth place is empty


@pytest.mark.parametrize("units", [1, 4, 5, 12, 25, 196])
def test_near_square_by_default(units):
    height, width = display_network(np.eye(4, units), padding=0).shape
    tiles = (height // 2) * (width // 2)
    assert units <= tiles < units + width // 2  # no row is empty
    assert width <= 4 * height or units == 5


def test_takes_a_variable():
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    np.testing.assert_array_equal(display_network(keras.Variable(weights)), display_network(weights))


def test_tile_image_by_hand():
    tiles = np.array([[[1, 2]], [[3, 4]], [[5, 6]]])
    image = visualization.tile_image(tiles, columns=2, padding=1)
    expected = [[0, 0, 0, 0, 0, 0, 0], [0, 1, 2, 0, 3, 4, 0], [0] * 7, [0, 5, 6, 0, 0, 0, 0], [0] * 7]
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize(
    ("features", "shape", "named"), [(6, None, "2 x 2"), (6, (2, 2), "2 x 2"), (4, (3, 2), "3 x 2")]
)
def test_tile_that_does_not_hold_the_features(features, shape, named):
    cure = f"Pass shape=(height, width) with height * width = {features}"
    with raises(ValueError, f"A tile of {named} pixels does not hold {features} features", cure):
        display_network(np.zeros((features, 3)), shape)


def test_weights_of_another_rank():
    with raises(ValueError, "Expected weights of shape (features, units)", "Received shape: (4,)"):
        display_network(np.zeros(4))


HISTORY = {"loss": [3.0, 2.0, 1.0], "reconstruction": [1.0, 0.5, 0.25], "sparsity": [0.0, 0.0, 0.0]}
PICTURES = {
    "features": lambda path: visualization.save_features(path, np.eye(16, 5), "Features"),
    "reconstructions": lambda path: visualization.save_reconstructions(
        path, {"x": np.eye(3, 6), "xhat": 2 - np.eye(3, 6)}, "Rows", (2, 3)
    ),
    "curves": lambda path: visualization.save_curves(path, {"one": HISTORY, "two": {"loss": [1.0]}}, "iteration"),
}


@pytest.mark.parametrize("picture", PICTURES)
def test_pictures_are_written_and_can_be_opened(picture, tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    PICTURES[picture](tmp_path / "own.png")
    with image_module.open(tmp_path / "own.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 100
        pixels = np.asarray(image.convert("L"))
    assert pixels.min() < 50 < 200 < pixels.max()  # black on white: something is drawn


def test_a_title_is_no_formula(tmp_path):
    """Names of files and classes may hold dollar signs, and matplotlib refuses what is no formula."""
    visualization.save_features(tmp_path / "own.png", np.eye(16, 5), r"$\no{formula$")
    assert (tmp_path / "own.png").stat().st_size > 0


@pytest.mark.parametrize("picture", PICTURES)
def test_without_matplotlib(picture, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with raises(
        ImportError,
        "Expected matplotlib to draw pictures with. Received: Python without it. pip install 'keras-sae[train]'",
    ):
        PICTURES[picture](tmp_path / "own.png")


@pytest.mark.parametrize("name", ["features", "reconstructions", "rho_hat", "history", "histories"])
def test_figures_are_returned_and_show_in_notebooks(name):
    import io
    import pickle

    from PIL import Image

    history = keras.callbacks.History()
    history.history = HISTORY | {"val_loss": [4.0, 3.0, 2.0]}
    figure = {
        "features": lambda: visualization.plot_features(np.eye(16, 5), "Own title"),
        "reconstructions": lambda: visualization.plot_reconstructions({"a": np.eye(3, 4), "b": np.eye(3, 4)}),
        "rho_hat": lambda: visualization.plot_rho_hat(np.linspace(0, 0.2, 50), 0.1),
        "history": lambda: visualization.plot_history(history),
        "histories": lambda: visualization.plot_history({"one": HISTORY, "two": HISTORY}, "epoch"),
    }[name]()
    with Image.open(io.BytesIO(figure._repr_png_())) as image:
        assert min(image.size) > 50
    assert pickle.loads(pickle.dumps(figure)).axes
    texts = {
        "features": [figure.axes[0].get_title()],
        "reconstructions": [label.get_text() for label in figure.axes[0].get_yticklabels()],
        "rho_hat": [figure.axes[0].get_ylabel()],
        "history": [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else [],
        "histories": [axes.get_title() for axes in figure.axes],
    }[name]
    assert texts == {
        "features": ["Own title"], "reconstructions": ["a", "b"], "rho_hat": ["units"],
        "history": ["objective", "held out", "loss on the data"], "histories": ["one", "two"],
    }[name]  # fmt: skip


def test_pictures_of_another_shape_are_refused():
    with raises(ValueError, "A tile of 2 x 2 pixels does not hold 6 features"):
        visualization.plot_reconstructions({"x": np.eye(3, 6)})
