"""Does ``hilnas compare`` find the same order twice, and in which time? Four presets on this host, two sessions.

``minutes`` are those of one session, after compiling.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.record import console, publish
from contracts.comparison import Comparison
from contracts.measurement import Verdict
from hilnas.comparison.models import named_models
from hilnas.comparison.session import Request, run
from hilnas.local import HOST, LIBRARY
from search_space.presets import debug_size, preset

PRESETS = ("smollm2_135m", "lfm2_350m", "qwen3_0_6b", "lfm2_700m")
SURE = 0.95  # two models whose order is less certain in both sessions may change places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--quick", action="store_true", help="Two tiny models and two rounds, for tests.")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        texts = tiny_models(Path(folder)) if options.quick else PRESETS
        prompt, context, rounds = (32, 64, 2) if options.quick else (512, options.context, options.rounds)
        sessions = [session(texts, prompt, context, rounds, Path(folder)) for _ in range(2)]
    rows = [row for turn, one in enumerate(sessions) for row in rows_of(one, turn)]
    publish("compare", judge(sessions), rows, [raw(one) for one in sessions])


def session(texts: tuple[str, ...], prompt: int, context: int, rounds: int, folder: Path) -> Comparison:
    request = Request(
        models=tuple(named_models(texts)), texts=tuple(Path(text).stem for text in texts), on=HOST, target=HOST,
        prompts=(prompt,), contexts=(context,), rounds=rounds, threads=2, quantization="8da4w", cache_dtype="fp32",
        baseline=None, sustained_minutes=0.0, llama_bench=None, ggufs=(), earlier=(),
    )  # fmt: skip
    return run(request, LIBRARY, folder, console.print)


def judge(sessions: list[Comparison]) -> dict[str, Any]:
    """``order_agrees_between_sessions``: no two models change places of which either session is sure, and every row
    is valid. ``probabilities``: metric -> "A before B" -> that of each session."""
    first, second = sessions
    valid = all(row.verdict is Verdict.VALID for one in sessions for row in one.rows)
    probabilities: dict[str, dict[str, list[float]]] = {}
    for pair in first.pairs:
        again = [one.probability for one in second.pairs
                 if (one.metric, one.first, one.second) == (pair.metric, pair.first, pair.second)]  # fmt: skip
        known = probabilities.setdefault(pair.metric, {})
        known[f"{pair.first} before {pair.second}"] = [round(value, 4) for value in (pair.probability, *again)]
    agree = valid and all(not contradict(values) for known in probabilities.values() for values in known.values())
    return {
        "minutes": round(max(one.minutes for one in sessions), 2), "order_agrees_between_sessions": agree,
        "all_valid": valid, "models": len(first.rows), "rounds": first.settings.rounds, "probabilities": probabilities,
    }  # fmt: skip


def contradict(values: list[float]) -> bool:
    """One session is sure of an order that the other does not lean to."""
    sure = [abs(value - 0.5) > SURE - 0.5 for value in values]
    return any(sure) and len({value > 0.5 for value in values}) > 1


def rows_of(one: Comparison, turn: int) -> list[dict[str, Any]]:
    found = []
    for row in one.rows:
        times = {metric: row.metrics[metric].median for metric in one.compared_metrics if metric in row.metrics}
        found.append({"session": turn + 1, "model": row.name, "verdict": str(row.verdict), **times,
                      "runs": f"{len(row.rounds)} of {row.cold_runs}"})  # fmt: skip
    return found


def raw(one: Comparison) -> dict[str, Any]:
    """Without the name of this machine."""
    plain: dict[str, Any] = json.loads(one.model_dump_json())
    plain["device"]["name"] = "host"
    return plain


def tiny_models(folder: Path) -> tuple[str, ...]:
    paths = []
    for name, source in (("tiny_conv", "lfm2_350m"), ("tiny_attention", "qwen3_0_6b")):
        arch = debug_size(preset(source), d_model=64, vocab_size=256, depth=2)
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(arch.to_dict()))
    return tuple(map(str, paths))


if __name__ == "__main__":
    main()
