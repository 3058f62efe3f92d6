"""A headless Chromium for tests of pages."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
SECONDS = 30  # for what takes one


class Browser:
    """A page in a headless Chromium, by its DevTools protocol: JSON, each ended by a zero byte, through two pipes."""

    def __init__(self, folder):
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        theirs = [fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, 10) for pipe in (requests, answers)]  # neither 3 nor 4
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--window-size=1200,1100"]
        self._process = subprocess.Popen(
            [CHROMIUM, *flags, f"--user-data-dir={folder}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=lambda: (os.dup2(theirs[0], 3), os.dup2(theirs[1], 4)), pass_fds=(3, 4),
        )  # fmt: skip
        for pipe in (requests, answers, *theirs):
            os.close(pipe)
        self._read, self._asked, self._session = b"", 0, {}

    def open(self, url):
        target = self.ask("Target.createTarget", url=url)["targetId"]
        self._session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def ask(self, method, **parameters):
        """The answer to one request; events are left out."""
        self._asked += 1
        request = {"id": self._asked, "method": method, "params": parameters, **self._session}
        os.write(self._requests, json.dumps(request).encode() + b"\0")
        while (message := self._message()).get("id") != self._asked:
            pass
        assert "error" not in message, message
        return message["result"]

    def _message(self):
        while b"\0" not in self._read:
            assert select.select([self._answers], [], [], SECONDS)[0], "Chromium says nothing"
            read = os.read(self._answers, 2**16)
            assert read, "Chromium has ended"
            self._read += read
        message, self._read = self._read.split(b"\0", 1)
        return json.loads(message)

    def value(self, expression):
        """Of JavaScript, as Python."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, condition):
        """Wait until a function is true."""
        late = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < late, self.text("body")
            time.sleep(0.05)

    def text(self, selector):
        return self.value(f"document.querySelector({json.dumps(selector)}).innerText")

    def seen(self, selector):
        """Whether it is there and not hidden."""
        return self.value(f"Boolean(document.querySelector({json.dumps(selector)})?.offsetParent)")

    def mouse(self, kind, selector, x=0.5, y=0.5):
        """kind: Pressed, Moved or Released.  x, y: where in the element, as shares of its width and height."""
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        left, top, width, height = self.value(f"(box => [box.left, box.top, box.width, box.height])({box})")
        place = {"x": left + x * width, "y": top + y * height}
        self.ask("Input.dispatchMouseEvent", type=f"mouse{kind}", button="left", buttons=1, clickCount=1, **place)

    def click(self, selector):
        self.mouse("Pressed", selector)
        self.mouse("Released", selector)

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._requests)
        os.close(self._answers)
