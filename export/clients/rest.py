"""Features from TensorFlow Serving by REST, with the standard library alone. Copy this file; it needs nothing else.

    docker run -p 8501:8501 -v "$PWD/saved_model:/models/encoder" -e MODEL_NAME=encoder tensorflow/serving

    from rest import encode, top

    features = encode(rows, url="http://localhost:8501/v1/models/encoder")  # rows, features: lists of lists of numbers
    strongest = top(rows, 10, url="http://localhost:8501/v1/models/encoder")  # {unit: value} of each row

Every row has as many numbers as the model takes; a NumPy array is given as x.tolist().
"""

import http.client
import json
import time
import urllib.error
import urllib.request

URL = "http://localhost:8501/v1/models/encoder"
BUSY = (429, 502, 503, 504)  # the server may answer later


def encode(rows, url=URL, signature="serving_default", timeout=10.0, attempts=4):
    """The features of rows, a list of lists.

    timeout: seconds for an answer.  attempts: how often to ask, after 0.5, 1, 2, ... seconds, while the server cannot
    be reached or is busy.

    Raises:
        RuntimeError: the server refused, with its words.
        ConnectionError: no answer after all attempts.
    """
    outputs = _predict(rows, url, signature, timeout, attempts)
    return outputs["features"] if isinstance(outputs, dict) else outputs


def top(rows, k=10, url=URL, timeout=10.0, attempts=4):
    """The k strongest active units of each row, {unit: value}, the strongest first. k: 100 at most.

    The other arguments, and the errors, are those of `encode`.
    """
    outputs = _predict(rows, url, "top", timeout, attempts)
    return [
        {unit: value for unit, value in zip(units[:k], values[:k], strict=True) if value}
        for units, values in zip(outputs["indices"], outputs["values"], strict=True)
    ]


def _predict(rows, url, signature, timeout, attempts):
    """The outputs of a signature: by name, if there are several."""
    body = json.dumps({"signature_name": signature, "inputs": rows}).encode()
    request = urllib.request.Request(f"{url}:predict", body, {"Content-Type": "application/json"})
    for attempt in range(attempts):
        if attempt:
            time.sleep(0.5 * 2 ** (attempt - 1))
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.load(answer)["outputs"]
        except urllib.error.HTTPError as error:
            problem = _words(error)
            if error.code not in BUSY:
                raise RuntimeError(f"{url} refused: {problem}") from None
        except (OSError, http.client.HTTPException) as error:  # unreachable, too slow, or cut off
            problem = getattr(error, "reason", error)
    raise ConnectionError(f"No answer from {url} after {attempts} attempts: {problem}")


def _words(error):
    """What the server says in {"error": ...}, or the status where it says nothing."""
    with error:
        try:
            return json.load(error)["error"]
        except (ValueError, KeyError, TypeError):
            return f"HTTP {error.code} {error.reason}"
