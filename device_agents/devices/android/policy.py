"""The phone's state while it measures: pinned clocks, no charging, screen on and dim. The phone itself can restore its
settings (``restore.sh``), so they do not stay changed for long after the agent was killed or the host disappeared."""

from __future__ import annotations

from typing import Any

import structlog

from device_agents.devices.android.phone import Phone
from device_agents.devices.android.sections import parse_policies, split_sections

log = structlog.get_logger()


class MeasuringPolicy:
    """Applied until ``restore``. ``stop_charging``: charging keeps a phone some degrees warmer."""

    def __init__(self, phone: Phone, stop_charging: bool = True) -> None:
        self._phone, self._stop_charging = phone, stop_charging
        self.boot_id: str | None = None
        self.outcome: dict[str, Any] = {}

    def ensure(self, boot_id: str | None) -> dict[str, Any]:
        """Applies the policy unless it was applied since the last boot. A reboot resets it."""
        if self.boot_id is None or (boot_id is not None and boot_id != self.boot_id):
            self.apply(boot_id)
        return self.outcome

    def apply(self, boot_id: str | None) -> None:
        reply = self._phone.verb("apply", *([] if self._stop_charging else ["charging"]))
        first, _, last = reply.stdout.partition("=== after\n")
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
        """Restores the original settings, also those changed by an agent that was killed."""
        self._phone.verb("restore")
        self.boot_id = None
        log.info("measuring_policy_restored", serial=self._phone.serial)
