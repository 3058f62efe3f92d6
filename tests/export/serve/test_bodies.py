"""Bodies: packed ones, and bounds on what they unpack to."""

import gzip
import json
import zlib

import pytest

from tests.export.serve.conftest import PREDICT, is_error

ROW = json.dumps({"signature_name": "encode", "instances": [[1, 2, 3]]}).encode()


def packed(content):
    """Packed by gzip without the time, which would give the tests other names in each of their processes."""
    return gzip.compress(content, mtime=0)


PACKED = packed(ROW)


def post(client, content, encoding="gzip"):
    return client.post(PREDICT, content=content, headers={"Content-Encoding": encoding})


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (PACKED, "gzip"),
        (PACKED, "X-GZIP"),
        (ROW, "identity"),
        (packed(ROW[:9]) + packed(ROW[9:]), "gzip"),  # files can follow each other
        (packed(ROW + b" " * 190_000), "gzip"),
    ],
)
def test_packed_bodies_are_read(client, content, encoding):
    assert post(client, content, encoding).json() == {"predictions": [[1.0, 2.0]]}


def test_a_packed_body_that_comes_in_pieces(client):
    answer = post(client, (PACKED[i : i + 1] for i in range(len(PACKED))))
    assert answer.json() == {"predictions": [[1.0, 2.0]]}


@pytest.mark.parametrize(
    ("content", "encoding", "status", "words"),
    [
        (PACKED[:-9], "gzip", 400, "Expected a complete body that gzip packed. Received: a part."),
        (PACKED[:3], "gzip", 400, "Expected a complete body"),
        (ROW, "gzip", 400, "Expected a body that gzip packed. Received: another"),
        (PACKED + b"more", "gzip", 400, "Expected a body that gzip packed. Received: another"),
        (PACKED[:-8] + bytes(8), "gzip", 400, "incorrect data check"),
        (zlib.compress(ROW), "gzip", 400, "incorrect header check"),
        (b"", "gzip", 400, "Expected a JSON object"),
        (PACKED, "identity", 400, "Expected a JSON object"),
        (PACKED, "br", 415, "Expected a Content-Encoding of gzip, or none. Received: 'br'."),
        (PACKED, "gzip, gzip", 415, "Received: 'gzip, gzip'."),
        (packed(b" " * 10_000_000), "gzip", 413, "200000 bytes"),
        (packed(b"") * 20_000, "gzip", 413, "200000 bytes"),
    ],
    ids=str,
)
def test_bodies_that_are_packed_otherwise_are_refused(client, content, encoding, status, words):
    answer = post(client, content, encoding)
    assert answer.status_code == status
    assert is_error(answer)
    assert words in answer.json()["error"]


def test_a_long_stream_of_nothing(client):
    """Files of gzip that hold nothing: no byte is unpacked, and yet it ends."""
    answer = post(client, (packed(b"") for _ in range(20_000)))
    assert answer.status_code == 413
