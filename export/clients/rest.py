"""Features from TensorFlow Serving by REST, with the standard library alone. Copy this file; it needs nothing else.

    docker run -p 8501:8501 -v "$PWD/saved_model:/models/encoder" -e MODEL_NAME=encoder tensorflow/serving

    from rest import encode, top

    features = encode(rows, url="http://localhost:8501/v1/models/encoder")  # rows, features: lists of lists of numbers
    strongest = top(rows, 10, url="http://localhost:8501/v1/models/encoder")  # {unit: value} of each row

    there = {"url": "https://models.example.com/v1/models/encoder", "headers": {"Authorization": "Bearer ..."}}
    features = encode(rows, **there)  # of a server behind a proxy that has a password

Every row has as many numbers as the model takes; a NumPy array is given as x.tolist().
"""

import concurrent.futures
import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request

URL = "http://localhost:8501/v1/models/encoder"
BUSY = (429, 502, 503, 504)  # the server may answer later


def encode(rows, url=URL, signature="serving_default", timeout=10.0, attempts=4, headers=None, tls=None):
    """The features of rows, a list of lists.

    timeout: seconds for the whole call, with all of its attempts.  attempts: how often to ask while the server cannot
    be reached or is busy, after 0.5, 1, 2, ... seconds and somewhat more, or as many as it says: a prediction changes
    nothing, so that to ask again is safe.  headers: sent with each request, to this server alone: redirects are not
    followed.  tls: of https, if the system does not know who signed the server's certificate,
    ssl.create_default_context(cafile="authority.pem").

    Raises:
        RuntimeError: the server refused, with its words.
        ConnectionError: no answer in time, or after all attempts.
    """
    outputs = _predict(rows, url, signature, timeout, attempts, headers, tls)
    return outputs["features"] if isinstance(outputs, dict) else outputs


def top(rows, k=10, url=URL, timeout=10.0, attempts=4, headers=None, tls=None):
    """The k strongest active units of each row, {unit: value}, the strongest first. k: 100 at most.

    The other arguments, and the errors, are those of `encode`.
    """
    outputs = _predict(rows, url, "top", timeout, attempts, headers, tls)
    return [
        {unit: value for unit, value in zip(units[:k], values[:k], strict=True) if value}
        for units, values in zip(outputs["indices"], outputs["values"], strict=True)
    ]


class _Busy(Exception):
    """Why the server does not answer now, and the seconds until it may."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Headers with a password are for the server that was named."""

    def redirect_request(self, *_):
        return None


def _predict(rows, url, signature, timeout, attempts, headers, tls):
    """The outputs of a signature: by name, if there are several."""
    end = time.monotonic() + timeout
    body = json.dumps({"signature_name": signature, "inputs": rows}).encode()
    request = urllib.request.Request(f"{url}:predict", body, {"Content-Type": "application/json", **(headers or {})})
    opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=tls))
    asked, pause, problem = 0, 0.0, "there was no time to ask"
    while asked < attempts and time.monotonic() + pause < end:
        time.sleep(pause)
        pause, asked = 0.5 * 2**asked, asked + 1
        try:
            return _within(end, _ask, opener, request, end)
        except _Busy as busy:
            problem, after = busy.args
            pause = max(pause, after)
        except RuntimeError as error:
            raise RuntimeError(f"{url} refused: {error}") from None
        except (OSError, http.client.HTTPException) as error:  # unreachable, too slow, or cut off
            problem = getattr(error, "reason", error)
        pause *= random.uniform(1, 1.5)  # so that clients who were refused together do not come again together
    raise ConnectionError(f"No answer from {url} after {asked} attempts, within {timeout:g} s: {problem}")


def _within(end, call, *arguments):
    """call(*arguments), given up when time ends, whatever it waits for: a name, a handshake, bytes that drip."""
    future = concurrent.futures.Future()

    def run():
        try:
            future.set_result(call(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    concurrent.futures.wait([future], max(0.0, end - time.monotonic()))
    if not future.done():
        raise TimeoutError("timed out")
    return future.result()


def _ask(opener, request, end):
    """The outputs. Raises RuntimeError with the server's words, _Busy."""
    try:
        answer = opener.open(request, timeout=max(0.01, end - time.monotonic()))
    except urllib.error.HTTPError as error:
        answer = error
    status, content = answer.getcode(), b""
    with answer:
        while piece := answer.read1(2**16):
            content += piece
            if time.monotonic() > end:  # nobody waits any more
                raise TimeoutError("timed out")
    try:
        said = json.loads(content)
        if status == 200:
            return said["outputs"]
        words = said["error"]
    except (ValueError, KeyError, TypeError):
        words = f"HTTP {status} {answer.reason}" if status != 200 else "a part, or something else"
    if status == 200 or status in BUSY:
        after = answer.headers.get("Retry-After", "")
        raise _Busy(words, float(after) if after.isdecimal() else 0.0)
    raise RuntimeError(words)
