"""The page of python -m export.serve in a real Chromium, with a real mouse."""

import contextlib
import json
import socket
import threading

import pytest
import tensorflow as tf
import uvicorn

from export.serve import application
from tests.browser import Browser, needs_chromium

pytestmark = needs_chromium
THREE = [  # the corners of a digit 3, in pixels of the drawing area, which has 300 x 300
    (80, 82), (105, 58), (150, 50), (190, 66), (196, 100), (172, 130), (135, 142), (178, 152), (208, 182), (200, 224),
    (160, 250), (112, 248), (78, 222),
]  # fmt: skip


class Measured(tf.Module):
    """An "autoencoder" of 28 x 28 pixels whose features measure the drawing, and whose class is always 3."""

    def measure(self, inputs):
        ink = tf.reshape(inputs, (-1, 28, 28))
        places, mass = tf.range(28.0) / 28, tf.reduce_sum(ink, (1, 2))
        centres = [tf.linalg.matvec(tf.reduce_sum(ink, axis), places) / mass for axis in (1, 2)]
        sizes = [tf.reduce_sum(tf.cast(tf.reduce_max(ink, axis) > 0.1, tf.float32), 1) / 28 for axis in (1, 2)]
        return tf.stack([*centres, *sizes, tf.reduce_max(inputs, 1)], 1)

    @tf.function(input_signature=[tf.TensorSpec((None, 784), tf.float32)])
    def encode(self, inputs):
        return {"features": self.measure(inputs)}

    @tf.function(input_signature=[tf.TensorSpec((None, 5), tf.float32)])
    def decode(self, features):
        return {"outputs": tf.tile(features, (1, 157))[:, :784]}

    @tf.function(input_signature=[tf.TensorSpec((None, 784), tf.float32)])
    def reconstruct(self, inputs):
        return {"features": self.measure(inputs), "outputs": inputs, "error": 0 * inputs[:, 0] + 2.5}

    @tf.function(input_signature=[tf.TensorSpec((None, 28, 28), tf.uint8)])
    def images(self, images):
        return {"features": tf.cast(tf.reduce_max(images, (1, 2)), tf.float32)[:, None]}

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def sums(self, inputs):
        return {"outputs": tf.cumsum(inputs, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def top(self, inputs):
        found = tf.math.top_k(tf.abs(inputs), 2)
        return {"indices": found.indices, "values": tf.gather(inputs, found.indices, batch_dims=1)}

    @tf.function(input_signature=[tf.TensorSpec((None, 784), tf.float32)])
    def classify(self, inputs):
        return {"probabilities": tf.one_hot(tf.zeros_like(inputs[:, 0], tf.int32) + 3, 10)}


@contextlib.contextmanager
def listening(export):
    """The address of a server in a thread of this process."""
    app = application.create(export)
    app.state.models.refresh()
    with socket.create_server(("127.0.0.1", 0)) as port:
        server = uvicorn.Server(uvicorn.Config(app, ws="none", log_level="error"))
        thread = threading.Thread(target=server.run, args=([port],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{port.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def opened(folder, signatures):
    """The `Browser` at the page of a server of a SavedModel with these signatures, name -> method of `Measured`."""
    model = Measured()
    signatures = {name: getattr(model, method) for name, method in signatures.items()}
    tf.saved_model.save(model, str(folder / "saved_model" / "1"), signatures)
    with listening(folder) as url, contextlib.closing(Browser(folder / "browser")) as browser:
        browser.open(url)
        browser.until(lambda: browser.seen("#draw") or browser.seen("#ask"))
        yield browser


ALL = {name: name for name in ("encode", "decode", "reconstruct", "classify")}


def draw(browser, corners):
    """A stroke, with the button held down."""
    for number, (x, y) in enumerate(corners):
        browser.mouse("Moved" if number else "Pressed", "#paper", x / 300, y / 300)


def features(browser):
    """What the page shows, number of a feature -> its value."""
    names = "[...document.querySelectorAll('#features .name')].map(name => [...name.children].map(c => c.innerText))"
    return {int(number.removeprefix("#")): float(value) for number, value in browser.value(names)}


def shape(browser):
    """width / height of the drawing as the features tell, nan where there are none."""
    found = features(browser)
    return found[2] / found[3] if found else float("nan")


def test_a_drawing_shows_its_features_its_reconstruction_and_its_class_while_it_is_drawn(tmp_path):
    with opened(tmp_path, ALL) as browser:
        assert features(browser) == {}
        draw(browser, THREE[:4])
        browser.until(lambda: shape(browser) > 1.3)  # the button is still down
        draw(browser, THREE)
        browser.mouse("Released", "#paper")
        browser.until(lambda: shape(browser) < 0.8)
        three = features(browser)
        assert three[3] == pytest.approx(20 / 28, abs=1.1 / 28)  # as in MNIST: in a box of 20 pixels,
        for centre in (0, 1):
            assert three[centre] == pytest.approx(13.5 / 28, abs=0.75 / 28)  # the centre of mass in the middle,
        assert three[4] > 0.9  # white on black
        assert browser.text(".best .name") == "3"
        assert browser.text("#error") == ", error 2.50"
        assert not browser.seen("#problem")
        browser.click("#clear")
        assert features(browser) == {}
        assert browser.text("#error") == ""


def test_an_answer_to_a_drawing_that_was_cleared_meanwhile_is_not_shown(tmp_path):
    with opened(tmp_path, ALL) as browser:
        # The answers wait until the paper was cleared, and are counted when the page has read them.
        browser.value("""(() => {
          const asked = window.fetch, answers = [];
          window.read = 0;
          window.goOn = () => answers.forEach(go => go());
          window.asked = 0;
          window.fetch = async (...question) => {
            const answer = await asked(...question);
            window.asked++;
            await new Promise(go => answers.push(go));
            setTimeout(() => window.read++, 100);
            return answer;
          };
        })()""")
        draw(browser, THREE[:1])
        browser.mouse("Released", "#paper")
        browser.until(lambda: browser.value("window.asked") == 2)  # reconstruct and classify
        browser.click("#clear")
        browser.value("goOn()")
        browser.until(lambda: browser.value("window.read") == 2)
        assert features(browser) == {}
        assert browser.text("#error") == ""
        assert browser.value("document.querySelector('#classes').childElementCount") == 0


def test_a_model_with_images_alone_is_given_bytes(tmp_path):
    with opened(tmp_path, {"images": "images", "serving_default": "images"}) as browser:
        draw(browser, THREE)
        browser.until(lambda: features(browser).get(0, 0) > 200)
        assert not browser.seen("#white")


def test_the_page_says_what_a_model_does_not_have(tmp_path):
    with opened(tmp_path, {"serving_default": "encode"}) as browser:
        draw(browser, THREE)
        browser.until(lambda: len(features(browser)) == 5)
        assert "This model has no classifier" in browser.text("#draw")
        assert browser.seen("#no-rebuilt")
        assert not browser.seen("#rebuilt-figure")


def test_the_page_of_a_model_without_images_sends_a_request(tmp_path):
    with opened(tmp_path, {"serving_default": "sums"}) as browser:
        assert "there is nothing to draw" in browser.text("#ask")
        browser.value("document.querySelector('#request').value = '{\"inputs\": [[1, 2, 3]]}'")
        browser.click("#send")
        browser.until(lambda: browser.text("#answer") == '{"outputs":[[1,3,6]]}')
        browser.value("document.querySelector('#request').value = '{\"inputs\": [[1]]}'")
        browser.click("#send")
        browser.until(lambda: browser.seen("#problem"))
        assert "The server did not answer as hoped" in browser.text("#problem")


def test_the_page_shows_the_strongest_features_of_a_row(tmp_path):
    """Of requests for what takes the same rows, in both forms."""
    with opened(tmp_path, {"serving_default": "sums", "top": "top", "classify": "classify"}) as browser:

        def asked(request):
            browser.value(f"document.querySelector('#request').value = '{json.dumps(request)}'")
            browser.click("#send")
            rows = (
                "[...document.querySelectorAll('#strongest .row')].map(row => [...row.children].map(c => c.innerText))"
            )
            return lambda: [[number, value] for number, _, value in browser.value(rows)]

        assert not browser.seen("#top")
        for form, row, expected in (
            ("inputs", [1, 2, -30], [["#2", "-30.0"], ["#1", "2.00"]]),
            ("instances", [0, 0.25, 0], [["#1", "0.250"]]),
            ("inputs", [0, 0, 0], []),
        ):
            shown = asked({form: [row, [9, 9, 9]]})
            browser.until(lambda shown=shown, expected=expected: shown() == expected)
            assert browser.seen("#top")
        assert browser.text("#top-text") == "No unit is active."
        asked({"signature_name": "classify", "inputs": [[0.5] * 784]})
        browser.until(lambda: not browser.seen("#top"))
        assert not browser.seen("#problem")
