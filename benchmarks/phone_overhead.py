"""What a candidate costs on a phone beside the runner's own time, in steady state: every block is there, so a plan goes
out, one command runs it, one result comes back. On the virtual phone: true adbd, aarch64 bundle under qemu."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import publish
from contracts.job import MeasureJob
from contracts.plan import PROTOCOLS
from device_agents.bundle.build import build_bundle
from device_agents.canary import CanaryBook
from device_agents.devices.android.device import AndroidDevice
from device_agents.devices.android.phone import Phone
from device_agents.session import measure
from device_agents.transports.adb_shell import AdbShellTransport
from hilnas.local import LocalMeasurer
from search_space.arch import ArchConfig
from search_space.sampling import random_layouts
from search_space.space import space as build_space
from virtual_phone.phone import VirtualPhone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--protocol", default="quick", choices=list(PROTOCOLS))
    options = parser.parse_args()
    rows = measure_candidates(options.candidates, options.protocol)
    publish("phone_overhead", judge(rows), rows)


def measure_candidates(count: int, protocol: str) -> list[dict[str, Any]]:
    """One row for each candidate, after a first that is there to bring the phone into its steady state."""
    archs = random_layouts(build_space("debug_space"), count + 1, seed=5)
    bench = LocalMeasurer()
    bench.compile(archs)
    with tempfile.TemporaryDirectory() as folder, VirtualPhone(Path(folder) / "phone") as phone:
        device = AndroidDevice(Phone(AdbShellTransport(phone.address, key=Path(folder) / "key")), build_bundle())
        device.connect()
        rows = [measure_one(bench, phone, device, arch, protocol) for arch in archs]
        device.close()
    bench.close()
    return rows


def judge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All but the first row."""
    steady = rows[1:]
    return {
        "bytes_per_candidate": round(statistics.mean(row["bytes"] for row in steady)),
        "round_trips": round(statistics.mean(row["round_trips"] for row in steady), 2),
        "overhead_s": round(statistics.median(row["overhead_s"] for row in steady), 3),
        "bytes_max": max(row["bytes"] for row in steady),
        "round_trips_max": max(row["round_trips"] for row in steady),
        "wire_bytes_to_phone": round(statistics.mean(row["wire_bytes"] for row in steady)),
        "cold_runs": round(statistics.mean(row["cold_runs"] for row in steady), 2),
        "candidates": len(steady),
    }


def measure_one(
    bench: LocalMeasurer, phone: VirtualPhone, device: AndroidDevice, arch: ArchConfig, protocol: str
) -> dict[str, Any]:
    """One candidate as an agent measures it. Round trips and wire bytes are counted by the phone, not by us."""
    plan = bench.plan(arch, PROTOCOLS[protocol](2))
    device.add_blocks({digest: bench.library.path(digest) for digest in plan.blocks if not device.has_block(digest)})
    device.policy.ensure(device.state.get("boot_id"))
    opens, wire, pushed = phone.traffic.opens, phone.traffic.bytes_in, device.phone.transport.traffic.bytes_pushed
    device.begin(arch.digest[:12])
    start = time.monotonic()
    row = measure(MeasureJob(plan=plan, max_half_width=10.0), device, CanaryBook())
    wall_s = time.monotonic() - start
    runner_s = sum(sum(event.get("runner_s", [])) for run in row.events for event in run if event["event"] == "phone")
    return {
        "layout": arch.layout, "verdict": str(row.verdict), "cold_runs": row.cold_repeats,
        "bytes": device.phone.transport.traffic.bytes_pushed - pushed, "wire_bytes": phone.traffic.bytes_in - wire,
        "round_trips": phone.traffic.opens - opens, "wall_s": wall_s, "runner_s": runner_s,
        "overhead_s": wall_s - runner_s,
    }  # fmt: skip


if __name__ == "__main__":
    main()
