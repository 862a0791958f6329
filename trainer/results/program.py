"""A trained directory as one measured program. Exports and measurements are kept by content: a second call reads
them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from contracts.device import DeviceFacts
from contracts.job import MeasureJob
from contracts.measurement import SPOILED, Estimate, Measurement, Verdict
from contracts.plan import PRECISION, PROTOCOLS, Check, Plan
from foundation.errors import InvalidConfig
from foundation.files import write_atomically
from foundation.measurement_lock import MeasurementLock
from trainer.results.random_twin import COLD_RUNS, random_twin, ratios

HOST = "host"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
PROTOCOL = "quick"


class Measurer(Protocol):
    """One device, from this process (hilnas.local)."""

    @property
    def facts(self) -> DeviceFacts: ...

    def measure(self, job: MeasureJob, programs: Mapping[str, Path]) -> Measurement: ...


def measure_here(
    model_dir: Path,
    cache: Path,
    quantization: str = "8da4w",
    target: str = HOST,
    threads: int = 2,
    against_random: bool = False,
) -> dict[str, Any]:
    """``model_dir`` as a program, its parity with eager torch checked on the target, then timed.

    Returns {target, device, verdict, reason, protocol, quantization, threads, program, digest, bytes, metrics}; a
    metric is {value, low, high, n, unit}. ``target`` is ``host`` or the address of a phone. ``against_random`` times
    the same architecture with random weights in turn with it and adds ``random`` (trainer.results.random_twin).
    """
    if target != HOST and exported_before(model_dir, cache, quantization) is None:
        with measurer(target, cache / "library"):
            pass  # a phone that is gone is found out before minutes of compiling
    exported = export(model_dir, cache, quantization)
    twin = export(random_twin(model_dir, cache), cache, quantization) if against_random else None
    beside = [twin["digest"]] if twin else []
    key = _sum([_identity(target, cache / "library"), PROTOCOL, str(threads), *beside])
    record = cache / "measured" / f"{exported['digest'][:24]}-{key[:12]}.json"
    if record.exists():
        return dict(json.loads(record.read_text()))
    with measurer(target, cache / "library") as device:
        row = _measured(exported, device, cache / "library", quantization, threads, twin)
        facts = device.facts
    result = {
        "target": target, "device": {"name": facts.name, "model": facts.model, "os": facts.os, "cores": facts.cores},
        "verdict": row.verdict.value, "reason": row.reason, "protocol": PROTOCOL, "quantization": quantization,
        "threads": threads, "program": exported["program"], "digest": exported["digest"], "bytes": exported["bytes"],
        "metrics": {name: plain(estimate) for name, estimate in row.metrics.items()},
        "parity": parity_of(row.events), "cold_repeats": row.cold_repeats,
    }  # fmt: skip
    if twin:
        timed = {name: plain(estimate) for name, estimate in row.beside.items()}
        result["random"] = {"digest": twin["digest"], "metrics": timed, "ratios": ratios(row)}
    if Verdict(row.verdict) not in SPOILED:  # else the machine was at fault: the next call may find it quiet
        record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(record, json.dumps(result, indent=1))
    return result


def measure_on(
    model_dir: Path,
    cache: Path,
    targets: Sequence[str] = (HOST,),
    quantization: str = "8da4w",
    against_random: bool = False,
) -> list[dict[str, Any]]:
    """One row per target, in their order."""
    return [measure_here(model_dir, cache, quantization, t, against_random=against_random) for t in targets]


def plain(estimate: Estimate) -> dict[str, Any]:
    found = {"value": estimate.median, "low": estimate.low, "high": estimate.high}
    return {**found, "n": estimate.num_samples, "unit": estimate.unit}


def export(model_dir: Path, cache: Path, quantization: str) -> dict[str, Any]:
    """{digest, program, bytes, arch, check, seconds, delegation}; compiled once per content and toolchain."""
    if (known := exported_before(model_dir, cache, quantization)) is not None:
        return known
    from nas.export.library import BlockLibrary  # brings torch
    from nas.export.one_piece import export_checkpoint

    library = BlockLibrary(cache / "library")
    with MeasurementLock().shared():
        done = export_checkpoint(str(library.root), str(model_dir), quantization)
    program = library.path(done["digest"])
    arch = json.loads((model_dir / CONFIG).read_text())["arch"]
    exported = {**done, "program": str(program), "bytes": program.stat().st_size, "arch": arch}
    record = _record(model_dir, cache, quantization)
    record.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(record, json.dumps(exported))
    return exported


def exported_before(model_dir: Path, cache: Path, quantization: str) -> dict[str, Any] | None:
    """What ``export`` made of the same weights, if its program is still there."""
    for name in (WEIGHTS, CONFIG):
        if not (model_dir / name).exists():
            raise InvalidConfig(f"{model_dir} has no {name}; give a Hugging Face directory that a stage left")
    record = _record(model_dir, cache, quantization)
    known = dict(json.loads(record.read_text())) if record.exists() else {}
    return known if known and Path(known["program"]).exists() else None


def _record(model_dir: Path, cache: Path, quantization: str) -> Path:
    from nas.export.blocks import FORMAT_VERSION, toolchain  # brings torch

    key = _sum([content_of(model_dir), quantization, str(FORMAT_VERSION), toolchain()])
    return cache / "library" / "pieces" / f"trained-{key}.json"


def measurer(target: str, home: Path) -> AbstractContextManager[Measurer]:
    """What the installed packages offer to measure with."""
    for point in entry_points(group="hilnas.measurers"):
        device: AbstractContextManager[Measurer] = point.load()(target, home)
        return device
    raise InvalidConfig("nothing here can measure: install hilnas with its agent (`make setup` does)")


def _identity(target: str, home: Path) -> str:
    """What a kept measurement was taken on: this machine and its runner, or a phone's address."""
    if target != HOST:
        return target
    with measurer(target, home) as device:
        return f"{device.facts.fingerprint} {device.facts.runner_version}"


def _measured(
    exported: dict[str, Any],
    device: Measurer,
    library_root: Path,
    quantization: str,
    threads: int,
    twin: dict[str, Any] | None = None,
) -> Measurement:
    """``twin`` is another program that is timed in turn with it."""
    from nas.export.library import BlockLibrary
    from nas.targets import on_cores

    library = BlockLibrary(library_root)
    try:
        plans = [plan_of(one, quantization, threads, library) for one in (exported, twin) if one]
        plan, *others = [on_cores(made, [device.facts]) for made in plans]
    finally:
        library.close()
    half_width, repeats = PRECISION[PROTOCOL]
    job = MeasureJob(plan=plan, form="trained", max_half_width=half_width, max_repeats=repeats)
    if others:
        job = job.model_copy(update={"beside": others[0], "cold_repeats": COLD_RUNS})
    return device.measure(job, {digest: library.path(digest) for digest in job.blocks})


def plan_of(exported: dict[str, Any], quantization: str, threads: int, library: Any) -> Plan:
    """The program beside the canary of its width, which shows whether the machine held still."""
    from nas.export.compose import build_plan, canary_of
    from nas.export.one_piece import one_piece_chain
    from search_space.arch import ArchConfig

    arch = ArchConfig.from_dict(exported["arch"])
    return build_plan(
        arch, one_piece_chain(arch, exported["digest"]), PROTOCOLS[PROTOCOL](threads), cache_dtype="fp32",
        check=Check(**exported["check"]), canary=canary_of(arch.d_model, quantization, library),
        name=f"trained-{exported['digest'][:12]}",
    )  # fmt: skip


def parity_of(events: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """What the parity gate found in the first cold run: how near the program is to eager torch."""
    for event in (event for run in events for event in run):
        if event["event"] == "check":
            return {key: event[key] for key in ("max_abs_error", "sqnr_db", "token_agreement") if key in event}
    return {}


def content_of(model_dir: Path) -> str:
    """sha256 of weights and configuration."""
    total = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with open(model_dir / name, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _sum(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()
