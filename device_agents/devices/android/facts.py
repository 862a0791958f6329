"""The facts that a phone reports when it enrols, from the ``facts`` verb."""

from __future__ import annotations

import re
from typing import Any

from contracts.device import DeviceFacts
from device_agents.devices.android.sections import parse_cpus, parse_props, parse_state
from device_agents.devices.android.topology import big_cores, choose_cores

FEATURES = ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2")


def phone_facts(sections: dict[str, str], serial: str, name: str | None, runner_version: str) -> DeviceFacts:
    """``details`` is shown on the device page; ``details.affinity`` maps a number of threads to the cores they run on,
    which the coordinator makes part of the plan and thus of the measurement's key."""
    props, state = parse_props(sections.get("props", "")), parse_state(sections)
    max_khz = parse_cpus(sections.get("cpus", ""))
    model = props.get("ro.product.model", "unknown phone")
    return DeviceFacts(
        kind="android", name=name or f"{model}-{props.get('ro.serialno', serial)[-4:]}".lower(), model=model,
        arch="aarch64", cores=len(max_khz), memory_bytes=_memory(sections.get("memory", "")),
        os=f"Android {props.get('ro.build.version.release', '?')}",
        cpu_features=[f for f in FEATURES if f in _features(sections.get("cpuinfo", ""))],
        runner_version=runner_version, details=_details(sections, props, state, max_khz),
    )  # fmt: skip


def _details(
    sections: dict[str, str], props: dict[str, str], state: dict[str, Any], max_khz: dict[int, int]
) -> dict[str, Any]:
    soc = " ".join(props[key] for key in ("ro.soc.manufacturer", "ro.soc.model") if key in props)
    known = {
        "soc": soc or props.get("ro.board.platform"),
        "android": props.get("ro.build.version.release"),
        "one_ui": one_ui(props.get("ro.build.version.oneui")),
        "build": props.get("ro.build.display.id") or props.get("ro.build.fingerprint"),
        "security_patch": props.get("ro.build.version.security_patch"),
        "kernel": _kernel(sections.get("kernel", "")),
        "cores": [{"cpu": cpu, "max_khz": khz} for cpu, khz in sorted(max_khz.items())],
        "big_cores": big_cores(max_khz),
        "affinity": {str(n): choose_cores(max_khz, n) for n in range(1, len(max_khz) + 1)},
        "cpuset": sections.get("cpuset", "").strip(),
        "allowed_cpus": sections.get("allowed", "").partition(":")[2].strip(),
        "page_size": int(sections["page_size"]) if sections.get("page_size", "").strip().isdigit() else None,
        "thermal_zones": _zones(sections.get("zones", "")),
        "thermal_sensors": sorted(state.get("sensors_c", {})),
        "free_bytes": state.get("free_bytes"),
        "virtual": props.get("ro.hilnas.virtual") == "1" or None,
    }
    return {key: value for key, value in known.items() if value not in (None, "", [], {})}


def one_ui(number: str | None) -> str | None:
    """60101 -> 6.1.1, as Samsung counts."""
    if number is None or not number.isdigit():
        return None
    major, minor, patch = int(number) // 10000, int(number) // 100 % 100, int(number) % 100
    return f"{major}.{minor}.{patch}" if patch else f"{major}.{minor}"


def _features(cpuinfo: str) -> set[str]:
    match = re.search(r"^Features\s*: (.*)$", cpuinfo, re.MULTILINE)
    return set(match[1].split()) if match else set()


def _memory(text: str) -> int:
    match = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _kernel(text: str) -> str:
    match = re.search(r"Linux version (\S+)", text)
    return match[1] if match else text.strip()[:80]


def _zones(text: str) -> dict[str, float]:
    """Zone type -> degrees Celsius; zones that cannot be read are left out."""
    rows = [line.split() for line in text.splitlines()]
    return {row[0]: int(row[1]) / 1000 for row in rows if len(row) == 2 and row[1].lstrip("-").isdigit()}
