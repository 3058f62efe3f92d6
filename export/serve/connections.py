"""Connections: fewer than there are descriptors, and none that keeps the server waiting for long.

It is the client's turn if a connection has no request yet, or a part of one, or an answer that nobody takes. A body has
a limit of its own, to which the client gets an answer: see bodies.py.
"""

import asyncio
import contextlib
import dataclasses
import logging
import selectors
import time
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS_FOR_HEADERS = 10.0  # from the start of a connection, or from the answer before, to the end of the headers
SECONDS_TO_TAKE = 20.0  # for the next WRITE_BUFFER bytes of an answer
SECONDS_BETWEEN_LOOKS = 1.0
WRITE_BUFFER = 16 * 2**10  # bytes of an answer that wait for the client beside what the system keeps
READ_AT_ONCE = 32 * 2**10  # bytes of a connection; then the others have their turn
THROWN_AWAY_AT_ONCE = 256 * 2**10  # bytes of a body that was refused
ACCEPTED_AT_ONCE = 32  # connections, before any of them is looked at
WAITING_AT_MOST = 4096  # connections that the system keeps until they are accepted, if it may; others try for seconds
DESCRIPTORS_FOR_OTHERS = (
    256  # files, TensorFlow, and connections that are refused, or accepted or ended but not seen yet
)
REFUSED_AT_ONCE = 64  # connections that are kept until their client has seen that they are refused
SECONDS_TO_SEE_A_REFUSAL = 5.0  # for who is still sending, and looks at the answer afterwards
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


@dataclasses.dataclass
class Everybody:
    """The connections of a server, `most` at once."""

    most: int
    heard: "dict[Connection, None]" = dataclasses.field(default_factory=dict)  # the last to do something is at the end
    refused: "set[Refused]" = dataclasses.field(default_factory=set)

    def make_room(self) -> bool:
        """Return whether there is room for one more, once who has been silent for longest is ended if need be."""
        while len(self.heard) >= self.most:
            silent = (
                connection for connection in self.heard if connection.clients_turn() and not connection.has_sent()
            )
            longest = next(silent, None)
            if longest is None:
                return False
            longest.end()
        return True


class Connection(H11Protocol):
    """A connection that ends if its client takes too long.

    If there are too many, the one whose client has been silent for longest ends. If none is, one more is refused.
    """

    def __init__(self, *arguments: Any, everybody: Everybody, **options: Any):
        super().__init__(*arguments, **options)
        self._everybody = everybody
        self._turn, self._since, self._steps = "", 0.0, 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        if not self._everybody.make_room():
            Refused(self._everybody).answer(transport)
            return
        super().connection_made(transport)
        self.transport = Gentle(transport, self._is_sending)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        transport.max_size = READ_AT_ONCE
        self._everybody.heard[self] = None
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._everybody.heard.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def end(self) -> None:
        self._everybody.heard.pop(self, None)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._did_something()
        if not self.transport.ending:
            super().data_received(data)

    def _is_sending(self) -> bool:
        """Return whether more may come: of a body that nobody reads, or of what is no HTTP."""
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    def resume_writing(self) -> None:
        self._steps += 1
        self._did_something()
        super().resume_writing()

    def on_response_complete(self) -> None:
        self._steps += 1
        self._did_something()
        super().on_response_complete()

    def _did_something(self) -> None:
        if self in self._everybody.heard:
            self._everybody.heard[self] = self._everybody.heard.pop(self)

    def clients_turn(self) -> str:
        """Return what the client has to do next, or "" if that is for the server to do."""
        if self.transport.get_write_buffer_size():
            return f"take {self._steps}"
        if self.cycle is None or self.cycle.response_complete:
            return f"ask {self._steps}"
        return "send" if self.cycle.more_body else ""

    def has_sent(self) -> bool:
        """Return whether the client has sent something that is not read yet, or has left."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.transport.get_extra_info("socket"), selectors.EVENT_READ)
            return bool(selector.select(0))

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


class Gentle:
    """A transport whose `close` lets a client who is still sending see the answer: see `end_gently`."""

    def __init__(self, transport: asyncio.Transport, is_sending: Callable[[], bool]):
        self._transport, self._is_sending = transport, is_sending
        self.ending = False  # what comes is not to be looked at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self.ending or self._transport.is_closing()

    def close(self) -> None:
        if not self._is_sending():
            self._transport.close()
        elif not self.ending:
            self.ending = True
            end_gently(self._transport)


def end_gently(transport: asyncio.Transport) -> None:
    """Send what is written and its end, and let the client send for a while: ended at once, they would see no answer.

    The protocol throws away what comes: to read 100 MB as HTTP would take a second.
    """
    transport.max_size = THROWN_AWAY_AT_ONCE
    with contextlib.suppress(OSError):  # the client has left
        transport.write_eof()
    asyncio.get_running_loop().call_later(SECONDS_TO_SEE_A_REFUSAL, transport.abort)


class Refused(asyncio.Protocol):
    """A connection that is answered 503. A few at a time end gently, the others at once."""

    def __init__(self, everybody: Everybody):
        self._refused = everybody.refused

    def answer(self, transport: asyncio.Transport) -> None:
        transport.set_protocol(self)
        transport.write(FULL)
        if len(self._refused) < REFUSED_AT_ONCE:
            self._refused.add(self)
            end_gently(transport)
        else:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._refused.discard(self)


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
