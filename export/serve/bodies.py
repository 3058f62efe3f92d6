"""The body of a request, read with bounds on its size, on the time that it takes, and on what it unpacks to."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Callable

from starlette.requests import ClientDisconnect, Request

from .rest import RequestError

SECONDS_TO_READ_A_REFUSED_BODY = 2  # so that a client who is still sending sees the answer, and no broken connection
UNPACKED_AT_ONCE = 64 * 2**10  # bytes; then others have their turn

Reserve = Callable[[int], None]  # raises RequestError if there is no room for so many bytes more


async def read(request: Request, most: int, seconds: float, reserve: Reserve) -> bytes:
    """Return the body, unpacked, counted while it comes; a Content-Length that is too large is refused before.

    Raises:
        RequestError: it is too large, packed or unpacked, or too slow, or broken, or packed in a way that is unknown.
    """
    stream = request.stream()
    chunks = []
    try:
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > most:
            raise RequestError(413, f"Expected a body of {most} bytes or fewer. Received: {declared[:20]}.")
        pieces = decoded(stream, request.headers.get("content-encoding", "identity").lower(), most)
        async with asyncio.timeout(seconds):
            async for piece in pieces:
                reserve(len(piece))
                chunks.append(piece)
    except TimeoutError as error:
        raise RequestError(408, f"Expected the body within {seconds} s. Received: a part.") from error
    except ClientDisconnect as error:
        raise RequestError(400, "Expected the complete body. Received: a part, then the client left.") from error
    except RequestError:
        chunks.clear()
        if request.headers.get("expect", "").lower() != "100-continue":
            await throw_away(stream)
        raise
    return b"".join(chunks)


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


async def throw_away(stream: AsyncIterator[bytes]) -> None:
    """Read what is left of a body for a while, and keep nothing."""
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(SECONDS_TO_READ_A_REFUSED_BODY):
            async for _ in stream:
                pass
