"""Connections that wait for their clients: how long, how many, and what the log says of them."""

import asyncio
import contextlib
import functools
import logging
import socket
import threading
import time

import pytest
import uvicorn

from export.serve import connections
from export.serve.connections import Connection, Few

ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def serve(monkeypatch):
    """serve(app, most) -> (port, all connections) of an application in a thread, whose clients have half a second."""
    monkeypatch.setattr(connections, "SECONDS_FOR_HEADERS", 0.5)
    monkeypatch.setattr(connections, "SECONDS_TO_TAKE", 0.5)
    monkeypatch.setattr(connections, "SECONDS_BETWEEN_LOOKS", 0.05)
    with contextlib.ExitStack() as stack:

        def serve(app, most=100):
            everybody = connections.Everybody(most)
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            connection = functools.partial(Connection, everybody=everybody)
            config = uvicorn.Config(
                app, http=connection, ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            while not server.started:
                time.sleep(0.01)
            return listening.getsockname()[1], everybody.heard

        yield serve


def answering(size):
    """An application that answers with so many bytes, a piece at a time."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        for _ in range(size // 1000):
            await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})
        await send({"type": "http.response.body", "body": bytes(size % 1000)})

    return app


async def slow(scope, receive, send):
    await asyncio.sleep(1.2)
    await answering(2)(scope, receive, send)


async def refusing(scope, receive, send):
    """Answers before the body is here."""
    headers = [(b"content-length", b"4"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"much"})


def connect(port, content=b""):
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(content)
    return connection


def seconds_until_it_ends(connection):
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while connection.recv(1000):
            pass
    connection.close()
    return time.monotonic() - began


def drip(connection, content):
    with contextlib.suppress(OSError):
        for byte in content * 10:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)


@pytest.mark.parametrize(
    "content", [b"", b"GET / HT", ASK, ASK + b"GET"], ids=["nothing", "a part", "all", "and a part"]
)
def test_a_client_who_asks_nothing_is_ended(serve, content):
    port, everybody = serve(answering(2))
    assert 0.4 < seconds_until_it_ends(connect(port, content)) < 2
    assert everybody == {}


def test_headers_that_come_slowly_are_ended(serve):
    port, _ = serve(answering(2))
    connection = connect(port)
    threading.Thread(target=drip, args=(connection, b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")).start()
    assert 0.4 < seconds_until_it_ends(connection) < 2


def test_an_answer_that_nobody_takes_is_ended(serve):
    port, everybody = serve(answering(30_000_000))
    connection = connect(port, ASK)
    time.sleep(0.3)
    assert len(everybody) == 1
    time.sleep(1.5)
    assert everybody == {}
    connection.close()


def test_who_takes_it_slowly_gets_all_of_it(serve):
    port, _ = serve(answering(8_000_000))
    received = 0
    with connect(port, ASK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) as connection:
        while content := connection.recv(100_000):
            received += len(content)
            time.sleep(0.02)  # for more than a second and a half
    assert received > 8_000_000


def test_an_answer_that_takes_long_is_waited_for(serve):
    port, _ = serve(slow)
    with connect(port, ASK) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_if_there_are_too_many_the_one_that_waited_longest_ends(serve, monkeypatch):
    monkeypatch.setattr(connections, "SECONDS_FOR_HEADERS", 60)
    port, everybody = serve(answering(2), most=5)
    waiting = []
    for _ in range(8):
        waiting.append(connect(port))
        time.sleep(0.02)
    for connection in waiting[:3]:
        assert seconds_until_it_ends(connection) < 1
    assert len(everybody) == 5
    for connection in waiting[3:]:
        connection.sendall(ASK)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.close()


@pytest.mark.parametrize("at_once", [0, 10])
def test_if_all_are_being_answered_more_are_refused(serve, monkeypatch, at_once):
    """Who sent something sees it as well, of as many as are kept for that."""
    monkeypatch.setattr(connections, "REFUSED_AT_ONCE", at_once)
    port, _ = serve(slow, most=2)
    busy = [connect(port, ASK) for _ in range(2)]
    time.sleep(0.2)
    more = [connect(port, ASK + bytes(100_000) if at_once else b"") for _ in range(5)]
    for connection in more:
        answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in answer
        connection.close()
    for connection in busy:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.close()


def test_who_is_refused_cannot_stay(serve, monkeypatch):
    monkeypatch.setattr(connections, "SECONDS_TO_SEE_A_REFUSAL", 0.3)
    port, _ = serve(slow, most=1)
    with connect(port, ASK):
        time.sleep(0.2)
        refused = connect(port)
        threading.Thread(target=drip, args=(refused, b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")).start()
        assert seconds_until_it_ends(refused) < 1.5


@pytest.mark.parametrize("header", [b"Content-Length: 90000000", b"Transfer-Encoding: chunked", b"no header"])
def test_a_body_that_is_refused_is_not_looked_at(serve, header):
    """The client who sends all of it before looking sees the answer, and its end."""
    port, everybody = serve(refusing)
    with connect(port, b"POST / HTTP/1.1\r\nHost: a\r\n" + header + b"\r\n\r\n") as connection:
        time.sleep(0.1)
        for _ in range(900):
            connection.sendall(b"no chunk, " * 10_000)
        answer = b""
        while piece := connection.recv(1000):
            answer += piece
        assert answer.endswith(b"\r\n\r\nInvalid HTTP request received." if header == b"no header" else b"\r\n\r\nmuch")
        assert len(everybody) == 1
    time.sleep(0.2)
    assert everybody == {}


def test_who_sends_on_after_a_refusal_is_ended(serve, monkeypatch):
    monkeypatch.setattr(connections, "SECONDS_TO_SEE_A_REFUSAL", 0.3)
    port, everybody = serve(refusing)
    connection = connect(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n")
    drip(connection, b"aaaaa")
    assert everybody == {}
    connection.close()


class Stub:
    """A connection as make_room sees it."""

    def __init__(self, everybody, turn, sent):
        self.everybody, self.turn, self.sent = everybody, turn, sent
        everybody.heard[self] = None

    def clients_turn(self):
        return self.turn

    def has_sent(self):
        return self.sent

    def end(self):
        del self.everybody.heard[self]


def test_who_is_ended_for_one_more_has_sent_nothing():
    everybody = connections.Everybody(3)
    answered = Stub(everybody, "", False)
    asking = Stub(everybody, "ask 0", True)
    Stub(everybody, "ask 0", False)
    assert everybody.make_room()
    assert list(everybody.heard) == [answered, asking]
    sending = Stub(everybody, "send", True)
    assert not everybody.make_room()
    assert list(everybody.heard) == [answered, asking, sending]


def test_there_are_fewer_connections_than_descriptors(monkeypatch):
    resource = pytest.importorskip("resource")
    for descriptors, most in ((1024, 768), (100, 16), (10**6, 4096)):
        monkeypatch.setattr(resource, "getrlimit", lambda which, found=descriptors: (found, found))
        assert connections.most_connections() == most


def test_a_few_lines_a_second_come_into_the_log(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(connections.time, "monotonic", lambda: now[0])
    few = Few(lines=2)

    def record(number):
        return logging.LogRecord("a", logging.WARNING, "", 0, "line %d", (number,), None)

    seen = [record(number) for number in range(5)]
    assert [few.filter(one) for one in seen] == [True, True, False, False, False]
    now[0] = 101.0
    later = record(5)
    assert few.filter(later)
    assert later.getMessage() == "line 5 (3 lines were left out before)"
    assert few.filter(again := record(6))
    assert again.getMessage() == "line 6"
