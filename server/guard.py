"""Without tokens only this machine may call: checked by client address, by Host header and by Origin header.

The last two stop a web page in the user's browser from driving the coordinator (DNS rebinding, CSRF).
Plain ASGI, so that streams pass through untouched."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.handlers import answer
from server.settings import is_loopback


class LoopbackOnly:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = refusal(scope) if scope["type"] == "http" else ""
        if problem:
            await answer(403, "local_only", problem)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def refusal(scope: Scope) -> str:
    """Why this request is not from the local user, or an empty string."""
    client = (scope.get("client") or ("",))[0]
    headers = Headers(scope=scope)
    host, origin = _host(f"//{headers.get('host', '')}"), headers.get("origin")
    if not is_loopback(client):
        return f"without tokens this coordinator serves only this machine, not {client}; set HILNAS_AUTH=tokens"
    if not is_loopback(host):
        return f"without tokens this coordinator is served only as localhost or 127.0.0.1, not as {host[:200]!r}"
    if origin is not None and not is_loopback(_host(origin)):
        return f"a page of {origin[:200]} may not call this coordinator"
    return ""


def _host(url: str) -> str:
    """Empty when there is none or it cannot be parsed."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
