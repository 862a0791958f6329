"""The shape of every error response, for OpenAPI and for the handlers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class ErrorBody(BaseModel):
    """``code`` is stable and machine readable, ``message`` one sentence for people."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"code": "not_found", "message": "there is no study 'study-1'; ..."}]}
    )
    code: str
    message: str


Responses = dict[int | str, dict[str, Any]]


def _responses(**descriptions: str) -> Responses:
    return {int(status[1:]): {"model": ErrorBody, "description": text} for status, text in descriptions.items()}


COMMON: Responses = _responses(
    _400="an invalid value", _401="missing or unknown token", _403="the token's scope does not allow this",
    _422="a malformed request",
)  # fmt: skip
NOT_FOUND: Responses = _responses(_404="unknown id")
CONFLICT: Responses = _responses(_409="not possible in the current state")
GONE: Responses = _responses(_410="used up or expired")
RANGE: Responses = _responses(_416="no such bytes, or not the next ones")
TOO_LARGE: Responses = _responses(_413="larger than the coordinator accepts")
DISK_FULL: Responses = _responses(_507="the coordinator's disk is full")
