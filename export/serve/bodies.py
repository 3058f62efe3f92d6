"""The body of a request, read with bounds on its size, on the time that it takes, and on what it unpacks to."""

import asyncio
import collections
import zlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from .admission import SMALL_BYTES, Holding
from .rest import RequestError

PIECES_A_ROUND = 8  # of large bodies, that are read in one round of the event loop
UNPACKED_AT_ONCE = 64 * 2**10  # bytes; then others have their turn


class Reader:
    """Reads bodies of `most` bytes at most, that come within so many seconds."""

    def __init__(self, most: int, seconds: float):
        self._most, self._seconds, self._pace = most, seconds, Pace()

    async def __call__(self, request: Request, holding: Holding) -> bytearray:
        """Return the body, unpacked. `holding` holds its Content-Length at once, and more as it comes.

        Raises:
            RequestError: it is too large, packed or unpacked, or too slow, or broken, or packed in a way that is
                unknown, or there is no room for it. The rest of it is `unread`.
        """
        stream = self._pace.paced(request.stream())
        content = bytearray()  # one block that grows: pieces would be kept between others' for as long
        try:
            declared = request.headers.get("content-length", "")[:20]
            length = int(declared) if declared.isdecimal() else 0
            self._check_size(length)
            holding.resize(length)
            pieces = decoded(stream, request.headers.get("content-encoding", "identity").lower(), self._most)
            async with asyncio.timeout(self._seconds):
                async for piece in pieces:
                    self._check_size(len(content) + len(piece))
                    content += piece
                    if len(content) > holding.bytes:
                        holding.resize(len(content))
        except TimeoutError as error:
            raise RequestError(408, f"Expected the body within {self._seconds} s. Received: a part.") from error
        except ClientDisconnect as error:
            raise RequestError(400, "Expected the complete body. Received: a part, then the client left.") from error
        except RequestError as error:
            error.unread = True
            raise
        return content

    def _check_size(self, size: int) -> None:
        if size > self._most:
            raise RequestError(413, f"Expected a body of {self._most} bytes or fewer. Received: {size} or more.")


class Pace:
    """Lets a few large bodies at a time be read on, so that all others have their turn in each round of the loop."""

    def __init__(self) -> None:
        self._left = PIECES_A_ROUND
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()

    async def paced(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the pieces of a body as they come, and as it is its turn once it is large."""
        size = 0
        async for piece in stream:
            yield piece
            size += len(piece)
            if size > SMALL_BYTES:
                await self._turn()

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        if self._left == PIECES_A_ROUND:
            loop.call_soon(self._next_round)
        self._left -= 1
        if self._left < 0:
            mine = loop.create_future()
            self._waiting.append(mine)
            await mine

    def _next_round(self) -> None:
        now = [self._waiting.popleft() for _ in range(min(PIECES_A_ROUND, len(self._waiting)))]
        for waiting in now:
            if not waiting.done():  # it may have been too slow
                waiting.set_result(None)
        self._left = PIECES_A_ROUND - len(now)
        if now:
            asyncio.get_running_loop().call_soon(self._next_round)


def decoded(stream: AsyncIterator[bytes], encoding: str, most: int) -> AsyncIterator[bytes]:
    """Return the pieces of a body that came with this Content-Encoding."""
    if encoding == "identity":
        return stream
    if encoding in ("gzip", "x-gzip"):
        return unpacked(stream, most)
    raise RequestError(415, f"Expected a Content-Encoding of gzip, or none. Received: {encoding[:60]!r}.")


async def unpacked(stream: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """Yield what gzip packed, a little at a time: a kilobyte can hold a megabyte. At most `most` bytes are taken in."""
    unpacking, received = zlib.decompressobj(wbits=31), 0
    async for packed in stream:
        received += len(packed)
        if received > most:
            raise RequestError(413, f"Expected a body of {most} bytes or fewer. Received: more.")
        while packed:
            if unpacking.eof:  # gzip files can follow each other
                unpacking = zlib.decompressobj(wbits=31)
            try:
                piece = unpacking.decompress(packed, UNPACKED_AT_ONCE)
            except zlib.error as error:
                raise RequestError(400, f"Expected a body that gzip packed. Received: another ({error}).") from error
            packed = unpacking.unused_data if unpacking.eof else unpacking.unconsumed_tail
            yield piece
            await asyncio.sleep(0)
    if received and not unpacking.eof:
        raise RequestError(400, "Expected a complete body that gzip packed. Received: a part.")
