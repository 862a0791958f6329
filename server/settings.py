"""The coordinator's configuration. The environment is read once, in ``Settings.from_environment``."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from foundation.errors import InvalidConfig


class Settings(BaseModel):
    """``auth`` is ``local`` (one user, loopback only, no tokens) or ``tokens`` (every call needs one)."""

    model_config = ConfigDict(frozen=True)
    var: Path = Path("var")
    database_url: str = ""  # empty: SQLite inside ``var``
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    auth: Literal["local", "tokens"] = "local"
    admin_token: str = Field(default="", repr=False)
    migrate: bool = True
    lease_s: float = Field(default=60.0, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    max_wait_s: float = Field(default=60.0, ge=0)
    offline_after_s: float = Field(default=60.0, gt=0)
    enrolment_ttl_s: float = Field(default=900.0, gt=0)
    max_artifact_bytes: int = Field(default=32 << 30, ge=1)  # per file: a checkpoint of 1.2B parameters has 5 GB
    max_store_bytes: int = Field(default=1 << 40, ge=1)  # of all files together
    max_events: int = Field(default=100_000, ge=100)  # kept per study

    @model_validator(mode="after")
    def _loopback_or_tokens(self) -> Settings:
        if self.auth == "local" and not is_loopback(self.host):
            raise InvalidConfig(
                f"without tokens the coordinator binds to loopback only, got host {self.host!r};"
                " set HILNAS_AUTH=tokens and HILNAS_ADMIN_TOKEN to serve other machines"
            )
        if self.auth == "tokens" and 0 < len(self.admin_token) < 16:
            raise InvalidConfig("HILNAS_ADMIN_TOKEN needs at least 16 characters, e.g. from `openssl rand -hex 24`")
        return self

    @property
    def url(self) -> str:
        """The SQLAlchemy URL; SQLite lives in ``var`` unless a URL was given."""
        return self.database_url or f"sqlite:///{self.var / 'hilnas.sqlite3'}"

    @property
    def heartbeat_s(self) -> float:
        """Four heartbeats per lease: three may be lost."""
        return self.lease_s / 4

    @property
    def artifacts_dir(self) -> Path:
        return self.var / "artifacts"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Reads HILNAS_VAR, HILNAS_DATABASE_URL, HILNAS_HOST, HILNAS_PORT, HILNAS_AUTH, HILNAS_ADMIN_TOKEN,
        HILNAS_LEASE_S, HILNAS_MIGRATE, HILNAS_MAX_ARTIFACT_BYTES, HILNAS_MAX_STORE_BYTES and HILNAS_MAX_EVENTS. A host
        that is not loopback switches tokens on."""
        host = environ.get("HILNAS_HOST", "127.0.0.1")
        given = {
            "var": environ.get("HILNAS_VAR"),
            "database_url": environ.get("HILNAS_DATABASE_URL"),
            "host": host,
            "port": environ.get("HILNAS_PORT"),
            "auth": environ.get("HILNAS_AUTH") or ("local" if is_loopback(host) else "tokens"),
            "admin_token": environ.get("HILNAS_ADMIN_TOKEN"),
            "lease_s": environ.get("HILNAS_LEASE_S"),
            "migrate": environ.get("HILNAS_MIGRATE"),
            "max_artifact_bytes": environ.get("HILNAS_MAX_ARTIFACT_BYTES"),
            "max_store_bytes": environ.get("HILNAS_MAX_STORE_BYTES"),
            "max_events": environ.get("HILNAS_MAX_EVENTS"),
        }
        try:
            return cls.model_validate({name: value for name, value in given.items() if value not in (None, "")})
        except ValidationError as error:
            first = error.errors()[0]
            name = f"HILNAS_{str(first['loc'][0]).upper()}"
            raise InvalidConfig(f"{name}: {first['msg'].lower()}, got {first['input']!r}") from None


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and loopback addresses of both families."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
