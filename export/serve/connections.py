"""Connections: fewer than there are descriptors, and none that keeps the server waiting for long.

It is the client's turn if a connection has no request yet, or a part of one, or an answer that nobody takes. A body has
a limit of its own, to which the client gets an answer: see bodies.py.
"""

import asyncio
import contextlib
import logging
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS_FOR_HEADERS = 10.0  # from the start of a connection, or from the answer before, to the end of the headers
SECONDS_TO_TAKE = 20.0  # for the next WRITE_BUFFER bytes of an answer
SECONDS_BETWEEN_LOOKS = 1.0
WRITE_BUFFER = 16 * 2**10  # bytes of an answer that wait for the client beside what the system keeps
READ_AT_ONCE = 32 * 2**10  # bytes of a connection; then the others have their turn
ACCEPTED_AT_ONCE = 32  # connections, before any of them is looked at
WAITING_AT_MOST = 4096  # connections that the system keeps until they are accepted, if it may; others try for seconds
DESCRIPTORS_FOR_OTHERS = 256  # files, TensorFlow, and connections that are accepted or ended but not seen yet
MOST_CONNECTIONS = 4096
LONGEST_HEADERS = 16 * 2**10  # bytes
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def most_connections() -> int:
    """Return how many connections this process can have at once."""
    most = MOST_CONNECTIONS
    with contextlib.suppress(ImportError):  # on Windows, which has no such limit
        import resource

        most = min(most, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - DESCRIPTORS_FOR_OTHERS)
    return max(16, most)


class Connection(H11Protocol):
    """A connection that ends if its client takes too long. If there are too many, the one that waited longest ends."""

    def __init__(self, *arguments: Any, everybody: "dict[Connection, None]", most: int, **options: Any):
        super().__init__(*arguments, **options)
        self._everybody, self._most = everybody, most  # all connections, the one that did something last at the end
        self._turn, self._since, self._steps = "", 0.0, 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        transport.max_size = READ_AT_ONCE
        while len(self._everybody) >= self._most:
            longest = next((other for other in self._everybody if other.clients_turn()), None)
            if longest is None:
                transport.write(FULL)
                transport.close()
                break
            longest.end()
        self._everybody[self] = None
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._everybody.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def end(self) -> None:
        self._everybody.pop(self, None)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._did_something()
        super().data_received(data)

    def resume_writing(self) -> None:
        self._steps += 1
        self._did_something()
        super().resume_writing()

    def on_response_complete(self) -> None:
        self._steps += 1
        super().on_response_complete()

    def _did_something(self) -> None:
        if self in self._everybody:
            self._everybody[self] = self._everybody.pop(self)

    def clients_turn(self) -> str:
        """Return what the client has to do next, or "" if that is for the server to do."""
        if self.transport.get_write_buffer_size():
            return f"take {self._steps}"
        if self.cycle is None or self.cycle.response_complete:
            return f"ask {self._steps}"
        return "send" if self.cycle.more_body else ""

    def _look(self) -> None:
        """End the connection if the same has been for the client to do for too long."""
        turn, now = self.clients_turn(), time.monotonic()
        if turn != self._turn:
            self._turn, self._since = turn, now
        longest = {"ask": SECONDS_FOR_HEADERS, "take": SECONDS_TO_TAKE}.get(turn.partition(" ")[0], float("inf"))
        if now - self._since >= longest:
            self.end()
        else:
            self._timer = self.loop.call_later(SECONDS_BETWEEN_LOOKS, self._look)


class Few(logging.Filter):
    """Let a few lines a second into the log, and say how many were left out, so that no client can fill a disk."""

    def __init__(self, lines: int = 10):
        super().__init__()
        self._lines, self._second, self._seen, self._left_out = lines, 0, 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._seen = second, 0
            if self._left_out:
                record.msg = f"{record.getMessage()} ({self._left_out} lines were left out before)"
                record.args, self._left_out = (), 0
        self._seen += 1
        self._left_out += self._seen > self._lines
        return self._seen <= self._lines
