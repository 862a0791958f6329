"""A comparison, top to bottom: device, models, plans, rounds, rows, pairs, one kept result."""

from __future__ import annotations

import hashlib
import json
import secrets
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from contracts.comparison import ComparedRow, Comparison, Settings, Sustained
from contracts.device import DeviceFacts
from contracts.measurement import Verdict
from contracts.plan import CacheDtype, Plan, Protocol
from device_agents.comparison import Entrant, Series, kept_sentence, measure_in_turn, measurement_of
from device_agents.devices.base import Device
from device_agents.journal import Journal
from device_agents.llama_bench import HostLlamaBench, LlamaBench, PhoneLlamaBench
from device_agents.sustained import sustain
from foundation.errors import RunnerCrashed
from foundation.files import write_atomically
from hilnas.cli.checks import require_threads
from hilnas.cli.progress import compiling
from hilnas.comparison.earlier import earlier_rows, require_alike, require_names
from hilnas.comparison.models import NamedModel
from hilnas.comparison.pairs import pairs_of
from hilnas.comparison.programs import planned, protocol_of
from hilnas.comparison.rows import llama_row, model_row
from hilnas.local import LocalMeasurer
from nas.targets import cores_for

Told = Callable[[str], None]
PUBLIC = ("soc", "android", "one_ui", "build", "security_patch", "kernel", "virtual", "affinity")  # of a phone


@dataclass(frozen=True)
class Request:
    """What a user asked for. ``target`` is ``host`` or a phone's address, ``on`` how the user named it; ``earlier`` are
    results that are shown beside."""

    models: tuple[NamedModel, ...]
    texts: tuple[str, ...]
    on: str
    target: str
    prompts: tuple[int, ...]
    contexts: tuple[int, ...]
    rounds: int
    threads: int
    quantization: str
    cache_dtype: CacheDtype
    baseline: str | None
    sustained_minutes: float
    llama_bench: Path | None
    ggufs: tuple[Path, ...]
    earlier: tuple[tuple[Path, Comparison], ...]

    @property
    def names(self) -> list[str]:
        before = [row.name for row in earlier_rows([one for _, one in self.earlier])]
        return [*(model.name for model in self.models), *(path.stem for path in self.ggufs), *before]

    @property
    def protocol(self) -> Protocol:
        return protocol_of(list(self.prompts), list(self.contexts), self.threads)

    @property
    def command(self) -> str:
        """That repeats the measuring."""
        words = ["hilnas", "compare", *self.texts, "--on", self.on]
        words += [word for length in self.prompts for word in ("--prompt", str(length))]
        words += [word for context in self.contexts for word in ("--context", str(context))]
        words += ["--rounds", str(self.rounds), "--threads", str(self.threads), "--quantization", self.quantization]
        words += ["--cache-dtype", self.cache_dtype]
        words += ["--llama-bench", str(self.llama_bench)] if self.llama_bench else []
        words += [word for path in self.ggufs for word in ("--gguf", str(path))]
        words += ["--baseline", self.baseline] if self.baseline else []
        words += ["--sustained", f"{self.sustained_minutes:g}"] if self.sustained_minutes else []
        words += [word for path, _ in self.earlier for word in ("--with", str(path))]
        return shlex.join(words)


def run(request: Request, library: Path, folder: Path, told: Told, device: Device | None = None) -> Comparison:
    """Measures and keeps the result in ``folder``. Raises InvalidConfig for what cannot be compared, before any work;
    DeviceLost with what is kept when the device is gone."""
    require_names(request.names)
    local = LocalMeasurer(
        request.target, library, device=device, quantization=request.quantization, cache_dtype=request.cache_dtype
    )
    with local:
        protocol = on_device(request.protocol, local.facts)
        settings = settings_of(request, protocol)
        for path, one in request.earlier:
            require_alike(one, path, local.facts, settings)
        benches = [bench_of(local.device, request, gguf, protocol) for gguf in request.ggufs]
        for bench in benches:
            bench.prepare()
        told("looking for missing blocks")
        local.compile([model.arch for model in request.models if model.folder is None], compiling(told))
        plans = [planned(local, model, protocol) for model in request.models]
        push(local, [plan for plan, _ in plans], benches, told)
        pairs = zip(request.models, plans, strict=True)
        entrants = [Entrant(model.name, plan, local.device) for model, (plan, _) in pairs]
        entrants += [Entrant(bench.gguf.stem, bench.plan, bench) for bench in benches]
        return _measured(request, local, settings, [weights for _, weights in plans], entrants, folder, told)


def _measured(
    request: Request, local: LocalMeasurer, settings: Settings, weights: Sequence[str], entrants: Sequence[Entrant],
    folder: Path, told: Told,
) -> Comparison:  # fmt: skip
    session = session_key(entrants, local.facts)
    with Journal(folder / f"open-{session}.jsonl") as journal:
        if journal.records:
            told(f"continuing: {kept_sentence(journal)}")
        start = journal.records[0]["at"] if journal.records else time.time()
        local.device.begin(f"compare-{secrets.token_hex(4)}")
        progress = lambda turn, name: told(f"{round_of(turn, request.rounds)}: {name}")  # noqa: E731
        series = measure_in_turn(entrants, request.rounds, journal, progress)
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{session[:8]}"
        rows = rows_of(request, local, series, weights, name)
        minutes = measuring_seconds(series) / 60
        result = comparison_of(request, local.facts, settings, rows, minutes, datetime.fromtimestamp(start, UTC))
        keep(folder, name, result)
        journal.finish(folder / f"{name}.jsonl")
    if request.sustained_minutes:
        result = result.model_copy(update={"sustained": sustained_of(request, result, entrants, told)})
        keep(folder, name, result)
    return result


def round_of(turn: int, rounds: int) -> str:
    extra = "; some runs were disturbed, so one more" if turn >= rounds else f" of {rounds}"
    return f"round {turn + 1}{extra}"


def on_device(protocol: Protocol, facts: DeviceFacts) -> Protocol:
    """On the cores that the device picks. Raises InvalidConfig for more threads than it has cores."""
    require_threads(protocol.threads, facts.cores)
    return protocol.model_copy(update={"affinity": cores_for(facts, protocol.threads) or None})


def settings_of(request: Request, protocol: Protocol) -> Settings:
    return Settings(
        threads=request.threads, affinity=protocol.affinity, prompts=list(request.prompts),
        contexts=list(request.contexts), quantization=request.quantization, cache_dtype=request.cache_dtype,
        rounds=request.rounds,
    )  # fmt: skip


def bench_of(device: Device, request: Request, gguf: Path, protocol: Protocol) -> LlamaBench:
    from device_agents.devices.android.device import AndroidDevice

    assert request.llama_bench is not None
    kind = PhoneLlamaBench if isinstance(device, AndroidDevice) else HostLlamaBench
    return kind(device, request.llama_bench, gguf, protocol)


def push(local: LocalMeasurer, plans: Sequence[Plan], benches: Sequence[LlamaBench], told: Told) -> None:
    """All programs at once, so that none makes room for another."""
    told("sending programs to the device")
    digests = list(dict.fromkeys(digest for plan in plans for digest in plan.blocks))
    kept = [digest for bench in benches for digest in bench.blocks]
    local.device.add_blocks({digest: local.library.path(digest) for digest in digests}, keep=[*digests, *kept])


def session_key(entrants: Sequence[Entrant], facts: DeviceFacts) -> str:
    """Equal for sessions whose cold runs may be joined."""
    names = [[one.name, one.plan.digest] for one in entrants]
    text = json.dumps([facts.fingerprint, facts.runner_version, names])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def rows_of(
    request: Request, local: LocalMeasurer, series: Sequence[Series], weights: Sequence[str], session: str
) -> list[ComparedRow]:
    rows = []
    for index, one in enumerate(series):
        measured = measurement_of(one, request.rounds, local.canaries)
        if index < len(request.models):
            model, contexts = request.models[index], request.contexts
            rows.append(model_row(one, measured, model, weights[index], local, contexts, session))
        else:
            rows.append(llama_row(one, measured, session))
    return rows


def measuring_seconds(series: Sequence[Series]) -> float:
    return sum(sum(one.seconds) for one in series)


def comparison_of(
    request: Request, facts: DeviceFacts, settings: Settings, rows: Sequence[ComparedRow], minutes: float,
    measured_at: datetime,
) -> Comparison:  # fmt: skip
    all_rows = [*rows, *earlier_rows([one for _, one in request.earlier])]
    public = facts.model_copy(update={"details": {k: facts.details[k] for k in PUBLIC if k in facts.details}})
    bare = Comparison(
        title=title_of([row.name for row in all_rows], facts), command=request.command, measured_at=measured_at,
        minutes=minutes, device=public, settings=settings, rows=all_rows, baseline=request.baseline,
    )  # fmt: skip
    return bare.model_copy(update={"pairs": pairs_of(all_rows, bare.compared_metrics)})


def title_of(names: Sequence[str], facts: DeviceFacts) -> str:
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{listed} on {facts.model}"[:120]


def sustained_of(
    request: Request, result: Comparison, entrants: Sequence[Entrant], told: Told
) -> list[Sustained]:
    """Of every model with a decoding time, at the largest context. llama-bench has no such mode and is left out."""
    context = max(request.contexts)
    metric, found = f"decode_ms@{context}", []
    for one in (entrant for entrant in entrants if not isinstance(entrant.device, LlamaBench)):
        row = next(row for row in result.rows if row.name == one.name)
        if row.verdict is not Verdict.VALID or metric not in row.metrics:
            continue
        told(f"sustained: {one.name} for {request.sustained_minutes:g} minutes")
        try:
            found.append(sustain(one, context, request.sustained_minutes, row.metrics[metric].median))
        except RunnerCrashed as error:
            told(f"sustained: {one.name} failed: {error}")
    return found


def keep(folder: Path, name: str, result: Comparison) -> None:
    write_atomically(folder / f"{name}.json", result.model_dump_json(indent=1) + "\n")
