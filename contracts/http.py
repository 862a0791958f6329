"""The HTTP client for every call to a coordinator; every failure is one of two errors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from foundation.errors import HilnasError
from foundation.files import atomic_writer

DEFAULT_URL = "http://127.0.0.1:8000"
RETRY_S = 1.0


class Unreachable(HilnasError):
    """The coordinator does not answer at its address."""

    code = "coordinator_unreachable"
    exit_code = 4


class Refused(HilnasError):
    """The coordinator answered with an error: its HTTP ``status``, its own ``code`` and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class RestClient:
    """The public REST API. ``url`` defaults to HILNAS_URL, ``token`` to HILNAS_TOKEN (not needed while the
    coordinator runs in local single-user mode). Retries end once ``stopping`` returns True."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = 30.0,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.url = (url or os.environ.get("HILNAS_URL") or DEFAULT_URL).rstrip("/")
        self._http = httpx.Client(base_url=f"{self.url}/api/v1", timeout=timeout_s)
        self._stopping = stopping
        if token := token or os.environ.get("HILNAS_TOKEN"):
            self.authorize(token)

    def authorize(self, token: str) -> None:
        self._http.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, **params: Any) -> Any:
        return _body(self.request("GET", path, params=params))

    def post(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        return _body(self.request("POST", path, json=body, headers=headers))

    def request(self, method: str, path: str, *, retry: bool = False, **options: Any) -> httpx.Response:
        """Raises Unreachable or Refused. With ``retry``, an unreachable or failing coordinator is retried until it
        answers or this process is stopping."""
        while True:
            try:
                reply = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if not retry or self._stopping():
                    raise Unreachable(
                        f"no coordinator answers at {self.url} ({error}); start one with `hilnas serve`"
                    ) from error
            else:
                if reply.status_code < 500 or not retry or self._stopping():
                    raise_for_status(reply)
                    return reply
            self.pause()

    def download(self, path: str, target: Path) -> None:
        """``target`` appears when all of it is there. Raises Unreachable or Refused."""
        try:
            with self._http.stream("GET", path) as reply, atomic_writer(target) as file:
                raise_for_status(reply)
                for chunk in reply.iter_bytes():
                    file.write(chunk)
        except httpx.TransportError as error:
            raise Unreachable(f"{self.url} did not send all of {path} ({error})") from error

    def pause(self) -> None:
        time.sleep(RETRY_S)


def raise_for_status(reply: httpx.Response) -> None:
    """Raises Refused with the coordinator's own code and message."""
    if reply.status_code < 400:
        return
    reply.read()
    try:
        body = reply.json()
    except ValueError:  # a proxy's page, or a truncated response
        body = None
    body = body if isinstance(body, dict) else {}
    code, message = str(body.get("code", "http_error")), str(body.get("message", reply.text[:300]))
    raise Refused(reply.status_code, code, message)


def _body(reply: httpx.Response) -> Any:
    return reply.json() if reply.content else None
