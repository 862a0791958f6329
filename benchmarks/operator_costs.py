"""What every mixer costs at d = 1024: prefill of 512 tokens and one decoded token at four contexts, against
gated_short_conv.

Each mixer is timed as its own block (norm and residual included) in chains of eight, so that dispatch is amortized.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.record import publish
from contracts.measurement import SPOILED
from contracts.plan import Cache, Protocol
from hilnas.local import LocalMeasurer
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.cost import cache_bytes, layer_linears, linear_bytes
from search_space.mixers import GatedShortConv, Gqa, MixerConfig, SlidingWindow

CONTEXTS = [128, 1024, 4096, 16384]
MIXERS: tuple[MixerConfig, ...] = (
    GatedShortConv(3), GatedShortConv(7), Gqa(16, 8, 64), Gqa(16, 4, 64), Gqa(16, 8, 64, gate=True),
    SlidingWindow(16, 8, 64, window=512), SlidingWindow(16, 8, 64, window=1024),
)  # fmt: skip
DEPTH = 8
MAX_SESSIONS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--d-model", type=int, default=1024)
    options = parser.parse_args()
    rows = measure(options.d_model)
    publish("operator_costs", judge(rows), rows)


def measure(d_model: int) -> list[dict[str, Any]]:
    """One row for each mixer; ratios are to the first."""
    bench = LocalMeasurer()
    archs = [stack(mixer, d_model) for mixer in MIXERS]
    bench.compile(archs)
    protocol = Protocol(name="operators", repetitions=7, decode_contexts=CONTEXTS, decode_tokens=32)
    rows = [cost(bench, arch, protocol) for arch in archs]
    bench.close()
    base = rows[0]
    for row in rows:
        for key in [key for key in row if key.endswith("_ms")]:
            row[f"{key[:-3]} ratio"] = row[key] / base[key]
    return rows


def judge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mixer by mixer; there is no bar."""
    return {
        row["mixer"]: {key: round(value, 5) for key, value in row.items() if isinstance(value, (int, float))}
        for row in rows
    }


def stack(mixer: MixerConfig, d_model: int) -> ArchConfig:
    return ArchConfig(d_model, 2048, (LayerConfig(mixer, SwiGLU(2560)),) * DEPTH)


def cost(bench: LocalMeasurer, arch: ArchConfig, protocol: Protocol) -> dict[str, Any]:
    """Median time of the mixer's steps, per layer."""
    plan = bench.plan(arch, protocol, check=True)
    plan = plan.model_copy(update={"cache": Cache(dtype="fp32", capacity=protocol.capacity)})
    for _ in range(MAX_SESSIONS):  # as a study does with what the machine spoiled
        measured = bench.measure_plan(plan, max_repeats=4, cold_repeats=2)
        if measured.verdict not in SPOILED:
            break
    layer = arch.layers[0]
    linears = layer_linears(arch, LayerConfig(layer.mixer, None))
    row: dict[str, Any] = {
        "mixer": layer.mixer.label, "verdict": str(measured.verdict),
        "weight_bytes": sum(linear_bytes(linear, bench.quantization) for linear in linears),
        "cache_bytes@4096": cache_bytes(arch, 4096) // DEPTH,
    }  # fmt: skip
    for phase, steps in measured.block_ms.items():
        own = [ms for name, ms in steps.items() if name.split(".")[-1] == layer.mixer.kind]
        row[f"{phase}_ms"] = sum(own) / len(own)
    return row


if __name__ == "__main__":
    main()
