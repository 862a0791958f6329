"""Checks for everything that would spoil a measurement on this phone, before it enrols, each with the step to take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from device_agents.devices.android.condition import is_hot
from device_agents.devices.android.device import AndroidDevice
from device_agents.devices.android.sections import parse_state

Outcome = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """``failed``: this phone cannot measure. ``warning``: it can, with a limitation."""

    name: str
    outcome: Outcome
    found: str
    step: str = ""


def examine(device: AndroidDevice, threads: int = 2) -> list[Finding]:
    """Runs every check on a connected phone. Settings are changed for a moment and put back."""
    return [check(device, threads) for check in CHECKS]


def unfit_sentence(findings: list[Finding]) -> str:
    """Why the phone is refused, or an empty string."""
    failed = [f"{finding.name}: {finding.found}; {finding.step}" for finding in findings if finding.outcome == "failed"]
    return " | ".join(failed)


def check_runner(device: AndroidDevice, threads: int) -> Finding:
    folder = f"{device.phone.root}/bundle-{device.bundle.digest[:16]}"
    reply = device.phone.verb("runner", folder, "--version")
    if reply.exit_code == 0:
        return Finding("runner", "ok", reply.stdout.strip())
    reason = (reply.stderr or reply.stdout).strip() or f"exit code {reply.exit_code}"
    return Finding(
        "runner", "failed", reason, "the phone must allow programs under /data/local/tmp (stock firmware does)"
    )


def check_tools(device: AndroidDevice, threads: int) -> Finding:
    missing = device.phone.sections("facts").get("tools", "").split("\n")
    names = [line.removeprefix("missing ") for line in missing if line.startswith("missing ")]
    if not names:
        return Finding("tools", "ok", "all there")
    return Finding("tools", "failed", f"no {', '.join(names)}", "Android 10 or newer has them")


def check_cores(device: AndroidDevice, threads: int) -> Finding:
    """cpuset and affinity: is a program of the shell really allowed to run on the cores that we measure on?"""
    cores = device.facts.details.get("affinity", {}).get(str(threads), [])
    if not cores:
        return Finding(
            "cores", "failed", f"{device.facts.cores} cores, no {threads} to run on", "ask for fewer threads"
        )
    mask = f"{sum(1 << core for core in cores):x}"
    reply = device.phone.shell(f"taskset {mask} grep Cpus_allowed_list /proc/self/status")
    granted = parse_list(reply.stdout.partition(":")[2])
    found = f"cores {cores}, cpuset {device.facts.details.get('cpuset', '?')}"
    if reply.exit_code == 0 and granted == set(cores):
        return Finding("cores", "ok", found)
    return Finding(
        "cores",
        "failed",
        f"{found}: granted {sorted(granted) or 'none'}",
        "close power saving mode and game boosters, reboot",
    )


def check_clocks(device: AndroidDevice, threads: int) -> Finding:
    outcome = device.policy.ensure(device.state.get("boot_id"))
    if outcome.get("mode") == "governor_free":
        return Finding(
            "clocks", "warning", "fixed-performance mode is refused",
            "rows are governor-free: compare them with such rows only, and expect wider intervals",
        )  # fmt: skip
    caps = ", ".join(f"policy{name} {khz / 1e6:.2f} GHz" for name, khz in outcome.get("caps_khz", {}).items())
    if not outcome.get("read_back"):
        return Finding(
            "clocks", "warning", f"accepted, but no cap moved ({caps})", "watch the residency of the first rows"
        )
    return Finding("clocks", "ok", f"fixed-performance mode: {caps}")


def check_charging(device: AndroidDevice, threads: int) -> Finding:
    state = parse_state(device.phone.sections("state"))
    if state.get("charging_stopped") or not state.get("charging"):
        return Finding("charging", "ok", "stopped for measuring")
    return Finding(
        "charging", "warning", f"continues from {state.get('power_source')}", "expect a warmer start; use Wi-Fi"
    )


def check_thermal(device: AndroidDevice, threads: int) -> Finding:
    state = parse_state(device.phone.sections("state"))
    if "thermal_status" not in state or "battery_c" not in state:
        return Finding("thermal", "failed", "temperature or thermal status cannot be read", "reboot the phone")
    found = f"battery {state['battery_c']:.1f} C, thermal status {state['thermal_status']}"
    if is_hot(state, device.limits):
        return Finding("thermal", "warning", found, f"jobs wait until it is below {device.limits.max_start_c:.1f} C")
    return Finding("thermal", "ok", found)


def check_battery(device: AndroidDevice, threads: int) -> Finding:
    level = device.state.get("battery_level")
    if level is None or level >= device.limits.battery_floor:
        return Finding("battery", "ok", f"{level} %")
    return Finding("battery", "failed", f"{level} %", f"charge it above {device.limits.battery_floor} %")


def check_space(device: AndroidDevice, threads: int) -> Finding:
    free = device.state.get("free_bytes")
    if free is None or free >= device.limits.min_free_bytes:
        return Finding("space", "ok", f"{free / 2**30:.1f} GiB free" if free is not None else "unknown")
    need = device.limits.min_free_bytes / 2**30
    return Finding(
        "space", "failed", f"{free / 2**30:.2f} GiB free", f"free {need:.0f} GiB, or run `hilnas agent clear`"
    )


def check_clock(device: AndroidDevice, threads: int) -> Finding:
    state = parse_state(device.phone.sections("state"))
    off = state.get("epoch_s", time.time()) - time.time()
    if abs(off) <= device.limits.clock_s:
        return Finding("clock", "ok", f"{off:+.0f} s against this host")
    return Finding("clock", "failed", f"{off:+.0f} s against this host", "Settings > Date and time > Automatic")


def check_radio(device: AndroidDevice, threads: int) -> Finding:
    mode = device.phone.shell("settings get global airplane_mode_on").stdout.strip()
    if mode == "1":
        return Finding("radio", "ok", "airplane mode")
    return Finding("radio", "warning", "airplane mode is off", "switch it on (Wi-Fi may stay): radios wake the phone")


def parse_list(text: str) -> set[int]:
    """The kernel's core lists: ``0-3,7``."""
    cores: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.strip().isdigit():
            cores |= set(range(int(first), int(last or first) + 1))
    return cores


CHECKS: tuple[Callable[[AndroidDevice, int], Finding], ...] = (
    check_tools, check_runner, check_cores, check_clocks, check_charging, check_thermal, check_battery, check_space,
    check_clock, check_radio,
)  # fmt: skip
