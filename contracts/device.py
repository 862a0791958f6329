"""What a device reports about itself when it enrols."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from contracts.values import Count, FreeJson, Name, Sentence

DEFAULT_THREADS = 2  # of a measurement; taken by any device, one with a single core too
DeviceKind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
"""Kinds are open: an agent may serve one that a plugin provides (device_agents.devices.kinds)."""
KINDS = {"host": "a host", "android": "an Android phone", "replay": "a replay device"}
"""The built-in kinds and how they are described."""


def describe_kind(kind: str) -> str:
    return KINDS.get(kind, f"a device of kind {kind}")


RUNNER_DELEGATES = frozenset({"XnnpackBackend"})
"""ExecuTorch backends that our runner is linked with (kernels/runner/CMakeLists.txt)."""
Feature = Annotated[str, Field(max_length=60)]


class DeviceFacts(BaseModel):
    """``fingerprint`` joins what must be equal for two measurements to be comparable."""

    model_config = ConfigDict(frozen=True)
    kind: DeviceKind
    name: Name
    model: Sentence  # CPU or phone model; two devices of one model share work
    arch: Sentence
    cores: Count
    memory_bytes: int = Field(ge=0, lt=2**63)
    os: Sentence
    cpu_features: list[Feature] = Field(default=[], max_length=256)
    runner_version: Sentence = ""
    details: FreeJson = {}

    @property
    def delegates(self) -> frozenset[str]:
        """ExecuTorch backends linked into its runner: those listed in its details, else those of our runner."""
        listed = self.details.get("delegates")
        return frozenset(map(str, listed)) if isinstance(listed, list) else RUNNER_DELEGATES

    @property
    def fingerprint(self) -> str:
        text = "|".join([self.kind, self.model, self.arch, str(self.cores), ",".join(sorted(self.cpu_features))])
        return hashlib.sha256(text.encode()).hexdigest()[:16]
