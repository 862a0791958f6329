"""/comparisons: results of ``hilnas compare`` that someone published."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from contracts.comparison import Comparison
from contracts.values import MAX_INTEGER
from server.auth.dependencies import User
from server.comparisons import repository
from server.comparisons.schemas import ComparisonSummary, ComparisonView
from server.context import Ctx
from server.responses import NOT_FOUND
from server.tables import ComparisonRow

router = APIRouter(prefix="/comparisons", tags=["comparisons"])


@router.get("")
def list_comparisons(
    ctx: Ctx,
    user: User,
    fingerprint: Annotated[str | None, Query(max_length=64, description="of the device")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=MAX_INTEGER)] = 0,
) -> list[ComparisonSummary]:
    """Newest first."""
    with ctx.database.read() as session:
        rows = repository.newest_first(session, fingerprint, limit, offset)
        return [ComparisonSummary.model_validate(row, from_attributes=True) for row in rows]


@router.post("", status_code=201)
def publish_comparison(comparison: Comparison, ctx: Ctx, user: User) -> ComparisonView:
    """Keeps a result of `hilnas compare`, raw samples included; the same result is kept once."""
    with ctx.database.write() as session:
        return _view(repository.add(session, ctx.now(), comparison))


@router.get("/{comparison_id}", responses=NOT_FOUND)
def get_comparison(comparison_id: str, ctx: Ctx, user: User) -> ComparisonView:
    """The result as it was posted."""
    with ctx.database.read() as session:
        return _view(repository.get_or_raise(session, comparison_id))


def _view(row: ComparisonRow) -> ComparisonView:
    summary = ComparisonSummary.model_validate(row, from_attributes=True)
    return ComparisonView(**summary.model_dump(), comparison=Comparison.model_validate(row.body))
