"""Is the phone fit to measure, and did it stay fit? Limits that its owner may set, and the resulting verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.measurement import Verdict

# a mean frequency below this share of the session's fastest run counts as throttling; idling before and after a short
# run alone moves it by a few percent
SLOWER = 0.85


@dataclass(frozen=True)
class Limits:
    """Degrees Celsius, percent, seconds. 37 degrees: where S24 and S25 settle idle; above it clocks begin to fall."""

    max_start_c: float = 37.0
    max_status: int = 0
    poll_s: float = 15.0
    wait_s: float = 1800.0
    battery_floor: int = 20
    clock_s: float = 120.0
    min_free_bytes: int = 1 << 30


def with_clock(state: dict[str, Any], known: dict[str, Any], now_s: float) -> dict[str, Any]:
    """``state`` with ``clock_off_s``: the phone's clock ahead of this host's (``now_s``). A reading may arrive
    long after it was taken, so within one boot the offset follows from the last ``known`` reading by the uptimes."""
    if "epoch_s" not in state or "uptime_s" not in state:
        return state
    if "clock_off_s" in known and known.get("boot_id") == state["boot_id"]:
        passed = state["uptime_s"] - known["uptime_s"]
        return {**state, "clock_off_s": known["clock_off_s"] + state["epoch_s"] - known["epoch_s"] - passed}
    return {**state, "clock_off_s": state["epoch_s"] - now_s}


def unfit(state: dict[str, Any], limits: Limits) -> tuple[Verdict, str] | None:
    """A condition that rules out measuring and does not pass within a few minutes."""
    if (level := state.get("battery_level", 100)) < limits.battery_floor:
        return Verdict.LOW_BATTERY, f"battery at {level} %, the floor is {limits.battery_floor} %"
    if abs(off := state.get("clock_off_s", 0.0)) > limits.clock_s:
        return Verdict.WRONG_CLOCK, (
            f"the phone's clock is {off:+.0f} s off this host's (allowed {limits.clock_s:.0f} s): switch on "
            "Settings > Date and time > Automatic"
        )
    return None


def is_hot(state: dict[str, Any], limits: Limits) -> bool:
    return state.get("battery_c", 0.0) > limits.max_start_c or state.get("thermal_status", 0) > limits.max_status


def spoiled(before: dict[str, Any], after: dict[str, Any], cores: list[int]) -> tuple[Verdict, str] | None:
    """An event between two readings that invalidates the run between them."""
    if before.get("boot_id") != after.get("boot_id"):
        return Verdict.DEVICE_LOST, "the phone rebooted during the run"
    if after.get("thermal_status", 0) > before.get("thermal_status", 0):
        return (
            Verdict.THROTTLED,
            f"thermal status rose from {before.get('thermal_status', 0)} to {after['thermal_status']}",
        )
    for name, cap in used_caps(before, cores).items():
        now = used_caps(after, cores).get(name, cap)
        if now < cap:
            return Verdict.THROTTLED, f"the cap of policy {name} fell from {cap / 1e6:.2f} to {now / 1e6:.2f} GHz"
    elapsed = after.get("uptime_s", 0.0) - before.get("uptime_s", 0.0)
    jump = (after.get("epoch_s", 0) - before.get("epoch_s", 0)) - elapsed
    if "epoch_s" in before and "uptime_s" in before and abs(jump) > 5.0:
        return Verdict.WRONG_CLOCK, f"the phone's clock jumped by {jump:+.0f} s during the run"
    return None


def used_caps(state: dict[str, Any], cores: list[int]) -> dict[str, int]:
    """Policy -> cap in kHz, for the policies that ``cores`` belong to (for all if ``cores`` is empty)."""
    return {
        str(name): policy["scaling_max_freq"]
        for name, policy in state.get("policies", {}).items()
        if "scaling_max_freq" in policy and (not cores or set(policy.get("cpus", [])) & set(cores))
    }


def residency(before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Policy -> frequency in kHz -> share of the time between the two readings."""
    found = {}
    for name, policy in after.get("policies", {}).items():
        was = before.get("policies", {}).get(name, {}).get("in_state", {})
        spent = {khz: ticks - was.get(khz, 0) for khz, ticks in policy.get("in_state", {}).items()}
        total = sum(spent.values())
        if total > 0:
            found[str(name)] = {str(khz): round(ticks / total, 4) for khz, ticks in sorted(spent.items()) if ticks}
    return found


def mean_khz(shares: dict[str, dict[str, float]], policies: set[str]) -> float:
    """Mean frequency over the given policies, 0 when nothing is known."""
    means = [sum(int(khz) * part for khz, part in rows.items()) for name, rows in shares.items() if name in policies]
    return sum(means) / len(means) if means else 0.0
