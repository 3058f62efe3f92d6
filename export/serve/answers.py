"""Answers, sent a piece at a time, so that one that nobody takes is known to be there until its connection ends."""

from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

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
