"""ExecuTorch's own kernels, nothing delegated: a baseline for delegates, and the smallest possible backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from nas.export.backends.base import Backend


class Portable(Backend):
    """float32 only: these kernels unpack quantized weights on every call."""

    name: ClassVar[str] = "portable"
    title: ClassVar[str] = "portable kernels (CPU, nothing delegated)"
    min_sqnr_db: ClassVar[Mapping[str, float]] = {"fp32": 60.0}
