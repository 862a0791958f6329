"""The public REST API for commands: one small client whose errors are sentences."""

from __future__ import annotations

import os
from typing import Any

import httpx

from nas.contracts.errors import HilnasError

DEFAULT_URL = "http://127.0.0.1:8000"


class Unreachable(HilnasError):
    code = "coordinator_unreachable"
    exit_code = 4


class Refused(HilnasError):
    """The coordinator answered with an error; ``status`` is HTTP's, ``code`` its own."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Rest:
    """``token`` (or HILNAS_TOKEN) is needed unless the coordinator runs in local single-user mode."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self.url = (url or os.environ.get("HILNAS_URL") or DEFAULT_URL).rstrip("/")
        token = token or os.environ.get("HILNAS_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=30.0)

    def get(self, path: str, **params: Any) -> Any:
        return self._call("GET", path, params=params)

    def post(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        return self._call("POST", path, json=body, headers=headers)

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        try:
            reply = self._http.request(method, path, **kwargs)
        except httpx.TransportError as error:
            raise Unreachable(
                f"no coordinator answers at {self.url} ({error}); start one with `hilnas serve`"
            ) from error
        if reply.status_code >= 400:
            body = reply.json() if "json" in reply.headers.get("content-type", "") else {}
            raise Refused(reply.status_code, str(body.get("code", "")), str(body.get("message", reply.text[:300])))
        return reply.json() if reply.content else None
