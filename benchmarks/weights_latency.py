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
from scipy.stats import binom

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
    parser.add_argument("--rounds", type=int, default=64, help="A quarter of them with the slow portable kernels.")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--quick", action="store_true", help="Two rounds of a narrow model, for tests.")
    options = parser.parse_args()
    rounds, width = (2, 64) if options.quick else (options.rounds, options.width)
    shares = {"xnnpack": rounds, "portable": max(2, rounds // 4)}
    rows = [row for backend in FORMS for row in measure(backend, shares[backend], width)]
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
    """The median with its distribution-free 95 % interval: cold runs of a shared machine have outliers of 20 % and
    more, which a mean and its t interval carry along."""
    ordered = sorted(ratios)
    skipped = max(0, int(binom.ppf(0.025, len(ordered), 0.5)) - 1)
    found = {"ratio": statistics.median(ordered), "low": ordered[skipped], "high": ordered[-1 - skipped]}
    return {name: round(value, 4) for name, value in found.items()}


def judge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Per backend ``equal``: every interval as a whole lies within ``MARGIN`` of 1; a wide one shows nothing."""
    found: dict[str, Any] = {}
    for backend in dict.fromkeys(row["backend"] for row in rows):
        own = [row for row in rows if row["backend"] == backend]
        furthest = max(max(row["high"] - 1, 1 - row["low"]) for row in own)
        found |= {f"{backend}_equal": furthest <= MARGIN, f"{backend}_differs_by_at_most": round(furthest, 4)}
        found |= {f"{backend} {row['metric']}": [row["ratio"], row["low"], row["high"]] for row in own}
    return found


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
