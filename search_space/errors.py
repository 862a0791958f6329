"""The root of the exception tree; the rest of it hangs below in ``nas.contracts.errors``.

HilnasError
├── InvalidConfig      a user's mistake: what was given and what would work
├── BudgetExceeded     a candidate or a study that no budget admits
├── ExportFailed       with the stage that failed
└── DeviceError
    ├── DeviceLost
    ├── ThermalLimit
    └── RunnerCrashed
"""


class HilnasError(Exception):
    """Anything hilnas can explain in one sentence. ``code`` is stable and machine readable."""

    code = "hilnas_error"


class InvalidConfig(HilnasError):
    """A value that cannot work; the message says what was given and what would."""

    code = "invalid_config"
