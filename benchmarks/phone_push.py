"""Does pushing a block library keep up with the cable? All blocks of the 350M class, verified by sha256 on the phone,
against a plain push of one file of the same size, in turn, over the same connection to the virtual phone."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import publish
from contracts.plan import screening
from device_agents.devices.android.phone import Phone
from device_agents.transports.adb_server import AdbServerTransport
from device_agents.transports.adb_shell import AdbShellTransport
from device_agents.transports.base import Transport
from hilnas.local import LocalMeasurer
from search_space.sampling import random_layouts
from search_space.space import space as build_space
from virtual_phone.phone import VirtualPhone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--adb-server", action="store_true", help="through Google's adb instead of the built-in client")
    options = parser.parse_args()
    measured = measure(options.rounds, options.adb_server)
    summary = {**judge(measured), "transport": "adb_server" if options.adb_server else "adb_shell"}
    publish("phone_push", summary, measured.rows)


@dataclass(frozen=True)
class Measured:
    """``num_bytes`` of all blocks; ``rows`` are rounds."""

    num_blocks: int
    num_bytes: int
    rows: list[dict[str, Any]]


def measure(rounds: int, adb_server: bool) -> Measured:
    bench = LocalMeasurer()
    # 192 layers drawn from 24 kinds: every block is among them
    archs = random_layouts(build_space("lfm2_350m_class"), 12, seed=1)
    bench.compile(archs)
    digests = {digest for arch in archs for digest in bench.plan(arch, screening(), check=False).blocks}
    files = {digest: bench.library.path(digest) for digest in sorted(digests)}
    size = sum(path.stat().st_size for path in files.values())
    with tempfile.TemporaryDirectory() as folder, VirtualPhone(Path(folder) / "phone") as virtual:
        os.environ["HILNAS_ADB_KEY"] = str(Path(folder) / "key")
        way: Transport = AdbServerTransport(virtual.address) if adb_server else AdbShellTransport(virtual.address)
        phone = Phone(way)
        phone.connect()
        one = Path(folder) / "one"
        one.write_bytes(b"".join(path.read_bytes() for path in files.values()))
        rows = []
        for _ in range(rounds):
            shutil.rmtree(virtual.root / "blocks")
            (virtual.root / "blocks").mkdir()
            plain_s = seconds(lambda: way.push(one, f"{virtual.root}/blocks/one"))
            (virtual.root / "blocks" / "one").unlink()
            library_s = seconds(lambda: phone.put_blocks(files))
            assert len(phone.inventory()) == len(files)
            rows.append({"plain_s": plain_s, "library_s": library_s, "share": plain_s / library_s})
    bench.close()
    return Measured(len(files), size, rows)


def judge(measured: Measured) -> dict[str, Any]:
    share = statistics.median(row["share"] for row in measured.rows)
    mib = measured.num_bytes / 2**20
    rate = mib / statistics.median(row["library_s"] for row in measured.rows)
    return {
        "share_of_plain_push": round(share, 3), "library_mib_s": round(rate, 1), "blocks": measured.num_blocks,
        "library_mib": round(mib, 1),
    }  # fmt: skip


def seconds(action: Callable[[], None]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


if __name__ == "__main__":
    main()
