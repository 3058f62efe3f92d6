"""The pages in a real Chromium: they need no network, and answer mouse and keyboard, on screens of every kind."""

import contextlib

import numpy as np
import pytest

import keras_sae
from keras_sae.reports import comparison
from tests.browser import Browser, needs_chromium
from tests.keras_sae.conftest import autoencoder
from tests.keras_sae.reports.test_report import HOSTILE

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def browser(folder):
    with contextlib.closing(Browser(folder / "browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pictures(folder):
    """The path of a page on a stack of two layers for digits, with labels and curves."""
    digits = keras_sae.sample_digits()
    stack = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(12), keras_sae.SparseAutoencoder(5)])
    histories = stack.pretrain(digits.x_train[:200], iterations=20, verbose=0)
    history = {f"layer {number}": history.history for number, history in enumerate(histories, 1)}
    path = folder / "pictures.html"
    keras_sae.report(stack, digits.x_test, digits.y_test, path, history=history)
    return path


def opened(browser, path, charts, width=1400, scheme="light", part=""):
    browser.open("about:blank")
    browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    media = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.ask("Emulation.setEmulatedMedia", features=media)
    browser.ask("Page.navigate", url=f"file://{path}{part}")
    browser.until(lambda: browser.value("document.querySelectorAll('.chart svg').length") == charts)
    return browser


def press(browser, key):
    for kind in ("rawKeyDown", "keyUp"):
        browser.ask("Input.dispatchKeyEvent", type=kind, key=key)


def test_a_click_shows_what_a_unit_detects(browser, pictures):
    opened(browser, pictures, 6)  # two of sparsity, two of training, two of the unit
    assert browser.text("#unit-name") == "Unit 0 of layer 1"
    browser.click("#grid-0 button:nth-child(8)")
    assert browser.text("#unit-name") == "Unit 7 of layer 1"
    assert "training aims at rho = 0.1" in browser.text("#unit-words")
    assert browser.value("document.querySelector('#unit .tiles').childElementCount") == 8
    assert browser.value("[...document.querySelectorAll('#unit [role=img]')].every(e => e.ariaLabel)")
    assert browser.value("location.hash") == "#layer-1-unit-7"
    assert browser.value("document.querySelectorAll('[data-unit][aria-pressed=true]').length") == 1
    browser.until(lambda: browser.value("document.querySelectorAll('#unit .chart svg').length") == 2)


def test_the_keyboard_moves_between_units(browser, pictures):
    opened(browser, pictures, 6)
    browser.value("document.querySelector('#grid-0 button').focus()")
    for key, label in [
        ("ArrowRight", "Unit 1"),
        ("ArrowRight", "Unit 2"),
        ("End", "Unit 11"),
        ("ArrowLeft", "Unit 10"),
    ]:
        press(browser, key)
        assert browser.value("document.activeElement.title") == label
    assert browser.text("#unit-name") == "Unit 0 of layer 1"  # until it is chosen
    browser.value("document.activeElement.click()")
    assert browser.text("#unit-name") == "Unit 10 of layer 1"
    browser.click("[data-step='1']")
    browser.click("[data-step='1']")
    assert browser.text("#unit-name") == "Unit 0 of layer 1"  # after the last comes the first
    assert browser.value("document.activeElement.dataset.step") == "1"


def test_the_other_layer_and_the_units_nearby(browser, pictures):
    opened(browser, pictures, 6)
    browser.click("[data-layer='1']")
    assert browser.text("#unit-name") == "Unit 0 of layer 2"
    assert not browser.seen("#grid-0")
    assert browser.seen("#grid-1")
    label = browser.value("document.querySelector('#unit .tiles button').ariaLabel")
    browser.value("document.querySelector('#unit .tiles button').click()")
    assert browser.text("#unit-name") == f"{label.partition(',')[0]} of layer 2"
    assert browser.value("document.activeElement.id") == "unit"


def test_an_address_names_a_unit(browser, pictures):
    opened(browser, pictures, 6, part="#layer-2-unit-3")
    assert browser.text("#unit-name") == "Unit 3 of layer 2"


def test_nothing_is_asked_of_a_network(browser, pictures):
    opened(browser, pictures, 6)
    asked = browser.value("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in asked if not name.startswith("data:")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_screens_of_every_kind(width, scheme, browser, pictures):
    opened(browser, pictures, 6, width, scheme)
    assert browser.value("document.documentElement.scrollWidth") <= width
    style = "getComputedStyle(document.body)"
    ground, ink = (
        np.mean([int(part) for part in browser.value(f"{style}.{name}.match(/\\d+/g)")])
        for name in ("backgroundColor", "color")
    )
    assert (ground > 240 and ink < 50) if scheme == "light" else (ground < 40 and ink > 220)
    letters = browser.value("getComputedStyle(document.querySelector('.chart svg text')).fill")
    assert letters == browser.value(f"{style}.color")


def test_hostile_names_are_shown_as_they_are(browser, folder):
    x = np.random.default_rng(0).uniform(size=(23, 6))
    y = np.array(HOSTILE)[np.arange(23) % 6]
    keras_sae.report(autoencoder(), x, y, folder / "hostile.html", feature_names=HOSTILE)
    opened(browser, folder / "hostile.html", 3)
    assert browser.value("document.images.length") == 0
    shown = browser.value("[...document.querySelectorAll('#unit th[scope=row]')].map(e => e.textContent)")
    assert {*HOSTILE} <= {*shown}


def test_a_page_within_a_notebook(browser, folder):
    made = keras_sae.report(autoencoder(), np.random.default_rng(0).uniform(size=(9, 6)))
    (folder / "notebook.html").write_text(f"<!doctype html><body>{made._repr_html_()}")
    opened(browser, folder / "notebook.html", 0)
    within = "document.querySelector('iframe')?.contentDocument?"
    browser.until(lambda: browser.value(f"{within}.querySelectorAll('.chart svg').length") == 2)
    browser.value(f"{within}.querySelector('#grid-0 button:nth-child(3)').click()")
    assert browser.value(f"{within}.querySelector('#unit-name').textContent") == "Unit 2 of features"


def test_a_comparison(browser, folder):
    comparison.write(folder, ["one", "two"], [], [("objective", [2.0, 1.0]), ("seconds_total", [3.0, 4])])
    opened(browser, folder / "comparison.html", 1)
    labels = "[...document.querySelectorAll('.chart svg path[aria-label]')].map(e => e.ariaLabel)"
    assert len(browser.value(f"{labels}.filter(label => label.includes('run: '))")) == 4
