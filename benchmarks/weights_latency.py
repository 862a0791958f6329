"""Does latency depend on weights? One architecture as two programs, once per backend, in turn in one session: weights
drawn from a normal distribution, and weights with heavy tails of which a third are zero, as pruning leaves them.

Candidates of a search are measured with arbitrary weights, so the ratio must be 1 within its noise.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student_t

from benchmarks.record import publish
from contracts.plan import Check, Plan, Protocol
from device_agents.session import Session, take_run
from hilnas.local import LocalMeasurer
from nas.export.compose import build_plan
from nas.export.modules import deploy
from nas.export.one_piece import check_model, compile_model, one_piece_chain
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, SlidingWindow
from search_space.modeling.model import HilnasForCausalLM, build_model

FORMS = {"xnnpack": "8da4w", "portable": "fp32"}
METRICS = ("prefill_ms@256", "decode_ms@256", "decode_ms@1024")
PROTOCOL = Protocol(name="weights", prefill_lengths=[256], decode_contexts=[256, 1024], repetitions=3)
ZEROS, FREEDOM = 1 / 3, 2.5
MARGIN = 0.03


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--quick", action="store_true", help="Two rounds of a narrow model, for tests.")
    options = parser.parse_args()
    rounds, width = (2, 64) if options.quick else (options.rounds, options.width)
    rows = [row for backend in FORMS for row in measure(backend, rounds, width)]
    publish("weights_latency", judge(rows), rows)


def measure(backend: str, rounds: int, width: int) -> list[dict[str, Any]]:
    """A row for each metric: ratios of every round, heavy-tailed over normal."""
    bench = LocalMeasurer(quantization=FORMS[backend], backend=backend)
    arch = arch_of(width)
    plans = [plan_of(bench, model, arch) for model in (build_model(arch, seed=0), heavy_tailed(arch))]
    sessions = (Session(), Session())
    for turn in range(rounds):
        for form in (0, 1) if turn % 2 else (1, 0):
            take_run(plans[form], bench.device, sessions[form], lambda: False)
    bench.close()
    return [{"backend": backend, "metric": metric, **compared(sessions, metric)} for metric in METRICS]


def compared(sessions: tuple[Session, Session], metric: str) -> dict[str, Any]:
    plain, heavy = ([statistics.median(run.by_metric[metric]) for run in session.runs] for session in sessions)
    ratios = [b / a for a, b in zip(plain, heavy, strict=True)]
    return {"normal_ms": statistics.median(plain), "ratios": [round(ratio, 4) for ratio in ratios], **interval(ratios)}


def interval(ratios: list[float]) -> dict[str, float]:
    """Student's t over the logarithms of the rounds' ratios."""
    logs = np.log(ratios)
    half = float(student_t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5)
    middle = float(logs.mean())
    return {name: round(float(np.exp(value)), 4) for name, value in
            (("ratio", middle), ("low", middle - half), ("high", middle + half))}  # fmt: skip


def judge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """``equal``: every interval as a whole lies within ``MARGIN`` of 1; a wide one shows nothing."""
    furthest = max(max(row["high"] - 1, 1 - row["low"]) for row in rows)
    found = {f"{row['backend']} {row['metric']}": [row["ratio"], row["low"], row["high"]] for row in rows}
    return {"equal": furthest <= MARGIN, "differs_by_at_most": round(furthest, 4), **found}


def arch_of(width: int) -> ArchConfig:
    heads = width // 64 or 1
    mixers = (GatedShortConv(3), Gqa(heads, 1, 64), SlidingWindow(heads, 1, 64, window=128), GatedShortConv(7))
    return ArchConfig(width, 4096, tuple(LayerConfig(mixer, SwiGLU(2 * width)) for mixer in mixers))


def heavy_tailed(arch: ArchConfig) -> HilnasForCausalLM:
    model, generator = build_model(arch, seed=1), np.random.default_rng(1)
    with torch.no_grad():
        for value in (one for one in model.parameters() if one.dim() > 1):
            drawn = generator.standard_t(FREEDOM, tuple(value.shape)) * (generator.random(tuple(value.shape)) > ZEROS)
            value.copy_(torch.from_numpy(drawn) * float(value.std()))
    return model


def plan_of(bench: LocalMeasurer, model: HilnasForCausalLM, arch: ArchConfig) -> Plan:
    """The model as one program, without canary: each is the other's."""
    deployed = deploy(model, bench.quantization)
    program, _ = compile_model(deployed, arch, bench.quantization, bench.backend)
    digest = bench.library.store(program)
    check: Check = check_model(deployed, arch, bench.quantization, backend=bench.backend)
    return build_plan(
        arch, one_piece_chain(arch, digest), PROTOCOL, cache_dtype="fp32", check=check, canary=None,
        backend=bench.backend,
    )  # fmt: skip


if __name__ == "__main__":
    main()
