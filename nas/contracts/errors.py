"""The exception tree below ``HilnasError`` (drawn in ``search_space.errors``)."""

from __future__ import annotations

from search_space.errors import HilnasError, InvalidConfig


class BudgetExceeded(HilnasError):
    code = "budget_exceeded"


class ExportFailed(HilnasError):
    """``stage`` is one of the named export stages (nas.export.stages)."""

    code = "export_failed"

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(f"export failed in stage {stage}: {message}")
        self.stage = stage


class DeviceError(HilnasError):
    code = "device_error"


class DeviceLost(DeviceError):
    code = "device_lost"


class ThermalLimit(DeviceError):
    code = "thermal_limit"


class RunnerCrashed(DeviceError):
    """The runner ended with an error line; ``runner_code`` is its stable name."""

    code = "runner_crashed"

    def __init__(self, runner_code: str, message: str) -> None:
        super().__init__(message)
        self.runner_code = runner_code


__all__ = [
    "BudgetExceeded", "DeviceError", "DeviceLost", "ExportFailed", "HilnasError", "InvalidConfig", "RunnerCrashed",
    "ThermalLimit",
]  # fmt: skip
