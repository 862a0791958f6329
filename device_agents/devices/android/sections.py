"""Parses the output of ``phone.sh``: sections headed by ``=== name``, each with its own function. Values that the
phone does not report are absent."""

from __future__ import annotations

import re
from typing import Any

HEADER = "=== "


def split_sections(text: str, header: str = HEADER) -> dict[str, str]:
    """Name -> text of each section, in order; text before the first section is dropped."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith(header):
            current = found.setdefault(line[len(header) :].strip(), [])
        else:
            current.append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def parse_props(text: str) -> dict[str, str]:
    """``[ro.product.model]: [SM-S921B]`` lines of getprop."""
    return dict(re.findall(r"^\[(.+?)\]: \[(.*)\]$", text, re.MULTILINE))


def parse_battery(text: str) -> dict[str, Any]:
    """``dumpsys battery``: degrees Celsius, level in percent, power source, whether readings are overridden."""
    fields = dict(re.findall(r"^\s*([\w ]+?): *(\S+)\s*$", text, re.MULTILINE))
    found: dict[str, Any] = {}
    if (tenths := _int(fields.get("temperature"))) is not None:
        found["battery_c"] = tenths / 10
    if (level := _int(fields.get("level"))) is not None:
        found["battery_level"] = level
    sources = [name for name in ("AC", "USB", "Wireless", "Dock") if fields.get(f"{name} powered") == "true"]
    if fields:
        found["charging_stopped"] = "UPDATES STOPPED" in text or fields.get("charging stopped") == "true"
        found["charging"] = bool(sources) and not found["charging_stopped"]
        found["power_source"] = sources[0].lower() if sources else "battery"
    return found


def parse_thermal(text: str) -> dict[str, Any]:
    """``dumpsys thermalservice``: the status that Android acts on, and the sensors of its HAL in degrees Celsius."""
    found: dict[str, Any] = {}
    if match := re.search(r"^\s*Thermal Status: (\d+)", text, re.MULTILINE):
        found["thermal_status"] = int(match[1])
    current = text.partition("Current temperatures from HAL:")[2].partition("Current cooling devices")[0] or text
    sensors = re.findall(r"mValue=([-\d.]+), mType=(-?\d+), mName=([^,}]+)", current)
    hottest: dict[str, float] = {}
    for value, _, name in sensors:
        hottest[name] = max(float(value), hottest.get(name, -273.0))
    if hottest:
        found["sensors_c"] = hottest
    return found


def parse_cpus(text: str) -> dict[int, int]:
    """Core -> its maximum frequency in kHz; 0 if the phone does not report it."""
    rows = (line.split() for line in text.splitlines() if line.strip())
    return {int(row[0]): int(row[1]) if len(row) > 1 else 0 for row in rows}


def parse_policies(text: str) -> dict[int, dict[str, Any]]:
    """Frequency policy -> cores, caps in kHz, governor, and time in each frequency in units of 10 ms."""
    policies: dict[int, dict[str, Any]] = {}
    current: dict[str, Any] = {}
    for row in (line.split() for line in text.splitlines()):
        if len(row) == 2 and row[0] == "policy":
            current = policies.setdefault(int(row[1]), {"in_state": {}})
        elif len(row) == 3 and row[0] == "in_state":
            current["in_state"][int(row[1])] = int(row[2])
        elif len(row) >= 2 and row[0] == "related_cpus":
            current["cpus"] = [int(cpu) for cpu in row[1:]]
        elif len(row) == 2:
            current[row[0]] = int(row[1]) if row[1].isdigit() else row[1]
    return policies


def parse_clock(text: str) -> dict[str, Any]:
    lines = text.split()
    return {"epoch_s": int(lines[0]), "boot_id": lines[1], "uptime_s": float(lines[2])} if len(lines) >= 3 else {}


def parse_disk(text: str) -> dict[str, int]:
    """The fourth column of ``df -k``, in bytes."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    free = _int(rows[-1][3]) if len(rows) > 1 and len(rows[-1]) > 3 else None
    return {"free_bytes": free * 1024} if free is not None else {}


def parse_state(sections: dict[str, str]) -> dict[str, Any]:
    """One reading of the phone's condition, as it is kept in a measurement's environment."""
    policies = parse_policies(sections.get("policies", ""))
    found: dict[str, Any] = {
        **parse_clock(sections.get("clock", "")),
        **parse_battery(sections.get("battery", "")),
        **parse_thermal(sections.get("thermal", "")),
        **parse_disk(sections.get("disk", "")),
        "policies": policies,
        "caps_khz": {str(k): p["scaling_max_freq"] for k, p in policies.items() if "scaling_max_freq" in p},
    }
    if "mWakefulness=" in sections.get("power", ""):
        found["screen_on"] = "Awake" in sections["power"]
    if load := sections.get("load", "").split():
        found["load_1m"] = float(load[0])
    return found


def _int(text: str | None) -> int | None:
    return int(text) if text is not None and text.lstrip("-").isdigit() else None
