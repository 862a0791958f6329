"""The agent loop: enrol once, then lease, fetch, measure, report, until drained."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path

import structlog

from contracts.client import CoordinatorClient
from contracts.device import DEFAULT_THREADS, DeviceFacts
from contracts.http import Refused, Unreachable
from contracts.job import JobResult, Lease, MeasureJob
from contracts.leasing import Heartbeats, enrol_once
from contracts.plan import Plan
from contracts.values import require_digest
from device_agents.canary import CanaryBook
from device_agents.devices.base import Device
from device_agents.outbox import Outbox
from device_agents.session import measure
from foundation.errors import DeviceLost, HilnasError, InvalidConfig

log = structlog.get_logger()
LEASE_WAIT_S = 20.0
RETRY_S = 2.0
NOT_READY_S = 10.0


class Agent:
    """Serves one device. ``home`` keeps its credential, block cache, canary references and unsent results."""

    def __init__(self, url: str, device: Device, home: Path, token: str | None = None) -> None:
        self.device, self.home = device, home
        self.stopping = threading.Event()
        self.client = CoordinatorClient(url, stopping=self.stopping.is_set)
        self.outbox = Outbox(home / "outbox")
        self.canaries = CanaryBook(home / "canary.json")
        self._credential_path, self._token = home / "credential.json", token
        self._not_ready = ""
        device.while_cooling = self.prefetch

    def run(self) -> None:
        """Runs until ``drain``. The current job is always finished and reported first."""
        self.enrol()
        while not self.stopping.is_set():
            try:
                self.flush()
                if not self.is_ready():
                    continue
                lease = self.client.lease(LEASE_WAIT_S)
            except Refused as error:
                if error.status in (401, 403, 410):
                    raise
                lease = None
                self.stopping.wait(RETRY_S)
            except Unreachable as error:
                log.warning("coordinator_unreachable", reason=str(error))
                lease = None
                self.stopping.wait(RETRY_S)
            if lease is not None:
                self.serve(lease)
            else:
                self.device.rest()
        self.flush()
        log.info("agent_drained")

    def is_ready(self) -> bool:
        """False while the device cannot measure; logs each reason once."""
        reason = self.device.ready()
        if reason and reason != self._not_ready:
            log.warning("device_not_ready", device=self.device.facts.name, reason=reason)
        self._not_ready = reason
        if reason:
            self.stopping.wait(NOT_READY_S)
        return not reason

    def drain(self) -> None:
        """Finishes the current job and takes no more."""
        self.stopping.set()

    def enrol(self) -> None:
        credential = enrol_once(self.client, self._credential_path, self._token, self.device.facts, ["measure"])
        log.info("agent_enrolled", device_id=credential.device_id, device=self.device.facts.name)

    def serve(self, lease: Lease) -> None:
        """Runs one job with heartbeats; the result is on disk before it is sent."""
        job = lease.job
        assert isinstance(job, MeasureJob)
        log.info("job_leased", job_id=lease.job_id, plan=job.plan.id)
        with Heartbeats(self.client, lease, self.drain) as beats:
            result = self.result_of(job, lease, beats)
        if beats.cancelled.is_set():
            log.info("job_cancelled", job_id=lease.job_id)
            return
        self.outbox.put(lease.job_id, result)
        self.flush()

    def result_of(self, job: MeasureJob, lease: Lease, beats: Heartbeats) -> JobResult:
        token = lease.fencing_token
        try:
            require_cores(job.plan, self.device.facts)
            self.fetch_blocks([*job.plan.blocks, *(job.beside.blocks if job.beside else [])])
            self.device.begin(lease.job_id)
            row = measure(job, self.device, self.canaries, beats.cancelled.is_set)
            log.info("job_measured", job_id=lease.job_id, verdict=str(row.verdict), wall_s=round(row.wall_s, 2))
            return JobResult(fencing_token=token, measurement=row)
        except (DeviceLost, Unreachable) as error:  # not the candidate's fault
            return JobResult(fencing_token=token, error=str(error), error_code=error.code, retry=True)
        except HilnasError as error:
            return JobResult(fencing_token=token, error=str(error), error_code=error.code)
        except OSError as error:
            message = f"the agent's disk failed: {error}"
            return JobResult(fencing_token=token, error=message, error_code="agent_io", retry=True)

    def fetch_blocks(self, digests: Iterable[str]) -> bool:
        """Downloads the blocks that the device lacks; candidates share most of them. False when it had all of them.

        Raises InvalidConfig for a malformed digest, before it is used in a path."""
        required = list(dict.fromkeys(map(require_digest, digests)))
        missing = [digest for digest in required if not self.device.has_block(digest)]
        paths = {digest: self.home / "blocks" / f"{digest}.pte" for digest in missing}
        for digest, path in paths.items():
            if not path.exists():
                self.client.fetch(digest, path)
        self.device.add_blocks(paths, keep=required)
        return bool(missing)

    def prefetch(self) -> bool:
        """While the device cools: fetches one block of a queued job. False when there is nothing to fetch."""
        with contextlib.suppress(Refused, Unreachable):
            waiting = [digest for digest in self.client.upcoming() if not self.device.has_block(digest)]
            return self.fetch_blocks(waiting[:1])
        return False

    def flush(self) -> None:
        """Sends every finished result; one that the coordinator calls stale or unknown is removed too."""
        for job_id, result in self.outbox.pending():
            try:
                reply = self.client.report(job_id, result)
            except Refused as error:
                log.warning("result_refused", job_id=job_id, reason=str(error))
                if error.status in (401, 403):
                    raise
            except Unreachable as error:
                log.warning("result_kept", job_id=job_id, reason=str(error))
                return
            else:
                log.info("result_sent", job_id=job_id, accepted=reply.accepted, reason=reply.reason)
            self.outbox.remove(job_id)


def require_cores(plan: Plan, facts: DeviceFacts) -> None:
    """Raises InvalidConfig for more threads than the device has cores: they would wait for each other. A device that
    does not say how many it has, or that plays recorded runs, takes any."""
    threads = plan.protocol.threads
    if facts.kind != "replay" and facts.cores > 0 and threads > max(facts.cores, DEFAULT_THREADS):
        raise InvalidConfig(f"{facts.name} has {facts.cores} cores, too few for {threads} threads")
