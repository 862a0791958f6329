"""Leases training jobs: train, export back to a program, hand over what a device needs to measure it."""

from __future__ import annotations

import os
import platform
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import structlog

from nas.contracts.client import CoordinatorClient, CoordinatorError
from nas.contracts.device import DeviceFacts
from nas.contracts.errors import DeviceError, HilnasError, InvalidConfig
from nas.contracts.job import JobResult, Lease, MeasureJob, TrainJob, TrainResult
from nas.contracts.leasing import Heartbeats, enrol_once
from nas.contracts.plan import PROTOCOLS, Cache, Check, Plan
from nas.export.library import BlockLibrary
from nas.export.one_piece import export_checkpoint, one_piece_chain
from nas.export.prompts import token_ids
from search_space.arch import ArchConfig
from trainer.pretrain import RECIPES, PretrainRecipe, PretrainResult, pretrain

log = structlog.get_logger()
LEASE_WAIT_S = 20.0


class Worker:
    """``home`` keeps its credential, the runs (resumable) and the programs it made."""

    def __init__(self, url: str, home: Path, token: str | None = None) -> None:
        self.home = home
        self.stopping = threading.Event()
        self.client = CoordinatorClient(url, stopping=self.stopping.is_set)
        self.library = BlockLibrary(home / "library")
        self._token, self._credential_path = token, home / "credential.json"

    def run(self, max_jobs: int | None = None) -> int:
        """Until told to stop, or ``max_jobs`` are done; returns how many were."""
        self.enrol()
        done = 0
        while not self.stopping.is_set() and (max_jobs is None or done < max_jobs):
            try:
                lease = self.client.lease(LEASE_WAIT_S)
            except CoordinatorError as error:
                if error.status in (401, 403):
                    raise
                lease = None
            except DeviceError as error:
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
        try:
            with beat:
                result = JobResult(fencing_token=lease.fencing_token, training=self.train(job, lease.job_id, beat))
        except HilnasError as error:
            result = JobResult(fencing_token=lease.fencing_token, error=str(error), error_code=error.code)
        except OSError as error:
            result = JobResult(
                fencing_token=lease.fencing_token,
                error=f"the trainer's disk: {error}",
                error_code="trainer_io",
                retry=True,
            )
        self.client.report(lease.job_id, result)
        log.info("training_reported", job_id=lease.job_id, error=result.error)

    def train(self, job: TrainJob, job_id: str, beat: Heartbeats) -> TrainResult:
        """The run's folder is named by the job, so a re-leased job goes on where it was."""
        arch, recipe = ArchConfig.from_dict(job.arch), recipe_of(job)
        folder = self.home / "runs" / job_id
        run = pretrain(arch, recipe, folder, beat.report)
        beat.report(1.0, "exporting")
        exported = export_checkpoint(str(self.library.root), str(run.folder), job.quantization)
        program = self.library.path(exported["digest"])
        plan = trained_plan(arch, exported, job)
        return TrainResult(
            recipe=recipe.name, steps=recipe.steps, tokens=run.tokens, seconds=run.seconds, losses=run.losses,
            held_out_bits_per_byte=run.held_out_bits_per_byte, checkpoint=self.client.upload(packed(run)),
            program=self.client.upload(program), program_bytes=program.stat().st_size,
            measure=MeasureJob(plan=plan, form="trained"),
        )  # fmt: skip


def recipe_of(job: TrainJob) -> PretrainRecipe:
    """The named recipe with the job's seed and options; raises InvalidConfig with the known names."""
    if job.recipe not in RECIPES:
        raise InvalidConfig(f"unknown recipe {job.recipe!r}; known recipes: {', '.join(RECIPES)}")
    try:
        return replace(RECIPES[job.recipe], seed=job.seed, **job.options)
    except TypeError:
        known = ", ".join(PretrainRecipe.__dataclass_fields__)
        raise InvalidConfig(f"recipe {job.recipe}: options {sorted(job.options)} do not fit; known: {known}") from None


def trained_plan(arch: ArchConfig, exported: dict, job: TrainJob) -> Plan:  # type: ignore[type-arg]
    """How a device measures the trained program: the quick protocol, after parity with eager torch."""
    protocol = PROTOCOLS["quick"](2)
    return Plan(
        id=f"trained-{arch.digest[:12]}", chain=one_piece_chain(arch, exported["digest"]),
        cache=Cache(capacity=protocol.capacity), hidden_size=arch.d_model, vocab_size=arch.vocab_size,
        protocol=protocol, tokens=token_ids(arch.vocab_size, 64), check=Check(**exported["check"]),
    )  # fmt: skip


def packed(run: PretrainResult) -> Path:
    """The checkpoint directory as one tar, beside it."""
    path = run.folder.with_suffix(".tar")
    with tarfile.open(path, "w") as archive:
        for file in sorted(run.folder.iterdir()):
            archive.add(file, arcname=f"checkpoint/{file.name}")
    return path


def facts() -> DeviceFacts:
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return DeviceFacts(
        kind="host", name=f"trainer-{platform.node() or 'host'}", model="trainer", arch=platform.machine(),
        cores=len(os.sched_getaffinity(0)), memory_bytes=pages * page, os=f"{platform.system()} {platform.release()}",
    )  # fmt: skip
