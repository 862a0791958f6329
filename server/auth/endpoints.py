"""/tokens: created, listed and revoked by administrators."""

from __future__ import annotations

from fastapi import APIRouter

from server.auth import repository, service
from server.auth.dependencies import Admin
from server.auth.schemas import NewToken, TokenRequest, TokenView
from server.context import Ctx
from server.responses import NOT_FOUND

router = APIRouter(prefix="/tokens", tags=["tokens"])


@router.post("", status_code=201)
def create_token(request: TokenRequest, ctx: Ctx, admin: Admin) -> NewToken:
    """Creates an API token. Its secret is shown only in this response."""
    with ctx.database.write() as session:
        return service.create_token(session, ctx, request)


@router.get("")
def list_tokens(ctx: Ctx, admin: Admin) -> list[TokenView]:
    with ctx.database.read() as session:
        return [TokenView.model_validate(row, from_attributes=True) for row in repository.list_tokens(session)]


@router.delete("/{token_id}", status_code=204, responses=NOT_FOUND)
def revoke_token(token_id: str, ctx: Ctx, admin: Admin) -> None:
    """The token stops working at once; revoking again changes nothing."""
    with ctx.database.write() as session:
        service.revoke_token(session, ctx, token_id)
