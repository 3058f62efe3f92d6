"""The command under attack, in small: benchmarks/attacks.py measures the same at full size."""

import contextlib
import json
import resource
import subprocess
import sys
import time

import pytest

from tests.export.serve.conftest import PREDICT, ROOT, post, put, wait_until_it_listens
from tests.export.serve.test_command import memory, raw, read_all

ROW = {"signature_name": "encode", "instances": [[1, 2, 3]]}
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def attacked(saved, tmp_path_factory):
    """(process, port) of the command, which has 400 descriptors and takes bodies of a megabyte within three seconds."""
    export = tmp_path_factory.mktemp("attacked")
    put(saved[1], export, 1)
    command = [sys.executable, "-m", "export.serve", str(export), "--port", "0", "--max-megabytes", "1"]
    with subprocess.Popen(
        [*command, "--body-seconds", "3", "--max-rows", "100000"], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400)),
    ) as process:  # fmt: skip
        yield process, wait_until_it_listens(process)[0]
        process.terminate()


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
