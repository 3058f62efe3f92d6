"""Connections of uvicorn that do not wait for ever, and that answer in JSON where no application is asked yet."""

import json

from uvicorn.protocols.http.auto import AutoHTTPProtocol


def watched(seconds):
    """uvicorn's HTTP protocol, with an end for connections on which nothing gets on.

    uvicorn ends idle connections between requests, but waits for ever for the first request, for headers that come byte
    by byte, and for a client that does not read its answer. Here each has `seconds`, or twice that at most.
    """

    class Watched(AutoHTTPProtocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            self._last_request = None
            self._watch = self.loop.call_later(seconds, self._look)

        def connection_lost(self, error):
            self._watch.cancel()
            super().connection_lost(error)

        def _look(self):
            waiting = self.cycle is None or self.cycle.response_complete
            if waiting and self.cycle is self._last_request:
                if self.transport.is_closing():  # the answer is not taken
                    self.transport.abort()
                    return
                self._end(408, f"Expected a request within {seconds} s. Received: none, or a part.")
            self._last_request = self.cycle
            self._watch = self.loop.call_later(seconds, self._look)

        def send_400_response(self, message):
            self._end(400, message)

        def _end(self, status, message):
            reason = {400: "Bad Request", 408: "Request Timeout"}[status]
            body = json.dumps({"error": message})
            self.transport.write(
                f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                f"Connection: close\r\n\r\n{body}".encode()
            )
            self.transport.close()

    return Watched
