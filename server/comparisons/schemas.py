"""Responses of /comparisons; what is posted is ``contracts.comparison.Comparison``."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from contracts.comparison import Comparison


class ComparisonSummary(BaseModel):
    id: str
    title: str
    fingerprint: str
    created_at: datetime


class ComparisonView(ComparisonSummary):
    """``comparison`` as it was posted."""

    comparison: Comparison
