"""What a device says about itself when it enrols."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

DeviceKind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
"""Kinds are open: an agent may serve one that a plugin brought (device_agents.devices.kinds)."""


class DeviceFacts(BaseModel):
    """``fingerprint`` joins what must be equal for two measurements to be comparable."""

    model_config = ConfigDict(frozen=True)
    kind: DeviceKind
    name: str
    model: str  # CPU or phone model; two devices of one model share work
    arch: str
    cores: int
    memory_bytes: int
    os: str
    cpu_features: list[str] = []
    runner_version: str = ""
    details: dict[str, Any] = {}

    @property
    def fingerprint(self) -> str:
        text = "|".join([self.kind, self.model, self.arch, str(self.cores), ",".join(sorted(self.cpu_features))])
        return hashlib.sha256(text.encode()).hexdigest()[:16]
