"""The backends that programs can be compiled for: one file each, one line in this module."""

from nas.export.backends.base import BACKENDS, DEFAULT_BACKEND, Backend
from nas.export.backends.portable import Portable
from nas.export.backends.xnnpack import Xnnpack

for _backend in (Xnnpack(), Portable()):
    BACKENDS.add(_backend.name, _backend)

__all__ = ["BACKENDS", "DEFAULT_BACKEND", "Backend"]
