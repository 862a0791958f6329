"""Looking up hashed secrets; revoked ones are not found."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from server.tables import AgentRow, TokenRow


def find_agent(session: Session, secret_hash: str) -> AgentRow | None:
    query = select(AgentRow).where(AgentRow.secret_hash == secret_hash, AgentRow.revoked_at.is_(None))
    return session.scalars(query).one_or_none()


def find_token(session: Session, secret_hash: str) -> TokenRow | None:
    query = select(TokenRow).where(TokenRow.secret_hash == secret_hash, TokenRow.revoked_at.is_(None))
    return session.scalars(query).one_or_none()


def list_tokens(session: Session) -> list[TokenRow]:
    return list(session.scalars(select(TokenRow).where(TokenRow.revoked_at.is_(None)).order_by(TokenRow.created_at)))


def revoke_agents(session: Session, device_id: str, now: datetime) -> None:
    session.execute(
        update(AgentRow).where(AgentRow.device_id == device_id, AgentRow.revoked_at.is_(None)).values(revoked_at=now)
    )
