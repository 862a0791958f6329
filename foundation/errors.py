"""The exception tree. Every expected error is one sentence with a stable code.

HilnasError
├── InvalidConfig      a user's mistake: what was given and what would work
├── ExportFailed       with the stage that failed
├── WorkerLost         a process that worked for this one is gone, and so was its replacement
└── DeviceError
    ├── DeviceLost
    └── RunnerCrashed
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self


class HilnasError(Exception):
    """An error that is explained in one sentence. ``code`` is stable and machine readable.

    Every subclass crosses processes as it is, whatever its constructor takes: a pickle restores it without a call of
    ``__init__``.
    """

    code = "hilnas_error"

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[Any, ...]]:
        return type(self)._restored, (self.args, dict(vars(self)))

    @classmethod
    def _restored(cls, arguments: tuple[Any, ...], state: dict[str, Any]) -> Self:
        error = cls.__new__(cls, *arguments)
        vars(error).update(state)
        return error


class InvalidConfig(HilnasError):
    """A value that cannot work; the message says what was given and what would."""

    code = "invalid_config"


class ExportFailed(HilnasError):
    """``stage`` is one of the named export stages (nas.export.stages)."""

    code = "export_failed"

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(stage, message)
        self.stage, self.message = stage, message

    def __str__(self) -> str:
        return f"export failed in stage {self.stage}: {self.message}"


class WorkerLost(HilnasError):
    """A worker process was lost, as was the one that took its work over."""

    code = "worker_lost"


class DeviceError(HilnasError):
    code = "device_error"


class DeviceLost(DeviceError):
    code = "device_lost"


class RunnerCrashed(DeviceError):
    """The runner ended with an error line; ``runner_code`` is its stable name."""

    code = "runner_crashed"

    def __init__(self, runner_code: str, message: str) -> None:
        super().__init__(runner_code, message)
        self.runner_code, self.message = runner_code, message

    def __str__(self) -> str:
        return self.message
