"""Scopes as parameter types: an endpoint with ``user: User`` is open to users and administrators only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Header

from server.auth.service import Agent, Principal, authenticate
from server.context import Ctx
from server.errors import NotAllowed, NotAuthenticated


def _principal(ctx: Ctx, authorization: Annotated[str | None, Header(include_in_schema=False)] = None) -> Principal:
    with ctx.database.read() as session:
        return authenticate(session, ctx.settings, _bearer(authorization))


def _bearer(authorization: str | None) -> str | None:
    if authorization is None:
        return None
    kind, _, secret = authorization.partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise NotAuthenticated("the Authorization header must read `Bearer <token>`")
    return secret.strip()


def _scoped(*scopes: str) -> Callable[[Principal], Principal]:
    def check(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
        if principal.scope not in scopes:
            raise NotAllowed(f"this needs a token of scope {' or '.join(scopes)}, yours is {principal.scope}")
        return principal

    return check


def _agent(principal: Annotated[Principal, Depends(_principal)]) -> Agent:
    if not principal.device_id:
        raise NotAllowed("only an enrolled device may do this: enrol with POST /api/v1/agents/enrol first")
    return Agent(principal.agent_id, principal.device_id)


Admin = Annotated[Principal, Depends(_scoped("admin"))]
User = Annotated[Principal, Depends(_scoped("admin", "user"))]
Anyone = Annotated[Principal, Depends(_scoped("admin", "user", "agent"))]
DeviceAgent = Annotated[Agent, Depends(_agent)]
