"""This machine with a runner that stays: blocks once loaded serve the next candidate too. For screening, where a fresh
process per candidate would mean loading the same weights again and again; memory is never read from such a process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from device_agents.devices.base import Event
from device_agents.devices.host import HostDevice
from nas.contracts.errors import RunnerCrashed
from nas.contracts.plan import Plan
from nas.contracts.quiet import QuietLock

POOL_BYTES = 4 << 30


class ServedHostDevice(HostDevice):
    def __init__(self, blocks_dir: Path, runner: Path | None = None, name: str | None = None) -> None:
        super().__init__(blocks_dir, runner, name)
        self._process: subprocess.Popen[str] | None = None

    def run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[Event]:
        if plan.protocol.memory:
            return super().run(plan, cancelled)
        with QuietLock().measuring(), tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(plan.to_runner(str(self.blocks_dir)), file)
            file.flush()
            return self._ask(file.name)

    def _ask(self, plan_path: str) -> list[Event]:
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        events: list[Event] = []
        try:
            process.stdin.write(plan_path + "\n")
            process.stdin.flush()
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "done":
                    return events
                events.append(event)
        except (OSError, ValueError) as error:
            self.close()
            raise RunnerCrashed("killed", f"the serving runner broke off: {error}") from error
        self.close()
        if events and events[-1]["event"] == "error":
            return events
        raise RunnerCrashed("killed", f"the serving runner ended after {len(events)} events")

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [str(self.runner), "--serve", "--pool-bytes", str(POOL_BYTES)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(OSError), self._process:  # closes its pipes and waits
                pass
            self._process = None
