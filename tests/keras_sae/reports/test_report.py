"""The page of a model as text: what stands on it, for whom, and whatever names are."""

import re
import sys

import keras
import numpy as np
import pytest

import keras_sae
from keras_sae import extras
from keras_sae.data import datasets
from keras_sae.errors import InputError, MissingPackageError
from keras_sae.reports import layers, report
from tests.keras_sae.conftest import autoencoder, raises, randomise, two_layers
from tests.keras_sae.reports.conftest import LABELS, ROWS
from tests.keras_sae.reports.pages import Page

pytestmark = pytest.mark.usefixtures("compiled")  # many evaluations of one function

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "a $ & \\ ^ _ ` b",
    "two\nlines",
    "{{ 7 * 7 }}",
    "\u2028'\"",
    "<!--",
]


@pytest.fixture(scope="module")
def digits():
    return keras_sae.sample_digits()


@pytest.fixture(scope="module")
def pictures(digits):
    """The page of an autoencoder on digits, with labels and curves."""
    ae = keras_sae.SparseAutoencoder(9)
    history = keras_sae.fit(ae, digits.x_train[:200], iterations=5, verbose=0)
    return Page(keras_sae.report(ae, digits.x_test, digits.y_test, history=history).html)


def check(page):
    """Check what holds for every page: nothing from elsewhere, and a name for whatever is no text."""
    addresses = [v for e in page.elements for k, v in e["attributes"].items() if k in ("src", "href")]
    assert [address for address in addresses if not address.startswith(("#", "data:"))] == []
    assert [
        e for e in page.elements if e["attributes"].get("role") == "img" and not e["attributes"]["aria-label"]
    ] == []
    assert all(any(c["within"][-1] == "table" for c in page.all("caption")) for _ in page.all("table"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(e["attributes"].get("scope") for e in page.all("th"))
    assert all(e["attributes"]["type"] == "button" for e in page.all("button"))
    assert page.elements[0]["attributes"] == {"lang": "en"}
    assert any(e["attributes"].get("name") == "viewport" for e in page.all("meta"))
    assert not [e for e in page.elements if any(name.startswith("on") for name in e["attributes"])]


def test_a_page_of_pictures(pictures):
    check(pictures)
    units = [e["attributes"] for e in pictures.all("button") if "data-unit" in e["attributes"]]
    assert [unit["title"] for unit in units] == [f"Unit {i}" for i in range(9)]
    (layer,) = pictures.data["layers"]
    assert (layer["name"], layer["looks"], layer["adds"]) == ("features", "looks-0", "adds-0")
    assert all(len(unit["top"]) == 8 and len(unit["counts"]) == 24 for unit in layer["units"])
    assert pictures.data["classes"] == [str(i) for i in range(10)]
    images = [e["attributes"]["aria-label"] for e in pictures.all("span") if e["attributes"].get("role") == "img"]
    assert len(images) == 32  # 16 rows, and what comes back
    assert re.fullmatch(r"row 0, \d", images[0])
    assert images[16] == "row 0 as given back by features"
    assert [chart["title"] for chart in pictures.data["charts"]["curves"]] == ["training"]
    titles = [e["text"] for e in pictures.all("h2")]
    assert titles == [
        "What each unit detects", "What comes back", "How sparse the units are", "How training went",
        "How it was made", "Use it",
    ]  # fmt: skip


def test_every_sprite_that_is_named_is_there(pictures):
    (style,) = pictures.all("style")
    named = set(re.findall(r"\.([a-z]+(?:-\d)?)\{background-image", style["text"]))
    assert named == {*pictures.data["sprites"]} == {"examples", "looks-0", "adds-0", "rebuilt"}


def test_the_numbers_of_a_page_by_hand(by_hand):
    page = Page(keras_sae.report(by_hand, ROWS, LABELS, feature_names=["width", "height"]).html)
    check(page)
    unit = page.data["layers"][0]["units"][0]
    assert page.data["rows"] == [0, 1, 2, 3]
    assert unit["top"] == [[1, 2.0], [0, 1.0]]
    assert unit["middling"] == []  # these rows are shown already
    assert unit["means"] == [[0, 1.5], [1, 0.0]]
    assert unit["columns"] == [
        {"index": 0, "name": "width", "share": 1.0, "all": 0.75, "top": 1.5},
        {"index": 1, "name": "height", "share": 0.0, "all": 0.25, "top": 0.0},
    ]
    assert unit["values"]["top"] == [[2.0, 0.0], [1.0, 0.0]]
    assert "100.0%of the variance of these rows" in page.all("ul")[0]["text"].replace("\n", "")
    assert [cell["text"] for cell in page.all("td") if "→" in cell["text"]][2:4] == ["2 → 2", "0 → 0"]


def test_the_page_of_a_classifier(x, labels):
    stack = two_layers()
    classifier = randomise(stack.classifier(3))
    page = Page(keras_sae.report(classifier, x, labels, class_names=["one", "two", "three"]).html)
    check(page)
    guesses = np.asarray(classifier(x)).argmax(axis=1)
    cells = [int(e["text"]) for e in page.all("td") if "--share" in e["attributes"].get("style", "")]
    counts = np.array([[int(((labels == i) & (guesses == j)).sum()) for j in range(3)] for i in range(3)])
    assert cells == counts.ravel().tolist()
    assert f"{np.trace(counts) / 23:.1%}" in page.all("ul")[0]["text"]
    assert "What comes back" not in [e["text"] for e in page.all("h2")]
    assert len(page.data["layers"][0]["units"]) == 3


@pytest.mark.parametrize("activation", ["relu", "tanh", "linear"])
@pytest.mark.parametrize("sparsity", [keras.regularizers.L1(0.1), None])
def test_units_without_bounds_have_a_page(activation, sparsity, x):
    page = Page(keras_sae.report(autoencoder(sparsity=sparsity, activation=activation), x).html)
    check(page)
    unit = page.data["layers"][0]["units"][0]
    assert np.isfinite(unit["edges"]).all()


def test_hostile_names_stay_text(x):
    stack = two_layers()
    y = np.array(HOSTILE)[np.arange(23) % 6]
    history = {name: {"loss": [3.0, 2.0, 1.0]} for name in HOSTILE}
    page = Page(keras_sae.report(stack, x, y, feature_names=HOSTILE, history=history).html)
    check(page)
    assert page.all("img") == []
    assert {column["name"] for column in page.data["layers"][0]["units"][0]["columns"]} == {*HOSTILE}
    assert page.data["classes"] == sorted(HOSTILE)
    assert {chart["title"] for chart in page.data["charts"]["curves"]} == {*HOSTILE}
    assert "49" not in {e["text"] for e in page.all("th")}


def test_rows_are_pictures_if_they_are_squares_without_names(digits):
    ae = keras_sae.SparseAutoencoder(4)
    ae.build((None, 784))
    assert "examples" in Page(keras_sae.report(ae, digits.x_test[:20]).html).data["sprites"]
    names = [f"pixel {i}" for i in range(784)]
    assert Page(keras_sae.report(ae, digits.x_test[:20], feature_names=names).html).data["sprites"] == {}
    assert report._square(49) is None  # too few
    assert report._square(65) is None


def test_a_shape_and_names_that_do_not_fit(x):
    with raises(InputError, "Expected a shape of 6 pixels. Received: (2, 2)"):
        keras_sae.report(autoencoder(), x, shape=(2, 2))
    with raises(InputError, "Expected 6 names of columns, as the rows have. Received: 2"):
        keras_sae.report(autoencoder(), x, feature_names=["a", "b"])


def test_colour(x):
    ae = keras_sae.SparseAutoencoder(3)
    ae.build((None, 12))
    page = Page(keras_sae.report(ae, np.random.default_rng(0).uniform(size=(9, 12)), shape=(2, 2, 3)).html)
    check(page)
    assert "bright and small where it is dark" in page.all("main")[0]["text"].replace("\n", " ")


def test_a_report_is_a_file_and_shows_in_a_notebook(x, tmp_path):
    made = keras_sae.report(autoencoder(), x, path=tmp_path / "a.html")
    made.save(tmp_path / "b.html")
    assert (tmp_path / "a.html").read_text() == (tmp_path / "b.html").read_text() == made.html
    frame = made._repr_html_()
    assert frame.startswith('<iframe title="Report of a trained model"')
    assert frame.count("<") == 2  # all else is escaped


def test_missing_packages_are_named_with_what_installs_them(x, monkeypatch):
    for name, package in {"jinja2": "jinja2", "vl_convert": "vl-convert-python", "PIL": "pillow"}.items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with raises(
                MissingPackageError,
                f"Expected {package} to write a report. Received: Python without it. pip install 'keras-sae[report]'",
            ):
                keras_sae.report(autoencoder(), x)
    assert set(extras._OF_REPORTS) <= set(extras._EXTRAS)


def test_the_page_of_the_default_run_is_small(monkeypatch):
    """Of 784-200-200 and 1,000 digits, as of train.mnist, with noise for tiles, which PNG keeps worst."""
    noise = np.random.default_rng(0).standard_normal((784, 200))
    monkeypatch.setattr(layers, "maximal_inputs", lambda encoder: noise)
    images = datasets.load_images("mnist", "embedded")
    stack = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(200), keras_sae.SparseAutoencoder(200)])
    stack.build((None, 784))
    made = keras_sae.report(stack, images.x_test, images.y_test)
    assert len(made.html.encode()) < 5e6
    assert [len(layer["units"]) for layer in Page(made.html).data["layers"]] == [200, 200]
