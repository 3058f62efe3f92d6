"""The command under attack, in small: benchmarks/attacks.py measures the same at full size."""

import collections
import contextlib
import gzip
import json
import pathlib
import re
import resource
import subprocess
import sys
import time

import pytest

from export.serve.predictor import THREADS
from tests.export.serve.conftest import MODEL, PREDICT, ROOT, SLOW, post, put, wait_until_it_listens
from tests.export.serve.test_command import memory, raw, read_all

ROW = {"signature_name": "encode", "instances": [[1, 2, 3]]}
MEGABYTE = 2**20
STACK = 8 * MEGABYTE  # of a thread


@pytest.fixture(scope="module")
def attacked(saved, tmp_path_factory):
    """(process, port) of the command with 400 descriptors and, when it listens, no more than 300 MB of memory to take.

    It takes bodies of a megabyte within three seconds, and 20 requests at once. It writes no file.
    """
    export = tmp_path_factory.mktemp("attacked")
    put(saved[1], export, 1)
    files = sorted(export.rglob("*"))
    command = [sys.executable, "-m", "export.serve", str(export), "--port", "0", "--max-megabytes", "1"]
    with subprocess.Popen(
        [*command, "--body-seconds", "3", "--max-rows", "100000", "--max-waiting", "20"], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400)),
    ) as process:  # fmt: skip
        port = wait_until_it_listens(process)[0]
        limit_memory(process, 300)
        yield process, port
        process.terminate()
    assert sorted(export.rglob("*")) == files


def limit_memory(process, megabytes):
    """Let a process take so much more memory, beside the stacks of threads that it is still to start."""
    if hasattr(resource, "prlimit"):
        data = int(re.search(r"VmData:\s+(\d+)", pathlib.Path(f"/proc/{process.pid}/status").read_text())[1]) * 1024
        limit = data + megabytes * MEGABYTE + THREADS * STACK
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (limit, limit))


def head(length):
    return f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


LARGE = json.dumps({"signature_name": "encode", "instances": [[1.5, 2.5, 3.5]] * 40_000}).encode()  # of 760 kB
ATTACKS = {
    "idle connections": lambda port: [raw(port, b"") for _ in range(300)],
    "slow headers": lambda port: [raw(port, b"GET / HTTP/1.1\r\nHos") for _ in range(100)],
    "stalled uploads": lambda port: [raw(port, head(MEGABYTE) + b" " * 10_000) for _ in range(4)],
    "one byte of a body": lambda port: [raw(port, head(2) + b"{") for _ in range(130)],
    "answers not read": lambda port: [raw(port, head(len(LARGE)) + LARGE) for _ in range(30)],
    "no HTTP": lambda port: [raw(port, b"x\r\n\r\n") for _ in range(200)],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_others_are_answered_during_an_attack(attacked, attack):
    process, port = attacked
    before = memory(process)
    with contextlib.ExitStack() as stack:
        for connection in ATTACKS[attack](port):
            stack.callback(connection.close)
        for _ in range(5):
            began = time.monotonic()
            assert read_all(
                raw(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            ).endswith(b"live\n")
            assert post(port, json.dumps(ROW)) == (200, {"predictions": [[1.0, 2.0]]})
            assert time.monotonic() - began < 2  # tenths of that if the machine has nothing else to do
        if attack == "stalled uploads":  # there is no room for a fifth, which is said at once
            answer = read_all(raw(port, head(MEGABYTE) + b" " * 1000))
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1\r\n" in answer
        assert memory(process) - before < 300


LONG = 2**20 - 100  # bytes: all but what a body may have
ODD_BODIES = {
    "an integer of a megabyte": b'{"instances": [[' + b"9" * LONG + b"]]}",
    "a fraction of a megabyte": b'{"instances": [[0.' + b"7" * LONG + b"]]}",
    "a large exponent": b'{"instances": [[1, 2, 1e999999999]]}',
    "numbers of a thousand digits": b'{"instances": [[' + b",".join([b"3" * 1000] * 1000) + b"]]}",
    "numbers": b'{"instances": [[' + b"0.5," * (LONG // 4 - 10) + b"0]]}",
    "lists": b'{"inputs": [' + b"[]," * (LONG // 3 - 10) + b"[]]}",
    "nested lists": b'{"inputs": [' + b"[[[[],[]],[]],[]]," * (LONG // 18 - 10) + b"[]]}",
    "deep lists": b'{"inputs": ' + b"[" * (LONG // 2) + b"]" * (LONG // 2) + b"}",
    "lists without an end": b"[" * LONG,
    "deep objects": b'{"a":' * (LONG // 5),
    "names": b'{"inputs": {' + b",".join(b'"%d":0' % n for n in range(LONG // 12)) + b"}}",
    "objects": b'{"instances": [' + b"{}," * (LONG // 3 - 10) + b"{}]}",
    "a text": b'{"instances": ["' + b"a" * (LONG - 20) + b'"]}',
    "a name of a signature": b'{"signature_name": "' + b"\\u00e9" * (LONG // 6 - 10) + b'"}',
    "half a character": b'{"signature_name": "\\ud800"}',
    "no text": bytes(range(256)) * 4000,
    "a large k": b'{"signature_name": "top", "k": ' + b"9" * 100_000 + b', "instances": [[1, 2, 3]]}',
    "nothing": b"",
}
PACKED = {
    "packed a hundred times": gzip.compress(b" " * (100 * MEGABYTE), mtime=0),
    "packed empty files": gzip.compress(b"", mtime=0) * 50_000,
    "packed lists": gzip.compress(b'{"inputs": [' + b"[]," * (LONG // 3 - 10) + b"[]]}", mtime=0),
    "a part of what was packed": gzip.compress(json.dumps(ROW).encode(), mtime=0)[:-9],
}
ODD_HEADERS = {
    "a long header": b"A: " + b"a" * 100_000,
    "many headers": b"\r\n".join([b"A: a"] * 10_000),
    "two hosts": b"Host: localhost",
    "another origin": b"Origin: https://evil.example",
    "a length below nothing": b"Content-Length: -5",
    "a length of many digits": b"Content-Length: " + b"9" * 1000,
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6",
    "no name": b": a",
}
PATHS = (
    MODEL,
    f"{MODEL}/versions/1",
    f"{MODEL}/metadata",
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/no",
)


def status_of(port, content):
    """The status of an answer that has TensorFlow Serving's form of errors, or is of the HTTP server itself."""
    answer = read_all(raw(port, content))
    status, _, body = answer.partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 "), answer
    assert body == b"Invalid HTTP request received." or list(json.loads(body)) == ["error"]
    return int(status[9:12])


def posted(path, body, header=b"A: a"):
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + header + b"\r\n\r\n" + body


@pytest.mark.parametrize("kind", [*ODD_BODIES, *PACKED])
def test_odd_bodies_are_refused_within_the_memory(attacked, kind):
    _, port = attacked
    body, header = (PACKED[kind], b"Content-Encoding: gzip") if kind in PACKED else (ODD_BODIES[kind], b"A: a")
    for path in (PREDICT, f"{MODEL}/versions/1:predict"):
        assert status_of(port, posted(path, body, header)) in (400, 413)
    for path in PATHS:
        assert status_of(port, posted(path, body, header)) in (404, 405)
    assert post(port, json.dumps(ROW)) == (200, {"predictions": [[1.0, 2.0]]})


@pytest.mark.parametrize("kind", ODD_HEADERS)
def test_odd_headers_are_refused_by_every_path(attacked, kind):
    _, port = attacked
    for path in (PREDICT, f"{MODEL}/versions/1:predict", *PATHS):
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode()
        assert 400 <= status_of(port, head + ODD_HEADERS[kind] + b"\r\n\r\n") < 500


@pytest.mark.parametrize(
    "path",
    [b"/" + b"a" * 100_000, b"/\xff", b"http://evil.example/healthz", b"*", b"/%00", b"/v1/models/%ff:predict", b"/ /"],
)
def test_odd_paths_are_refused(attacked, path):
    for method in (b"GET", b"POST", b"CONNECT", b"\x00"):
        head = method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert 400 <= status_of(attacked[1], head) < 500


def test_of_many_at_once_some_are_answered_and_the_others_refused_at_once(attacked):
    """Small requests, and bodies for which there is no room."""
    _, port = attacked
    for body, number in ((json.dumps(SLOW | {"instances": [[20_000]]}).encode(), 100), (LARGE, 20)):
        connections = [raw(port, posted(PREDICT, body)) for _ in range(number)]
        heads = [read_all(connection).partition(b"\r\n\r\n")[0] for connection in connections]
        statuses = collections.Counter(int(head[9:12]) for head in heads)
        assert set(statuses) == {200, 503}
        assert all(b"\r\nretry-after: 1" in head for head in heads if b" 503 " in head)


def test_the_log_stays_short(attacked):
    process, port = attacked
    for _ in range(100):
        read_all(raw(port, b"x\r\n\r\n"))
    time.sleep(1.1)
    read_all(raw(port, b"x\r\n\r\n"))
    process.terminate()
    lines = process.stderr.read().splitlines()
    assert sum("Invalid HTTP request" in line for line in lines) < 150  # of 301
    assert "lines were left out before" in "".join(lines)
