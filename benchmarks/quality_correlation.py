"""Do estimates rank candidates as training does? Layouts of one small space, trained on real text, against every
estimator, at what each costs.

The ground truth is made on a GPU by ``python -m benchmarks.quality_truth`` and kept beside the results; estimators run
here, on one thread. Trainings with a tenth of the tokens, or at half the width, ran with the truth: they are the same
loop as the ``text`` estimator's at higher fidelities.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from benchmarks.quality_truth import LENGTH, RATES, Job, arch_of, read
from benchmarks.record import RESULTS, publish
from benchmarks.resume import KeptRows
from contracts.metrics import METRICS
from contracts.study import QualitySpec
from foundation.errors import HilnasError
from nas.quality.contract import ESTIMATORS, estimator
from nas.quality.proxy import proxy_of
from nas.quality.tasks import LENGTH as TASK_LENGTH
from nas.quality.tasks import VOCAB_SIZE
from nas.quality.text.data import TextData
from nas.quality.texts import TEXTS
from search_space.cost import macs_per_token

BAR_SPEARMAN, BAR_COST = 0.85, 0.1
RESAMPLES = 2000
Row = dict[str, Any]
SPECS: dict[str, dict[str, Any]] = {
    "params": {},
    "text": {"text": "benchmark", "context": LENGTH, "evaluation_rows": 512, "learning_rates": [6e-3]},
    "mechanistic": {"steps": 100, "learning_rates": [4e-3]},
}
QUICK: dict[str, dict[str, Any]] = {
    "params": {}, "text": {**SPECS["text"], "tokens": 100_000, "learning_rates": [6e-3]},
    "mechanistic": {"steps": 60, "learning_rates": [4e-3], "width": 32},
}  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--truth", type=Path, default=RESULTS / "quality_truth", help="folder of quality_truth")
    options.add_argument("--text", type=Path, default=Path("var/quality_proxy.npz"), help="made by quality_data")
    options.add_argument("--kept", type=Path, default=Path("var/train"), help="remembers finished estimates")
    options.add_argument("--quick", action="store_true", help="cheaper settings of the estimators")
    options.add_argument("--layouts", type=int, default=10_000, help="only the first ones")
    given = options.parse_args()
    torch.set_num_threads(1)
    TEXTS.add("benchmark", lambda: TextData.load(given.text))
    trainings = read(given.truth / "truth.jsonl")
    layouts = list(dict.fromkeys(row["job"]["layout"] for row in trainings))[: given.layouts]
    estimates = measure(layouts, QUICK if given.quick else SPECS, given.kept)
    table = [*estimates_as_columns(estimates), *fidelities(trainings)]
    truth = truth_of(trainings)
    rows = [judged(column, truth) for column in table]
    publish("quality_correlation", summary(rows, truth, trainings), rows, {"truth": truth, "estimates": estimates})


def measure(layouts: list[str], specs: dict[str, dict[str, Any]], kept_folder: Path) -> list[Row]:
    """One row for each estimator and layout; finished ones are kept."""
    found = []
    for name, given in specs.items():
        kept = KeptRows(kept_folder, "quality_correlation", [name, given, ESTIMATORS[name].version])
        for layout in layouts:
            row = kept.once(f"{name} {layout}", 0, partial(estimated, name, given, layout))
            found.append({"estimator": name, "layout": layout, **row})
    return found


def estimated(name: str, options: dict[str, Any], layout: str) -> Row:
    """The result, or why there is none. ``cost``: multiply-adds of everything that was trained."""
    one = estimator(QualitySpec(estimator=name, options=options))
    try:
        result = one.judge(arch_of(layout)).model_dump()
    except HilnasError as error:
        result = {"error": str(error)}
    print(name, layout, result.get("score", result), f"{result.get('seconds', 0):.0f} s", flush=True)
    return {**result, "cost": cost_of(one, layout)}


def cost_of(one: Any, layout: str) -> float:
    """Multiply-adds of the proxy's forward passes in training."""
    arch = arch_of(layout)
    if one.name == "text":
        given, data = one.options, TEXTS["benchmark"]()
        proxy = proxy_of(arch, given.width, data.vocab_size, given.length, given.context)
        rates = 1 if len(given.learning_rates) == 1 else 2
        passes = given.seeds + (given.audition * rates if rates > 1 else 0.0)
        return float(macs_per_token(proxy, given.length // 2) * given.tokens * passes)
    if one.name == "mechanistic":
        given = one.options
        proxy = proxy_of(arch, given.width, VOCAB_SIZE, TASK_LENGTH)
        tokens = given.steps * len(given.tasks) * 12 * TASK_LENGTH * max(1, len(given.learning_rates)) * given.seeds
        return float(macs_per_token(proxy, TASK_LENGTH // 2) * tokens)
    return 0.0


def truth_of(trainings: list[Row]) -> dict[str, Row]:
    """By layout: the better rate counts, its seeds are averaged. Layouts without both rates are left out."""
    found: dict[str, Row] = {}
    for layout in dict.fromkeys(row["job"]["layout"] for row in trainings):
        full = [row for row in trainings if row["job"]["form"] == "full" and row["job"]["layout"] == layout]
        first = {row["job"]["rate"]: row["bits_per_byte"] for row in full if row["job"]["seed"] == 0}
        if set(first) == set(RATES):
            rate = min(RATES, key=first.__getitem__)
            bits = [row["bits_per_byte"] for row in full if row["job"]["rate"] == rate]
            found[layout] = {
                "bits_per_byte": float(np.mean(bits)), "rate": rate, "seeds": bits, "hybrid": is_hybrid(layout),
                "cost": float(full[0]["tokens"] * full[0]["macs_per_token"]), "seconds": full[0]["seconds"],
            }  # fmt: skip
    return found


def is_hybrid(layout: str) -> bool:
    """Attention over the whole context beside mixers that see less."""
    letters = set(layout.split()[0])
    return bool(letters & set("afm")) and bool(letters & set("ckwv"))


def estimates_as_columns(estimates: list[Row]) -> list[Row]:
    """One column of scores for each estimator, higher is better; the audition of ``text`` is a fidelity of its own."""
    columns = []
    for name in dict.fromkeys(row["estimator"] for row in estimates):
        rows = [row for row in estimates if row["estimator"] == name]
        sign = 1 if METRICS[ESTIMATORS[name].metric].direction == "max" else -1
        fidelity = next((row["fidelity"] for row in rows if "score" in row), "")
        columns.append(_column(name, fidelity, rows, partial(_score, sign)))
        if name == "text":
            columns.append(_column(name, "the audition alone", rows, _audition, share=1 / 3))
    return [column for column in columns if any(score is not None for score in column["scores"].values())]


def _score(sign: int, row: Row) -> float | None:
    return sign * row["score"] if "score" in row else None


def _audition(row: Row) -> float | None:
    found = row.get("details", {}).get("auditions") or {}
    return -min(found.values()) if found else None


def _column(
    name: str, fidelity: str, rows: list[Row], score: Callable[[Row], float | None], share: float = 1.0
) -> Row:
    return {
        "estimator": name, "fidelity": fidelity, "scores": {row["layout"]: score(row) for row in rows},
        "cost": {row["layout"]: row["cost"] * share for row in rows},
        "seconds": {row["layout"]: row.get("seconds", 0.0) * share for row in rows},
    }  # fmt: skip


def fidelities(trainings: list[Row]) -> list[Row]:
    """The ``text`` loop at higher fidelities, as it ran with the truth: each form at one rate and with the better of
    both, and the truth's own trainings, read early."""
    columns = []
    for form, words in (("short", "a tenth of the tokens"), ("narrow", "half the width, a fifth of the tokens")):
        for rates in ((RATES[0],), (RATES[1],), RATES):
            which = f"rate {rates[0]:g}" if len(rates) == 1 else "the better of both rates"
            found = _by_layout(trainings, form, rates)
            columns.append(_gpu(f"{words}, {which}", {k: min(r["bits_per_byte"] for r in v) for k, v in found.items()},
                                found, 1.0))  # fmt: skip
    for stop in range(3):
        found = _by_layout(trainings, "full", RATES[:1])
        read_early = {k: list(v[0]["at_tokens"].values())[stop] for k, v in found.items()}
        shares = {int(list(v[0]["at_tokens"])[stop]) / v[0]["tokens"] for v in found.values()}
        share = float(np.mean(list(shares)))
        columns.append(_gpu(f"the truth's own training at rate {RATES[0]:g}, read after {share:.0%}", read_early,
                            found, share))  # fmt: skip
    return [column for column in columns if column["scores"]]


def _by_layout(trainings: list[Row], form: str, rates: tuple[float, ...]) -> dict[str, list[Row]]:
    """Trainings of the first seed, where all ``rates`` are there."""
    found: dict[str, list[Row]] = {}
    for row in trainings:
        job = Job(**row["job"])
        if job.form == form and job.rate in rates and job.seed == 0:
            found.setdefault(job.layout, []).append(row)
    return {layout: rows for layout, rows in found.items() if len(rows) == len(rates)}


def _gpu(fidelity: str, bits: dict[str, float], rows: dict[str, list[Row]], share: float) -> Row:
    return {
        "estimator": "text on the GPU", "fidelity": fidelity, "scores": {k: -value for k, value in bits.items()},
        "cost": {k: sum(r["tokens"] * r["macs_per_token"] for r in v) * share for k, v in rows.items()},
        "seconds": {k: sum(r["seconds"] for r in v) * share for k, v in rows.items()},
    }  # fmt: skip


def judged(column: Row, truth: dict[str, Row]) -> Row:
    """Rank correlations with the truth over all layouts and over hybrids alone, with intervals; cost over cost."""
    known = [name for name in truth if column["scores"].get(name) is not None]
    hybrids = [name for name in known if truth[name]["hybrid"]]
    everything, mixed = (correlations(column["scores"], truth, names) for names in (known, hybrids))
    ratios = [column["cost"][name] / truth[name]["cost"] for name in known]
    return {
        "estimator": column["estimator"], "fidelity": column["fidelity"], "layouts": len(known),
        "cost_ratio": round(float(np.mean(ratios)), 5) if ratios else None,
        "seconds": round(float(np.mean([column["seconds"][name] for name in known])), 1) if known else None,
        **everything, **{f"hybrid_{key}": value for key, value in mixed.items()}, "hybrids": len(hybrids),
        "failed": sum(column["scores"].get(name, 0) is None for name in truth),
    }  # fmt: skip


def correlations(scores: dict[str, float], truth: dict[str, Row], names: list[str]) -> Row:
    x = np.array([scores[name] for name in names])
    y = np.array([-truth[name]["bits_per_byte"] for name in names])
    found: Row = {}
    for key, measure in (("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
        value = float(measure(x, y).statistic) if len(names) > 3 else float("nan")
        found[key] = round(value, 3) if np.isfinite(value) else None
        found[f"{key}_interval"] = bootstrap(x, y, measure)
    return found


def bootstrap(x: NDArray[np.float64], y: NDArray[np.float64], measure: Callable[..., Any]) -> list[float] | None:
    """95 % by resampling layouts; a resample without two different values says nothing and is left out."""
    if len(x) < 5:
        return None
    generator, found = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        picked = generator.integers(0, len(x), len(x))
        if len(set(x[picked])) > 1 and len(set(y[picked])) > 1:
            found.append(float(measure(x[picked], y[picked]).statistic))
    return [round(float(value), 3) for value in np.percentile(found, [2.5, 97.5])] if found else None


def summary(rows: list[Row], truth: dict[str, Row], trainings: list[Row]) -> Row:
    """The bar: an estimator that costs at most a tenth of one training. Cheap ones are compared on every layout."""
    able = [row for row in rows if row["estimator"] != "params" and row["spearman"] is not None
            and row["cost_ratio"] <= BAR_COST]  # fmt: skip
    best = max(able, key=lambda row: row["spearman"], default=None)
    mixed = max((row for row in able if row["hybrid_spearman"] is not None), default=None,
                key=lambda row: row["hybrid_spearman"])  # fmt: skip

    def of(name: str, key: str) -> Any:
        return next((row[key] for row in rows if row["estimator"] == name), None)

    return {
        "layouts": len(truth), "trainings": len(trainings), "tokens": max(row["tokens"] for row in trainings),
        "best": f"{best['estimator']}, {best['fidelity']}" if best else None,
        "best_spearman": best and best["spearman"], "best_spearman_interval": best and best["spearman_interval"],
        "best_kendall": best and best["kendall"], "cost_ratio": best and best["cost_ratio"],
        "best_hybrid": f"{mixed['estimator']}, {mixed['fidelity']}" if mixed else None,
        "best_hybrid_spearman": mixed and mixed["hybrid_spearman"],
        "params_spearman": of("params", "spearman"), "params_hybrid_spearman": of("params", "hybrid_spearman"),
        "mechanistic_spearman": of("mechanistic", "spearman"),
        "mechanistic_hybrid_spearman": of("mechanistic", "hybrid_spearman"),
        "text_spearman": of("text", "spearman"), "text_hybrid_spearman": of("text", "hybrid_spearman"),
        "seeds_apart": seeds_apart(truth), "spread_of_layouts": spread(truth),
        "bar_spearman": BAR_SPEARMAN, "bar_cost_ratio": BAR_COST,
        "bar_met": bool(best and best["spearman"] >= BAR_SPEARMAN),
    }  # fmt: skip


def seeds_apart(truth: dict[str, Row]) -> float | None:
    """Root mean square difference between two seeds of a layout, in bits per byte: ranks closer than that are noise."""
    apart = [row["seeds"][0] - row["seeds"][1] for row in truth.values() if len(row["seeds"]) > 1]
    return round(float(np.sqrt(np.mean(np.square(apart)))), 4) if apart else None


def spread(truth: dict[str, Row]) -> list[float]:
    bits = [row["bits_per_byte"] for row in truth.values()]
    return [round(min(bits), 4), round(max(bits), 4)] if bits else []


if __name__ == "__main__":
    main()
