"""The state a phone is held in while it measures: pinned clocks, no charging, screen on and dim. The phone itself keeps
the way back (``restore.sh``), so a killed agent, or a host that never returns, leaves nothing changed for long."""

from __future__ import annotations

from typing import Any

import structlog

from device_agents.devices.android.phone import Phone
from device_agents.devices.android.sections import parse_policies, split_sections

log = structlog.get_logger()


class MeasuringPolicy:
    """``stop_charging``: charging holds a phone some degrees warmer. On until ``restore``."""

    def __init__(self, phone: Phone, stop_charging: bool = True) -> None:
        self._phone, self._stop_charging = phone, stop_charging
        self.boot_id: str | None = None
        self.outcome: dict[str, Any] = {}

    def ensure(self, boot_id: str | None) -> dict[str, Any]:
        """Applies it unless this boot already has it. A reboot loses it."""
        if self.boot_id is None or (boot_id is not None and boot_id != self.boot_id):
            self.apply(boot_id)
        return self.outcome

    def apply(self, boot_id: str | None) -> None:
        said = self._phone.verb("apply", *([] if self._stop_charging else ["charging"]))
        first, _, last = said.stdout.partition("=== after\n")
        sections = split_sections(first)
        before, after = (parse_policies(split_sections(text).get("policies", "")) for text in (first, last))
        refused = "exit 0" not in sections.get("fixed", "")
        fell = {
            str(k): after[k]["scaling_max_freq"]
            for k in after
            if after[k].get("scaling_max_freq", 0) < before.get(k, {}).get("scaling_max_freq", 0)
        }
        self.outcome = {
            "mode": "governor_free" if refused else "fixed_performance",
            "read_back": bool(fell) or refused,
            "caps_khz": {str(k): p["scaling_max_freq"] for k, p in after.items() if "scaling_max_freq" in p},
        }
        self.boot_id = boot_id or "unknown"
        log.info("measuring_policy_applied", serial=self._phone.serial, **self.outcome)

    def restore(self) -> None:
        """Puts back what was there, also after another agent that was killed."""
        self._phone.verb("restore")
        self.boot_id = None
        log.info("measuring_policy_restored", serial=self._phone.serial)
