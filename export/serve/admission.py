"""Who is let in: memory is promised before it is taken, and what finds no room is refused at once, or waits its turn.

A request holds memory three times: its body while that comes (`Room`), what it is computed with (`Turns`), and its
answer until the client has taken it (`Room`). Bodies and answers depend on clients, who may be slow, so what finds no
room for them is refused; computing does not, so it waits.
"""

import asyncio
import collections
import contextlib
import ctypes
import threading
from collections.abc import AsyncIterator

from .rest import RequestError

SMALL_BYTES = 64 * 2**10  # what is no larger has room of its own, so that large things never keep it out
SMALL_ROOM = 8 * 2**20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, LARGE_BLOCK = -1, -3, 256 * 2**10  # names of malloc.h; bytes


class Room:
    """Bytes that are held at once; `large` of them by what is large."""

    def __init__(self, what: str, large: int):
        self._what = what
        self._free = {"small": SMALL_ROOM, "large": large}
        self._lock = threading.Lock()

    def change(self, old: int, new: int) -> None:
        """Let somebody who holds old bytes hold new ones. Raise RequestError if there is no room: nothing changes."""
        with self._lock:
            free = dict(self._free)
            free[_size(old)] += old
            free[_size(new)] -= new
            if free[_size(new)] < 0 and new > old:
                raise RequestError(503, f"Expected fewer {_size(new)} {self._what} at once. Received: more. Try again.")
            self._free = free


def _size(number: int) -> str:
    return "small" if number <= SMALL_BYTES else "large"


class Holding:
    """What one request holds in a room, until `release`."""

    def __init__(self, room: Room):
        self._room, self.bytes = room, 0

    def resize(self, size: int) -> None:
        self._room.change(self.bytes, size)
        self.bytes = size

    def release(self) -> None:
        self.resize(0)


class Turns:
    """Bytes that are computed with at once: first come, first served."""

    def __init__(self, size: int):
        self.size = self._free = size
        self._queue: collections.deque[tuple[int, asyncio.Future[None]]] = collections.deque()

    @contextlib.asynccontextmanager
    async def turn(self, cost: int) -> AsyncIterator[None]:
        """Wait until there is room for so many bytes, `size` at most, and hold them for the block."""
        if self._queue or cost > self._free:
            mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append((cost, mine))
            try:
                await mine
            except asyncio.CancelledError:
                if mine.done() and not mine.cancelled():
                    self._give_back(cost)
                raise
        else:
            self._free -= cost
        try:
            yield
        finally:
            self._give_back(cost)

    def _give_back(self, cost: int) -> None:
        self._free += cost
        while self._queue and (self._queue[0][1].cancelled() or self._queue[0][0] <= self._free):
            cost, waiting = self._queue.popleft()
            if not waiting.cancelled():
                self._free -= cost
                waiting.set_result(None)


def memory_to_compute(body: bytes | bytearray) -> int:
    """Return how many bytes it takes at most, about, to make arrays of a body in JSON.

    A number takes 8 bytes in its list and 24 of its own, 8 in an array of float64 and 4 in each of two of float32; an
    empty list 80, and it is written with two characters and a comma; a name 60 and more of its own, 50 in its object.
    """
    if len(body) <= SMALL_BYTES:
        return 28 * len(body)
    lists, names = body.count(b"[") + body.count(b"{"), body.count(b":")
    return len(body) + 56 * body.count(b",") + 80 * lists + 120 * names


def give_memory_back() -> None:
    """Have the C library give large blocks back to the system as soon as they are free, if it is glibc.

    By itself it raises its bounds to 32 MB as such blocks are freed. Then numbers of many requests lie in the heaps of
    many threads, where a few that are in use keep the rest. See mallopt(3).
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # on macOS and Windows
        for bound in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(bound, LARGE_BLOCK)
