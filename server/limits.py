"""Limits on what a request may cost before it is authenticated: bytes, nesting, text, numbers, and paths that no
database can store. Bodies are counted as they arrive, so a false Content-Length gains nothing.

Plain ASGI, before parsing and authentication. Artifact uploads are streamed and have their own limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.handlers import answer

KIB, MIB = 1 << 10, 1 << 20
MAX_BODY = MIB
MAX_BODIES = {  # by the end of the path
    "/result": 16 * MIB, "/progress": 8 * MIB, "/comparisons": 8 * MIB, "/agents/enrol": 512 * KIB,
}  # fmt: skip
MAX_HELD = 256 * MIB  # of all bodies being served at once
MAX_DEPTH, MAX_PARTS = 32, 500_000
MAX_TEXT, MAX_KEY = 64 * KIB, KIB
MAX_NUMBER = 2**63  # limit of a 64-bit column
MAX_PATH, MAX_QUERY = 2 * KIB, 8 * KIB
INLINE = 64 * KIB  # larger bodies are checked off the event loop
API = "/api/"
UPLOADS = "/api/v1/artifacts/"


@dataclass(frozen=True)
class Refusal:
    status: int
    code: str
    message: str


class RequestLimits:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if refusal := check_address(scope):
            await _refuse(refusal, scope, receive, send)
        elif not scope["path"].startswith(API) or scope["path"].startswith(UPLOADS) or scope["method"] == "GET":
            await self.app(scope, receive, send)
        else:
            await self._with_body(scope, receive, send)

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        try:
            refusal = await self._read(body, scope, receive)
            if refusal is None and body:
                refusal = check_body(body) if len(body) <= INLINE else await run_sync(check_body, body)
            if refusal is not None:
                await _refuse(refusal, scope, receive, send)
            else:
                await self.app(scope, _replay(bytes(body), receive), send)
        finally:
            self._held -= len(body)

    async def _read(self, body: bytearray, scope: Scope, receive: Receive) -> Refusal | None:
        limit = limit_of(scope["path"])
        too_large = Refusal(413, "too_large", f"a request to {scope['path'][:200]} has at most {limit} bytes")
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
            return too_large
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return Refusal(400, "cut_off", "the request ended before its body was complete")
            chunk = message.get("body", b"")
            if len(body) + len(chunk) > limit:
                return too_large
            body += chunk
            self._held += len(chunk)
            if self._held > MAX_HELD:
                return Refusal(503, "busy", "too many large requests at once; retry in a moment")
            if not message.get("more_body", False):
                return None


def limit_of(path: str) -> int:
    return next((limit for end, limit in MAX_BODIES.items() if path.endswith(end)), MAX_BODY)


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Closes the connection: the rest of the body is not read."""
    headers = {"Connection": "close"} | ({"Retry-After": "2"} if refusal.status == 503 else {})
    await answer(refusal.status, refusal.code, refusal.message, headers)(scope, receive, send)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def check_address(scope: Scope) -> Refusal | None:
    """A Refusal if path, query or host is not usable."""
    path, query = scope["path"], scope.get("query_string", b"")
    if len(path) > MAX_PATH or len(query) > MAX_QUERY:
        return Refusal(414, "too_long", f"an address has at most {MAX_PATH} characters and {MAX_QUERY} of query")
    if "\x00" in path or b"\x00" in query or b"%00" in query:
        return Refusal(422, "malformed", "an address cannot hold the character NUL")
    headers = Headers(scope=scope)
    for name, text in (("Host", f"//{headers.get('host', '')}"), ("Origin", headers.get("origin", ""))):
        try:
            _ = urlsplit(text).hostname, urlsplit(text).port
        except ValueError:
            return Refusal(400, "malformed", f"the {name} header is not a valid host")
    return None


def check_body(body: bytes | bytearray) -> Refusal | None:
    """A Refusal if this JSON is not usable. Values are counted before they are parsed: a parser makes an object of
    each, which costs many times its bytes."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_PARTS:
        return Refusal(413, "too_large", f"a JSON body has at most {MAX_PARTS} values")
    try:
        value = from_json(bytes(body), allow_inf_nan=False)
    except ValueError as error:
        return Refusal(422, "malformed", f"the body is not valid JSON: {str(error)[:200]}")
    problem = _problem(value)
    return Refusal(422, "malformed", problem) if problem else None


def _problem(root: Any) -> str:
    waiting: list[tuple[Any, int]] = [(root, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            if problem := _text_problem(value, MAX_TEXT):
                return problem
        elif isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                return f"JSON may be nested {MAX_DEPTH} deep, this is deeper"
            if isinstance(value, dict):
                if problem := next(filter(None, (_text_problem(key, MAX_KEY) for key in value)), ""):
                    return problem
                waiting.extend((item, depth + 1) for item in value.values())
            else:
                waiting.extend((item, depth + 1) for item in value)
        elif isinstance(value, int):
            if not -MAX_NUMBER <= value < MAX_NUMBER:
                return "an integer has at most 64 bits"
        elif isinstance(value, float) and not math.isfinite(value):
            return "a number must be finite"
    return ""


def _text_problem(text: str, limit: int) -> str:
    if len(text) > limit:
        return f"a text here may have at most {limit} characters, this one has {len(text)}"
    return "text cannot hold the character NUL" if "\x00" in text else ""
