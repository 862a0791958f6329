"""Secrets are random, shown once and stored as sha256 (they carry 192 bits: a slow hash would add nothing)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from server.auth import repository
from server.auth.schemas import NewToken, TokenRequest
from server.context import Context, new_id
from server.errors import NotAuthenticated, NotFound
from server.settings import Settings
from server.tables import TokenRow

Scope = Literal["admin", "user", "agent"]


@dataclass(frozen=True)
class Principal:
    """The caller. Only a device's own credential carries ``agent_id`` and ``device_id``."""

    scope: Scope
    name: str
    agent_id: str = ""
    device_id: str = ""


@dataclass(frozen=True)
class Agent:
    agent_id: str
    device_id: str


def new_secret(prefix: str) -> str:
    return f"{prefix}_{secrets.token_urlsafe(24)}"


def hash_secret(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def authenticate(session: Session, settings: Settings, secret: str | None) -> Principal:
    """The owner of ``secret``. Without one: the single local user, or NotAuthenticated in token mode."""
    if secret is None:
        if settings.auth == "local":
            return Principal("admin", "local")
        raise NotAuthenticated("this coordinator needs a token: send it as `Authorization: Bearer <token>`")
    if settings.admin_token and hmac.compare_digest(secret.encode(), settings.admin_token.encode()):
        return Principal("admin", "environment")
    agent = repository.find_agent(session, hash_secret(secret))
    if agent is not None:
        return Principal("agent", agent.id, agent.id, agent.device_id)
    token = repository.find_token(session, hash_secret(secret))
    if token is None:
        raise NotAuthenticated("this token is unknown or was revoked; ask an administrator for a new one")
    return Principal(token.scope, token.name)  # type: ignore[arg-type]


def create_token(session: Session, ctx: Context, request: TokenRequest) -> NewToken:
    secret = new_secret(f"hl{request.scope[0]}")
    row = TokenRow(
        id=new_id("token"), name=request.name, scope=request.scope, secret_hash=hash_secret(secret),
        created_at=ctx.now(),
    )  # fmt: skip
    session.add(row)
    return NewToken(id=row.id, name=row.name, scope=request.scope, created_at=row.created_at, secret=secret)


def revoke_token(session: Session, ctx: Context, token_id: str) -> None:
    row = session.get(TokenRow, token_id)
    if row is None:
        raise NotFound(f"there is no token {token_id!r}; GET /api/v1/tokens lists them")
    row.revoked_at = row.revoked_at or ctx.now()
