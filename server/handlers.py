"""Maps exceptions to responses: ``{"code", "message"}`` with one sentence, never a traceback."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException

from contracts.values import clean_text
from foundation.errors import HilnasError, InvalidConfig
from server.errors import DISK_FULL_ERRNOS, ApiError, disk_full

log = structlog.get_logger(__name__)
MAX_MESSAGE, MAX_GIVEN = 1000, 120  # characters of a message, and of a value quoted in it


def install_handlers(app: FastAPI) -> None:
    app.add_exception_handler(HilnasError, _explained)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(OSError, _system)
    app.add_exception_handler(HTTPException, _http)
    for kind in (DataError, OverflowError, UnicodeError):
        app.add_exception_handler(kind, _refused_by_database)
    app.add_exception_handler(Exception, _unexpected)


def answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The message may quote what the user gave, so it is cleaned and cut."""
    shown = clean_text(message, MAX_MESSAGE)
    return JSONResponse({"code": code, "message": shown}, status_code=status, headers=headers)


def _explained(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HilnasError)
    if isinstance(error, ApiError):
        challenge = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
        return answer(error.status, error.code, str(error), {**error.headers, **challenge})
    return answer(400 if isinstance(error, InvalidConfig) else 409, error.code, str(error))


def _malformed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return answer(422, "malformed", sentence_of(list(error.errors())))


def sentence_of(errors: list[Any]) -> str:
    """The first problem in one sentence, with its location and the given value."""
    first: dict[str, Any] = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "header", "function-wrap"))
    if first["type"] == "value_error":
        text = str(first["msg"]).removeprefix("Value error, ")
    else:
        given = first.get("input")
        shown = f", got {_shown(given)}" if isinstance(given, (str, int, float, bool)) else ""
        text = f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}{shown}" if where else first["msg"]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return text + more


def _shown(given: object) -> str:
    text = repr(given[: MAX_GIVEN + 1] if isinstance(given, str) else given)
    return text if len(text) <= MAX_GIVEN else f"{text[:MAX_GIVEN]}…"


def _refused_by_database(request: Request, error: Exception) -> JSONResponse:
    """The last line of defence: a value that passed all checks of its route but does not fit its column."""
    log.warning("value_refused", path=request.scope["path"], error=type(error).__name__)
    return answer(422, "malformed", "a value in this request is too large or has characters that cannot be stored")


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("request_failed", path=request.scope["path"], exc_info=error)
    return answer(500, "internal_error", "the coordinator failed to handle this request; see its log")


def _database(request: Request, error: Exception) -> JSONResponse:
    text = str(getattr(error, "orig", error))
    if "full" in text or "No space left" in text:
        full = disk_full("this change")
        return answer(full.status, full.code, str(full))
    log.error("database_unavailable", error=text)
    return answer(503, "database_unavailable", f"the database did not answer ({text.splitlines()[0]}); try again",
                  {"Retry-After": "2"})  # fmt: skip


def _system(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    if error.errno in DISK_FULL_ERRNOS:
        full = disk_full("this")
        return answer(full.status, full.code, str(full))
    log.error("request_failed", path=request.scope["path"], exc_info=error)
    return answer(500, "internal_error", f"the coordinator failed to handle this request: {error.strerror or error}")


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:200]
    known = {
        404: ("not_found", f"there is nothing at {path}; /docs lists all endpoints"),
        405: ("method_not_allowed", f"{path} does not support {request.method}; see /docs"),
    }
    code, message = known.get(error.status_code, ("http_error", str(error.detail)))
    return answer(error.status_code, code, message, dict(error.headers or {}))
