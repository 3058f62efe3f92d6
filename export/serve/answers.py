"""Answers, sent a piece at a time, so that one that nobody takes is known to be there until its connection ends."""

from collections.abc import AsyncIterator, Callable

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from .bodies import throw_away

PIECE_BYTES = 16 * 2**10


class Answer(Response):
    """JSON that was written before. `taken` is called when the client has all but the last piece, or has left."""

    media_type = "application/json"

    def __init__(self, content: bytes, taken: Callable[[], None]):
        super().__init__(content)
        self._taken = taken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            body = memoryview(self.body)
            for start in range(0, len(body), PIECE_BYTES):  # `send` waits while the client has not taken the former
                piece = bytes(body[start : start + PIECE_BYTES])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._taken()


class Refusal:
    """An answer to a request whose body was not read to its end: sent at once, and the rest is thrown away for a while.

    Otherwise a client who is still sending would see a broken connection, and no answer.
    """

    def __init__(self, response: Response, unread: AsyncIterator[bytes]):
        self._response, self._unread = response, unread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_but_the_end(message: Message) -> None:
            await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

        await self._response(scope, receive, send_but_the_end)
        await throw_away(self._unread)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
