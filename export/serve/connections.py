"""Connections: fewer than there are descriptors, and none that keeps the server waiting for long.

It is the client's turn if a connection has no request yet, or a part of one, or an answer that nobody takes. A body has
a limit of its own, to which the client gets an answer: see bodies.py.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import selectors
import time
from typing import Any

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
SECONDS_TO_BE_HEARD = 0.2  # by whoever has come, or has an answer: what they send next may be on its way
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
    heard: "dict[Connection, float]" = dataclasses.field(default_factory=dict)  # the last to do something is at the end
    refused: "set[Refused]" = dataclasses.field(default_factory=set)

    def make_room(self) -> bool:
        """Return whether there is room for one more, once who has been silent for longest is ended if need be."""
        before = time.monotonic() - SECONDS_TO_BE_HEARD
        while len(self.heard) >= self.most:
            silent = itertools.takewhile(lambda one: self.heard[one] < before, self.heard)
            longest = next((one for one in silent if one.clients_turn() and not one.has_sent()), None)
            if longest is None:
                return False
            longest.end()
        return True


class Connection(H11Protocol):
    """A connection that ends if its client takes too long.

    If there are too many, the one whose client has been silent for longest ends. If all are being answered, or came
    only now, one more is refused.
    """

    def __init__(self, *arguments: Any, everybody: Everybody, **options: Any):
        super().__init__(*arguments, **options)
        self._everybody = everybody
        self._turn, self._since, self._steps = "", 0.0, 0
        self._timer: asyncio.TimerHandle | None = None
        self._ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        if not self._everybody.make_room():
            Refused(self._everybody).answer(transport)
            return
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        transport.max_size = READ_AT_ONCE
        self._everybody.heard[self] = time.monotonic()
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
        if self._body_is_refused():
            self._throw_away()
        else:
            super().data_received(data)

    def _body_is_refused(self) -> bool:
        """Return whether an answer is being sent although the body is not here: see `answers.Refusal`."""
        cycle = self.cycle
        return cycle is not None and cycle.response_started and cycle.more_body and not cycle.response_complete

    def _throw_away(self) -> None:
        """Look at nothing more that comes: to read 100 MB as HTTP takes a second. End the answer, and soon all."""
        if not self._ending:
            self._ending = True
            self.transport.max_size = THROWN_AWAY_AT_ONCE
            with contextlib.suppress(OSError):  # the client has left
                self.transport.write_eof()
            self.loop.call_later(SECONDS_TO_SEE_A_REFUSAL, self.end)

    def resume_writing(self) -> None:
        self._steps += 1
        self._did_something()
        super().resume_writing()

    def on_response_complete(self) -> None:
        self._steps += 1
        self._did_something()
        super().on_response_complete()

    def _did_something(self) -> None:
        if self._everybody.heard.pop(self, None) is not None:
            self._everybody.heard[self] = time.monotonic()

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


class Refused(asyncio.Protocol):
    """A connection that is answered 503. What comes is thrown away: to end at once would take the answer from them."""

    def __init__(self, everybody: Everybody):
        self._refused = everybody.refused

    def answer(self, transport: asyncio.Transport) -> None:
        transport.set_protocol(self)
        transport.write(FULL)
        if len(self._refused) < REFUSED_AT_ONCE:
            self._refused.add(self)
            with contextlib.suppress(OSError):  # the client has left
                transport.write_eof()
            asyncio.get_running_loop().call_later(SECONDS_TO_SEE_A_REFUSAL, transport.abort)
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
