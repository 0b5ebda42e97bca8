"""Who may read the pages: this machine alone, whoever has the token, or whoever a proxy lets through."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

COOKIE: Final = "trainer_ui"
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Next = Callable[[Request], Awaitable[Response]]


class Access:
    """Checks each request, and adds the headers of each answer.

    `local`: it listens on this machine's own address, where a web page elsewhere may have its own name resolve to it:
    so the name that was asked for counts. `proxied`: something before it has checked who asks. Otherwise `token` is
    asked for: it works once, in the address that is printed, and leaves a cookie that lasts as long as the server.
    """

    def __init__(self, *, host: str, proxied: bool = False) -> None:
        self.local = is_local(host)
        self.token = "" if self.local or proxied else secrets.token_urlsafe(24)
        self._cookie = secrets.token_urlsafe(24)
        self._used = False

    async def __call__(self, request: Request, call_next: Next) -> Response:
        """Answer a request, or refuse it."""
        response = self._refuse(request) or await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def _refuse(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("this server only shows runs: GET and HEAD", 405, {"Allow": "GET, HEAD"})
        if request.scope["path"] == "/healthz":  # not `request.url`: that is made of the Host header too
            return None
        if self.local and not is_local(_host_name(request.headers.get("host", ""))):
            return PlainTextResponse("ask for it as localhost or 127.0.0.1", 403)
        return self._ask_token(request) if self.token else None

    def _ask_token(self, request: Request) -> Response | None:
        if hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self._cookie.encode()):
            return None
        given = request.query_params.get("token", "")
        if request.method == "GET" and not self._used and hmac.compare_digest(given.encode(), self.token.encode()):
            self._used = True
            response = RedirectResponse("/", 303)  # the token leaves the address bar
            response.set_cookie(COOKIE, self._cookie, httponly=True, samesite="strict")
            return response
        why = "its token was used: restart it for a new one" if self._used else "open the address that it printed"
        return PlainTextResponse(f"trainer ui: {why}", 403)


def _host_name(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:  # a bracket that is not closed
        return ""


def is_local(host: str) -> bool:
    """Return whether a name or an address is this machine's own."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
