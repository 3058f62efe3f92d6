"""Which web pages may use the server: none but its own, unless it is told otherwise.

A page from elsewhere that a browser shows could reach a server that listens on this machine alone, in two ways: by a
request across origins, whose Origin names the page's; and by DNS rebinding, where the page's own host name comes to
mean 127.0.0.1, so that the Host is another than ours.
"""

import dataclasses
import ipaddress
import urllib.parse

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from . import rest

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclasses.dataclass(frozen=True)
class Access:
    """hosts: the names by which the server may be called, or None for any.  origins: whose pages may use it, or "*"."""

    hosts: frozenset[str] | None = None
    origins: tuple[str, ...] = ()


def access(address: str, more_hosts: list[str], origins: list[str]) -> Access:
    """Return who may use a server that listens on this address.

    On loopback, and wherever names are given, that is only who calls it by a known name.
    """
    known = LOCAL | {address} | {name.lower() if _is_ipv6(name) else host_name(name) for name in more_hosts}
    checked = bool(more_hosts) or ipaddress.ip_address(address).is_loopback
    return Access(known if checked else None, tuple(origins))


class Gate:
    """An ASGI application before another, which answers 400 to requests that a page from elsewhere may have made."""

    def __init__(self, app: ASGIApp, access: Access):
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(Headers(scope=scope)) if scope["type"] == "http" else None
        if problem is None:
            await self.app(scope, receive, send)
        else:
            await rest.error_response(400, problem, {"Connection": "close"})(scope, receive, send)

    def _problem(self, headers: Headers) -> str | None:
        """Return what is wrong with the Host or the Origin, if anything is."""
        host, origin, known = headers.get("host", ""), headers.get("origin"), self.access.hosts
        if known is None:
            return None
        if host and host_name(host) not in known:  # browsers always send one
            return (
                f"Expected the host {' or '.join(sorted(known))}. Received: {rest.shortened(host)}. To call this "
                "server by another name, start it with --allow-host NAME."
            )
        own = origin is None or origin.partition("://")[2].lower() == host.lower()
        if not own and not {"*", origin} & set(self.access.origins):
            return (
                f"Expected a request of this server's own page. Received: one of {rest.shortened(origin)}. To let the "
                "pages of others use it, start it with --cors ORIGIN."
            )
        return None


def _is_ipv6(name: str) -> bool:
    return name.count(":") > 1 and "[" not in name


def host_name(host: str) -> str:
    """Return the name in a Host header, without the port: "::1" of "[::1]:8501"."""
    try:
        return urllib.parse.urlsplit(f"//{host}").hostname or ""
    except ValueError:  # "[", say
        return ""
