"""This machine with a persistent runner: loaded blocks are reused by the next candidate. For screening, where a fresh
process per candidate would load the same weights over and over; memory is never read from such a process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from contracts.plan import Plan
from contracts.runner_events import ErrorEvent, RunnerEvent, parse_event
from device_agents.devices.host import RUN_TIMEOUT_S, HostDevice
from foundation.errors import RunnerCrashed
from foundation.measurement_lock import MeasurementLock

POOL_BYTES = 4 << 30


class ServedHostDevice(HostDevice):
    def __init__(self, blocks_dir: Path, runner: Path | None = None, name: str | None = None) -> None:
        super().__init__(blocks_dir, runner, name)
        self._process: subprocess.Popen[str] | None = None

    def run(self, plan: Plan, cancelled: Callable[[], bool]) -> list[RunnerEvent]:
        if plan.protocol.memory:
            return super().run(plan, cancelled)
        with MeasurementLock().exclusive(), tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(plan.to_runner(str(self.blocks_dir)), file)
            file.flush()
            with self._watched(cancelled):
                return self._ask(file.name)

    @contextlib.contextmanager
    def _watched(self, cancelled: Callable[[], bool]) -> Iterator[None]:
        """Kills the runner when the job is cancelled or the run takes too long; reading its pipe then ends."""
        process, done = self._running(), threading.Event()

        def watch() -> None:
            waited = 0.0
            while not done.wait(0.5):
                waited += 0.5
                if cancelled() or waited > RUN_TIMEOUT_S:
                    process.kill()
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _ask(self, plan_path: str) -> list[RunnerEvent]:
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        events: list[RunnerEvent] = []
        try:
            process.stdin.write(plan_path + "\n")
            process.stdin.flush()
            for line in process.stdout:
                event = parse_event(json.loads(line))
                if event.event == "done":
                    return events
                events.append(event)
        except RunnerCrashed:
            self.close()  # what it still writes belongs to no later plan
            raise
        except (OSError, ValueError) as error:
            self.close()
            raise RunnerCrashed("killed", f"the serving runner failed: {error}") from error
        self.close()
        if events and isinstance(events[-1], ErrorEvent):
            return events
        raise RunnerCrashed("killed", f"the serving runner ended after {len(events)} events")

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [str(self.runner), "--serve", "--pool-bytes", str(POOL_BYTES)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace",
            )  # fmt: skip
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(OSError), self._process:  # closes its pipes and waits
                pass
            self._process = None
