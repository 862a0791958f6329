"""Responses of the artifact endpoints."""

from __future__ import annotations

from pydantic import BaseModel


class ArtifactView(BaseModel):
    sha256: str
    num_bytes: int
    media_type: str


class PartialUpload(BaseModel):
    """``offset``: continue with ``Content-Range: bytes <offset>-.../<total>``."""

    sha256: str
    offset: int
    num_bytes: int
