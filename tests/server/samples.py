"""Bodies that tests send: small, valid, and alike but for what the test is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from contracts.job import MeasureJob
from contracts.measurement import Measurement
from contracts.plan import Cache, Canary, Plan, Step, quick
from search_space.arch import ArchConfig


def spec(**changes: Any) -> dict[str, Any]:
    return {
        "name": "phone-debug",
        "space": "debug_space",
        "objectives": [{"metric": "quality"}, {"metric": "prefill_ms@256"}],
        "max_trials": 8,
        "protocol": "quick",
        **changes,
    }


def facts(name: str = "desk-cpu", **changes: Any) -> dict[str, Any]:
    return {
        "kind": "host", "name": name, "model": "Ryzen 9 9950X", "arch": "x86_64", "cores": 16,
        "memory_bytes": 64 << 30, "os": "Debian 12", "cpu_features": ["avx2"], **changes,
    }  # fmt: skip


def plan(name: str = "trial-0") -> Plan:
    chain = [Step(block="ab" * 32, role="embedding", name=name), Step(block="cd" * 32, role="head", name="head")]
    return Plan(
        id=name, chain=chain, cache=Cache(capacity=2048), hidden_size=256, vocab_size=2048, protocol=quick(),
        tokens=[1, 2, 3],
    )  # fmt: skip


def with_canary(plan: Plan) -> Plan:
    chain = [Step(block="ef" * 32, role="mixer", name="canary")]
    return plan.model_copy(update={"canary": Canary(chain=chain, hidden_size=256, cache=Cache(capacity=256))})


def job(name: str = "trial-0", **changes: Any) -> MeasureJob:
    return MeasureJob(plan=plan(name), **changes)


def estimate(median: float, unit: str = "ms") -> dict[str, Any]:
    return {"median": median, "low": median * 0.97, "high": median * 1.03, "unit": unit, "num_samples": 5}


def measurement(name: str = "trial-0", verdict: str = "valid", prefill_ms: float = 100.0) -> dict[str, Any]:
    return {
        "plan_digest": plan(name).digest, "protocol": "quick", "verdict": verdict,
        "metrics": {"prefill_ms@256": estimate(prefill_ms), "decode_ms@256": estimate(prefill_ms / 20)},
        "canary": {"reference_ms": 10.0, "median_ms": 10.2, "drift": 0.02},
        "environment": {"governor": "performance"}, "block_ms": {"prefill:256": {"embedding": 1.0}},
        "events": [[{"event": "start", "t_ns": 1}, {"event": "end", "t_ns": 2, "ok": True}]],
        "wall_s": 3.0, "forward_s": 2.0,
    }  # fmt: skip


def training() -> dict[str, Any]:
    return {
        "recipe": "smoke", "steps": 20, "tokens": 40_960, "seconds": 31.5, "losses": [6.2, 4.1],
        "held_out_bits_per_byte": {"before": 3.1, "after": 2.2}, "checkpoint": "ab" * 32, "program": "cd" * 32,
        "program_bytes": 4096,
    }  # fmt: skip


def as_measurement(name: str = "trial-0", **changes: Any) -> Measurement:
    return Measurement.model_validate(measurement(name, **changes))


def candidate(number: int = 0) -> ArchConfig:
    """Architectures with other digests by ``number``."""
    return replace(ArchConfig.from_dict(arch()), norm_eps=1e-5 * (1 + number))


def arch(depth: int = 4) -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [
        {"kind": "gated_short_conv", "kernel": 3},
        {"kind": "gqa", "num_heads": 8, "num_kv_heads": 2, "head_dim": 32},
    ]
    layers = [{"mixer": kinds[index % 2], "ffn": {"width": 512, "activation": "silu"}} for index in range(depth)]
    return {"d_model": 256, "vocab_size": 2048, "layers": layers}
