"""API tokens in requests and responses. The secret is shown once."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TokenRequest(BaseModel):
    """``user`` runs studies, ``admin`` also creates tokens, ``agent`` only transfers artifacts (devices enrol
    instead)."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "ci of the phone team", "scope": "user"}]}
    )
    name: str = Field(min_length=1, max_length=120)
    scope: Literal["admin", "user", "agent"] = "user"


class TokenView(BaseModel):
    id: str
    name: str
    scope: Literal["admin", "user", "agent"]
    created_at: datetime


class NewToken(TokenView):
    secret: str
