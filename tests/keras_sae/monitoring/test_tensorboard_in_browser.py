"""What TensorBoard itself shows, in a real Chromium, of what the callback wrote."""

import contextlib
import json
import re
import subprocess
import sys

import pytest

import keras_sae
from keras_sae.callbacks import TensorBoard
from tests.browser import Browser, needs_chromium
from tests.keras_sae.events import Events

STAGES = ("layer_1", "head")
pytestmark = [needs_chromium, pytest.mark.slow]
# The page is made of elements that hide theirs, and the projector is a page in it.
DEEP = """
function* deep(root) {
  for (const element of root.querySelectorAll("*")) {
    yield element;
    if (element.shadowRoot) yield* deep(element.shadowRoot);
    if (element.contentDocument) yield* deep(element.contentDocument);
  }
}
const own = element => [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data).join("");
"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """The logs of an autoencoder and of the head of a classifier, side by side."""
    folder, digits = tmp_path_factory.mktemp("logs"), keras_sae.sample_digits()
    x, y = digits.x_train[:200], digits.y_train[:200]
    stack = keras_sae.StackedAutoencoder([keras_sae.SparseAutoencoder(16, name="layer_1")])
    stack.build((None, 784))
    options = {"iterations": 12, "verbose": 0}
    board = TensorBoard(folder / "layer_1", x, y, (28, 28), hparams={"rho": 0.1, "stage": "first"})
    keras_sae.fit(stack.autoencoders[0], x, callbacks=[board], **options)
    board = TensorBoard(folder / "head", x, y, (28, 28), hparams={"rho": 0.1, "stage": "second"})
    keras_sae.fit_head(stack.classifier(10), x, y, callbacks=[board], **options)
    return folder


@pytest.fixture(scope="module")
def server(logs):
    """The address of a TensorBoard on loopback."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", logs, "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stderr.readline, "")
        yield next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)))
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with contextlib.closing(Browser(tmp_path_factory.mktemp("browser"))) as browser:
        yield browser


class Board:
    """One of TensorBoard's tabs."""

    def __init__(self, browser, address, width):
        self.browser = browser
        browser.open("about:blank")
        size = {"width": width, "height": 1100, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.ask("Emulation.setDeviceMetricsOverride", **size)
        browser.ask("Page.navigate", url=address)

    def all(self, selector, expression):
        """A JavaScript expression of each `element` that the selector finds, however deep."""
        found = f"[...deep(document)].filter(element => element.matches({json.dumps(selector)}))"
        return self.browser.value(f"(() => {{{DEEP} return {found}.map(element => {expression})}})()")

    def shows(self, *texts):
        """Wait until all of these can be read."""
        found = lambda: {text.strip() for text in self.all("*", "own(element)")}  # noqa: E731
        self.browser.until(lambda: {*texts} <= found())


@pytest.fixture(params=[1400, 480], ids=["wide", "narrow"])
def opened(request, browser, server):
    """opened(tab, query) -> a Board, on a screen of either size."""
    return lambda tab, query="": Board(browser, f"{server}{query}#{tab}", request.param)


def last(logs, stage, tag):
    return Events(logs / stage).scalars(tag)[12]


@pytest.mark.parametrize(("tag", "stages"), [("loss", STAGES), ("rho_hat", STAGES[:1])])
def test_scalars(tag, stages, opened, logs):
    values = [f"{last(logs, stage, tag):.4f}".rstrip("0") for stage in stages]
    opened("timeseries", f"?tagFilter=^{tag}$").shows(tag, *stages, *values)


def test_histograms(opened):
    board = opened("histograms")
    board.shows("activations", "units/distribution", "weights")
    board.browser.until(lambda: len(board.all(".histogram", "1")) == 4)  # of each stage; weights are folded


@pytest.mark.parametrize("tag", ["features", "reconstructions", "confusion"])
def test_images(tag, opened, logs):
    board = opened("timeseries", f"?tagFilter={tag}$")
    board.shows(tag, "Step 12")
    [image] = [found.pictures(tag)[12] for stage in STAGES if tag in (found := Events(logs / stage)).picture_tags]
    size = [image.shape[1], image.shape[0]]
    board.browser.until(lambda: size in board.all("img", "[element.naturalWidth, element.naturalHeight]"))


def test_the_projector(opened):
    board = opened("projector")
    board.shows("Points:", "200", "Dimension:", "16", "PCA")
    assert board.all("canvas", "element.width > 100 && element.height > 100").count(True) >= 1


def test_hparams(opened, logs):
    losses = [f"{last(logs, stage, 'loss'):#.5g}" for stage in STAGES]
    opened("hparams").shows("rho", "stage", "first", "second", *(str(logs / stage) for stage in STAGES), *losses)


def test_the_graph(opened):
    opened("graphs").shows("inputs", "encoder", "head")
