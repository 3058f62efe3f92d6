"""python -m export.serve as a command, and as a process with bad clients."""

import concurrent.futures
import contextlib
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from export.serve import __main__ as command
from tests.export.serve.conftest import PREDICT, ROOT, SLOW, post, put, start, wait_until_it_listens


@pytest.fixture
def main(monkeypatch):
    """main(*arguments) as `python -m export.serve ARGUMENTS` calls it."""

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["export.serve", *map(str, arguments)])
        command.main()

    return main


def test_a_wrong_command_line_ends_with_one_line(refused, tmp_path):
    (tmp_path / "saved_model" / "1").mkdir(parents=True)
    assert refused("--portt", "1").endswith("See --help.")
    assert "has no directory saved_model" in refused(tmp_path / "nothing")
    assert "--port expects" in refused(tmp_path, "--port", "70000")
    assert "--max-rows expects" in refused(tmp_path, "--max-rows", "0")
    assert "--body-seconds expects" in refused(tmp_path, "--body-seconds", "nan")
    assert "--name expects" in refused(tmp_path, "--name", "a/b")
    assert "--cors expects origins" in refused(tmp_path, "--cors", "https://a.example", "b.example/c")
    assert "Expected a free port" in refused(tmp_path, "--host", "203.0.113.1")


def test_an_export_without_a_version_is_refused(refused, tmp_path):
    (tmp_path / "saved_model" / "draft").mkdir(parents=True)
    assert "which holds none" in refused(tmp_path)


def test_a_port_in_use_is_refused(refused, tmp_path):
    (tmp_path / "saved_model" / "1").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"127.0.0.1:{port}" in refused(tmp_path, "--port", port)


def test_missing_packages_are_named_with_their_fix(refused, tmp_path, monkeypatch):
    (tmp_path / "saved_model" / "1").mkdir(parents=True)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None if name == "fastapi" else name)
    line = refused(tmp_path)
    assert "no fastapi." in line
    assert "pip install 'keras-sae[serve]'" in line


def test_help_teaches(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export.serve", "--help"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for taught in ("EXPORT", "--name", "--host", "--port", ":predict", "curl", "/metrics", "mv"):
        assert taught in text


def test_the_command_imports_nothing_slow_before_the_flags_are_right():
    command = [sys.executable, "-X", "importtime", "-m", "export.serve", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert {"tensorflow", "keras", "numpy", "fastapi"} & imported == set()


def test_the_start_says_where_and_what_and_the_example_works(server):
    _, port, printed, out = server
    for words in ("version 2, 1", f"http://127.0.0.1:{port}/", "encode: inputs (rows, 784) float32 -> features"):
        assert words in printed
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    line = printed.strip().splitlines()[-1].replace("python -c", f"{sys.executable} -c")
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    with np.load(out / "check.npz") as check:
        np.testing.assert_allclose(json.loads(done.stdout)["predictions"], check["encode/features"][:1], atol=1e-5)


def test_a_real_export_gives_keras_features(server):
    with np.load(server[3] / "check.npz") as check:
        inputs, features = check["inputs"], check["encode/features"]
    status, answer = post(server[1], json.dumps({"instances": inputs.tolist()}))
    assert status == 200
    np.testing.assert_allclose(answer["predictions"], features, rtol=0, atol=1e-5)


def raw(port, content):
    """A connection on which some bytes were sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(content)
    return connection


def read_all(connection):
    content = b""
    with contextlib.suppress(ConnectionResetError), connection:
        while piece := connection.recv(65536):
            content += piece
    return content


def test_a_slow_body_is_ended_while_others_are_served(server):
    """Headers that come slowly are for a proxy to end: they keep a connection, and nobody else from being answered."""
    port = server[1]
    head = b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nHost: localhost\r\nConte"
    began = time.monotonic()
    slow = raw(port, head + b"nt-Length: 1000\r\n\r\n{")
    with raw(port, head), raw(port, b""):
        assert post(port, '{"instances": [[1]]}')[0] == 400
        content = read_all(slow)
    assert content.startswith(b"HTTP/1.1 408 ")
    assert json.loads(content.split(b"\r\n\r\n")[1])["error"]
    assert time.monotonic() - began < 8


def test_what_is_no_http_is_refused(server):
    assert read_all(raw(server[1], b"GARBAGE\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


def test_a_body_of_100_megabytes_is_refused_and_not_kept(server):
    process, port, *_ = server
    before = memory(process)
    length = 100_000_000
    for header in (f"Content-Length: {length}", "Transfer-Encoding: chunked"):
        connection = raw(port, f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode())
        piece = b" " * 100_000
        piece = b"186a0\r\n" + piece + b"\r\n" if "chunked" in header else piece
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(length // 100_000):
                connection.sendall(piece)
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")
    assert memory(process) - before < 30


def memory(process):
    """Resident megabytes."""
    status = pathlib.Path(f"/proc/{process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc")
    return int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1]) / 1024


def test_a_page_from_elsewhere_cannot_use_a_server_of_this_machine(server):
    for header in ("Host: evil.example", "Host: localhost\r\nOrigin: https://evil.example"):
        answer = read_all(raw(server[1], f"GET / HTTP/1.1\r\n{header}\r\n\r\n".encode()))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"evil.example" in answer


def test_200_connections_at_once_are_answered(server):
    body = json.dumps({"instances": [[0.5] * 784]})
    with concurrent.futures.ThreadPoolExecutor(200) as threads:
        codes = [code for code, _ in threads.map(lambda _: post(server[1], body), range(200))]
    assert set(codes) == {200}


def test_a_stop_answers_what_is_in_flight(saved, tmp_path):
    put(saved[1], tmp_path, 1)
    with start(tmp_path) as first, start(tmp_path) as second, concurrent.futures.ThreadPoolExecutor(2) as threads:
        for process, number in ((first, signal.SIGINT), (second, signal.SIGTERM)):
            port, _ = wait_until_it_listens(process)
            slow = raw(port, b"POST ")  # a connection that says no more does not hold the server up
            answer = threads.submit(post, port, json.dumps(SLOW))
            time.sleep(0.3)
            assert not answer.done()
            process.send_signal(number)
            assert answer.result(30) == (200, {"predictions": [[400_000.0]]})
            assert process.wait(30) == 0
            assert "Traceback" not in process.stderr.read()
            slow.close()
