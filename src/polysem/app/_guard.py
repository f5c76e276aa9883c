"""Who may speak to the explorer: nobody but the pages that it served itself, and with a token beyond this machine."""

import hmac
import ipaddress
import socket
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "polysem-token"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # Plotly writes styles of its own
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether an address or name can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Access:
    """Where the explorer listens and who may speak to it.

    Attributes:
        host: address that it binds to.
        port: its port.
        token: what a request from elsewhere must show; None where the address is a loopback one.
        largest_body: bytes that a request may carry.
        names: names under which it may be called.
    """

    host: str
    port: int
    token: str | None
    largest_body: int
    names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Collect the names: loopback ones, or those of this machine where it listens to others."""
        names = {"localhost", "127.0.0.1", "[::1]"}
        if not is_loopback(self.host):
            names |= {self.host, socket.gethostname(), socket.getfqdn()}
        object.__setattr__(self, "names", frozenset(f"{name}:{self.port}".lower() for name in names))

    def may_be_called(self, host: str) -> bool:
        """Whether the Host header names this server, and not a name that somebody else bends to this address.

        An address cannot be bent: where the server listens to others, every one with its port will do.
        """
        if host.lower() in self.names:
            return True
        name, _, port = host.rpartition(":")
        if is_loopback(self.host) or port != str(self.port):
            return False
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


class Guard:
    """Refuse what does not come from the explorer's own pages, and say in every answer what pages may do.

    Host must be a name of this server (a foreign name that resolves here is an attack by rebinding); Origin, where a
    browser sends one, must be the same, and a browser that says a request comes from another site is believed. Beyond
    loopback a token is needed, shown once in the address and kept as a cookie from then on. Bodies are cut off at
    their limit whatever their declared length.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no web sockets here
        refused = self._refused(scope)

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if refused is not None:
            await refused(scope, receive, secured)
            return
        await self._app(scope, self._bounded(receive), secured)

    def _refused(self, scope: Scope) -> Response | None:
        """The answer to a request that may not pass."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._access.may_be_called(host):
            return PlainTextResponse("This server is not called so.", 421)
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            return PlainTextResponse("Requests from other sites are refused.", 403)
        opening = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if not opening and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return PlainTextResponse("Requests from other sites are refused.", 403)
        declared = headers.get("content-length", "0")
        if not declared.isascii() or not declared.isdigit():
            return PlainTextResponse("Content-Length must be a number.", 400)
        if len(declared) > 18 or int(declared) > self._access.largest_body:
            return PlainTextResponse(self._too_long, 413)
        return self._without_token(scope, headers)

    @property
    def _too_long(self) -> str:
        return f"At most {self._access.largest_body:,} bytes are taken."

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        token = self._access.token
        if token is None or _same(_cookie(headers), token):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(query).get("token", "")
        if not _same(given, token):
            return PlainTextResponse("Open the address with the token that `polysem explore` has printed.", 401)
        rest = urlencode([pair for pair in query if pair[0] != "token"])
        answer = RedirectResponse(f"{scope['path']}?{rest}" if rest else scope["path"], 303)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return answer

    def _bounded(self, receive: Receive) -> Receive:
        left = self._access.largest_body

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:  # whatever was declared
                raise HTTPException(413, self._too_long)
            return message

        return bounded


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())
