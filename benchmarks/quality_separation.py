"""Does the mechanistic estimate separate what it should? Short convolution alone against a few attention layers, by
seed."""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from benchmarks.record import publish
from contracts.study import QualitySpec
from nas.quality.contract import judge_in_worker
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, MixerConfig

CONV, ATTENTION = GatedShortConv(3), Gqa(8, 2, 32)
LAYOUTS = {"8 conv": "cccccccc", "7 conv 1 gqa": "ccccaccc", "5 conv 3 gqa": "ccacaacc", "8 gqa": "aaaaaaaa"}
RECALL = ["in_context_recall", "noisy_recall", "fuzzy_recall"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    rows = measure(options.steps, options.seeds)
    publish("quality_separation", judge(rows), rows)


def measure(steps: int, seeds: int) -> list[dict[str, Any]]:
    """One row for each layout."""
    spec = QualitySpec(options={"steps": steps, "seeds": seeds}).model_dump()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = {name: pool.submit(judge_in_worker, spec, arch_of(text).to_dict()) for name, text in LAYOUTS.items()}
        results = {name: job.result() for name, job in jobs.items()}
    return [
        {
            "layout": name, "score": r["score"], "low": r["low"], "high": r["high"],
            "recall": statistics.mean(r["tasks"][task] for task in RECALL), **r["tasks"],
            "seconds_per_seed": r["seconds"] / seeds,
        }
        for name, r in results.items()
    ]  # fmt: skip


def judge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Separated: the whole interval of convolution alone lies below that of the hybrid."""
    by_name = {row["layout"]: row for row in rows}
    return {
        "conv_only_recall": round(by_name["8 conv"]["recall"], 4),
        "hybrid_recall": round(by_name["5 conv 3 gqa"]["recall"], 4),
        "conv_only_score": [round(by_name["8 conv"][key], 4) for key in ("low", "score", "high")],
        "hybrid_score": [round(by_name["5 conv 3 gqa"][key], 4) for key in ("low", "score", "high")],
        "separated": by_name["8 conv"]["high"] < by_name["5 conv 3 gqa"]["low"],
        "seconds_per_judgement": round(statistics.mean(row["seconds_per_seed"] for row in rows), 1),
    }


def arch_of(text: str) -> ArchConfig:
    mixers: dict[str, MixerConfig] = {"c": CONV, "a": ATTENTION}
    return ArchConfig(256, 2048, tuple(LayerConfig(mixers[letter], SwiGLU(512)) for letter in text))


if __name__ == "__main__":
    main()
