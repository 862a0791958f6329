"""Leases training jobs: runs their recipe, hands over what a device needs to measure the result."""

from __future__ import annotations

import os
import platform
import threading
from pathlib import Path

import structlog

from contracts.client import CoordinatorClient
from contracts.device import DeviceFacts
from contracts.http import Refused, Unreachable
from contracts.job import JobResult, Lease, TrainJob, TrainResult
from contracts.leasing import Heartbeats, enrol_once
from contracts.training import RunState, TrainingProgress, TrainingReply
from foundation.errors import DeviceError, HilnasError
from trainer.recipes import RECIPES
from trainer.runs.handover import hand_over, job_recipe, run_job
from trainer.runs.local import Stopped
from trainer.runs.reporter import Reporter, RunReader
from trainer.runs.weights import with_weights

log = structlog.get_logger()
LEASE_WAIT_S = 20.0


class TrainingClient(CoordinatorClient):
    """With what only trainers say."""

    def report_progress(self, training_id: str, progress: TrainingProgress) -> TrainingReply:
        """Raises Unreachable when the coordinator is away: what was not sent goes with the next message."""
        body = progress.model_dump(mode="json", exclude_defaults=True)
        return TrainingReply(**self._post(f"/trainings/{training_id}/progress", body).json())


class Worker:
    """``home`` keeps its credential, runs and stages (resumable) and the programs it made."""

    def __init__(self, url: str, home: Path, token: str | None = None) -> None:
        self.home = home
        self.stopping = threading.Event()
        self.client = TrainingClient(url, stopping=self.stopping.is_set)
        self._token, self._credential_path = token, home / "credential.json"

    def run(self, max_jobs: int | None = None) -> int:
        """Until it is stopped, or ``max_jobs`` are done; returns how many were."""
        self.enrol()
        done = 0
        while not self.stopping.is_set() and (max_jobs is None or done < max_jobs):
            try:
                lease = self.client.lease(LEASE_WAIT_S)
            except Refused as error:
                if error.status in (401, 403):
                    raise
                lease = None
            except Unreachable as error:
                log.warning("coordinator_unreachable", reason=str(error))
                lease = None
                self.stopping.wait(2.0)
            if lease is not None:
                self.serve(lease)
                done += 1
        return done

    def enrol(self) -> None:
        credential = enrol_once(self.client, self._credential_path, self._token, facts(), ["train"])
        log.info("trainer_enrolled", device_id=credential.device_id)

    def serve(self, lease: Lease) -> None:
        job = lease.job
        assert isinstance(job, TrainJob)
        log.info("training_leased", job_id=lease.job_id, recipe=job.recipe)
        beat = Heartbeats(self.client, lease)
        with beat:
            result = self._outcome(lease, job, beat)
        self.client.report(lease.job_id, result)
        log.info("training_reported", job_id=lease.job_id, error=result.error)

    def _outcome(self, lease: Lease, job: TrainJob, beat: Heartbeats) -> JobResult:
        token = lease.fencing_token
        try:
            return JobResult(fencing_token=token, training=self.train(job, lease, beat))
        except Stopped:
            if beat.cancelled.is_set():
                return JobResult(fencing_token=token, error="stopped by its user", error_code="cancelled")
            return JobResult(fencing_token=token, error="its trainer was stopped", error_code="stopped", retry=True)
        except (Unreachable, DeviceError) as error:  # all is saved; the next lease continues
            return JobResult(fencing_token=token, error=str(error), error_code=error.code, retry=True)
        except HilnasError as error:
            return JobResult(fencing_token=token, error=str(error), error_code=error.code)
        except OSError as error:
            reason = f"the trainer's disk: {error}"
            return JobResult(fencing_token=token, error=reason, error_code="trainer_io", retry=True)
        except Exception as error:  # a fault of ours, or no memory: the job ends, the worker takes the next one
            log.exception("training_failed", job_id=lease.job_id)
            reason = f"the trainer failed: {type(error).__name__}: {error}"
            return JobResult(fencing_token=token, error=reason[:2000], error_code="trainer_error")

    def train(self, job: TrainJob, lease: Lease, beat: Heartbeats) -> TrainResult:
        """The run is named by the job and its stages by what goes in, so a job that is leased again goes on."""
        job = with_weights(job, self.home / "cache", self.client.fetch)
        job_recipe(job)  # what cannot work is said before anything is reported as begun
        reader = RunReader(self.home, lease.job_id)
        send = lambda progress: self.client.report_progress(lease.job_id, progress)  # noqa: E731
        with Reporter(reader, send, lease.fencing_token, beat.report) as reporter:
            ended: RunState = "running"  # its job says how it ends; only a stage that failed is said here
            try:
                trained = run_job(job, self.home, lease.job_id, lambda _: self._stop_if_asked(beat))
            except HilnasError:
                ended = "failed"
                raise
            finally:
                reporter.finish(ended)
        beat.report(1.0, "exporting")
        return hand_over(job, trained, self.home / "cache", self.client.upload)

    def _stop_if_asked(self, beat: Heartbeats) -> None:
        if beat.cancelled.is_set() or self.stopping.is_set():
            raise Stopped


def facts() -> DeviceFacts:
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return DeviceFacts(
        kind="host", name=f"trainer-{platform.node() or 'host'}", model="trainer", arch=platform.machine(),
        cores=len(os.sched_getaffinity(0)), memory_bytes=pages * page, os=f"{platform.system()} {platform.release()}",
        details={"recipes": {name: entry.about for name, entry in RECIPES.items()}},
    )  # fmt: skip
