"""How many evaluations does each sampler need on a landscape that everybody can rerun? A list of candidates around a
small parent, each judged composed on real text (docs/landscape.md), with the sum of block times that a host measured
(benchmarks.landscape_costs). Every sampler searches the space of listed candidates as a study does."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.intervals import excludes_zero, mean_with_interval
from benchmarks.landscape_space import DECODE, Landscape
from benchmarks.record import publish
from contracts.states import TrialState
from contracts.study import StudySpec, TrialFacts
from nas.hypervolume import hypervolume
from nas.samplers.optuna_sampler import OptunaSampler
from nas.study import Study
from search_space.space import space
from server.app import create_app
from server.context import Context
from server.settings import Settings
from server.store import SqlStudyStore
from server.studies import service as studies
from server.tables import TrialRow

AFTER = ("landscape_costs",)
COSTS = (DECODE, "weight_bytes")
SAMPLERS = ("surrogate", "tpe", "nsga2", "nsga3", "random", "gp")
SETTINGS = {
    "2 objectives": (COSTS[:1], False), "2 with a budget": (COSTS[:1], True),
    "3 objectives": (COSTS, False), "3 with a budget": (COSTS, True),
}  # fmt: skip
EVALUATIONS, RANDOM_EVALUATIONS = 100, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--gp-seeds", type=int, default=0, help="the same for gp, which takes seconds for a proposal")
    parser.add_argument("--first-seed", type=int, default=0, help="develop on seeds that are not reported")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--try-out", action="store_true", help="keep nothing, leave out the times")
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS)
    parser.add_argument("--quick", action="store_true", help="one seed, 20 evaluations, two samplers; keeps nothing")
    options = parser.parse_args()
    landscape = Landscape()
    seeds = {name: options.gp_seeds if name == "gp" else options.seeds for name in options.samplers}
    if options.quick:
        seeds, options.evaluations, options.try_out = {"surrogate": 1, "random": 1}, 20, True
    rows = measure(landscape, seeds, options.first_seed, options.evaluations)
    if options.try_out:
        print(json.dumps(judge(rows)))
        return
    speed = {"ask_ms_p95_at_1000": ask_ms(landscape), "tick_ms_at_10": tick_ms(10), "tick_ms_at_10000": tick_ms(10_000)}
    publish("search_efficiency", judge(rows) | speed, table(rows), rows)


def measure(landscape: Landscape, seeds: dict[str, int], first: int, count: int) -> list[dict[str, Any]]:
    """One row for each setting, sampler and seed: the hypervolume after every evaluation, as a share of the list's."""
    found = []
    for setting, (costs, with_budget) in SETTINGS.items():
        task = Task(landscape, costs, with_budget)
        for name, number in seeds.items():
            for seed in range(first, first + number):
                begun = time.monotonic()
                curve = task.run(name, seed, count)
                seconds = time.monotonic() - begun
                found.append({"setting": setting, "sampler": name, "seed": seed, "curve": curve, "seconds": seconds})
                print(f"{setting}, {name}, seed {seed}: {curve[-1]:.4f} in {seconds:.1f} s", flush=True)
        goal = statistics.mean(task.random_share(seed, RANDOM_EVALUATIONS) for seed in range(20))
        found.append({"setting": setting, "sampler": "1000 random", "seed": 0, "curve": [goal], "seconds": 0.0})
    return found


class Task:
    """Objectives, a budget where there is one (the median cost of the list), and the list's own front."""

    def __init__(self, landscape: Landscape, costs: tuple[str, ...], with_budget: bool) -> None:
        self.landscape, self.keys = landscape, ["bits_per_byte", *costs]
        self.bound = float(np.median([one[costs[0]] for one in landscape.metrics])) if with_budget else None
        self.points = np.array([[one[key] for key in self.keys] for one in landscape.metrics])
        self.kept = self.points[:, 1] <= (self.bound or np.inf)
        low, high = self.points[self.kept].min(0), np.quantile(self.points[self.kept], 0.9, axis=0)
        self.points = (self.points - low) / (high - low)
        self.whole = self.volume(range(len(self.points)))

    def volume(self, chosen: Any) -> float:
        points = self.points[[i for i in chosen if self.kept[i]]]
        return hypervolume(points, [1.0] * len(self.keys), ["min"] * len(self.keys)) if len(points) else 0.0

    def random_share(self, seed: int, count: int) -> float:
        chosen = random.Random(seed).sample(range(len(self.points)), min(count, len(self.points)))
        return self.volume(chosen) / self.whole

    def spec(self, sampler: str, seed: int, count: int) -> StudySpec:
        budgets = {self.keys[1]: self.bound} if self.bound else {}
        return StudySpec.model_validate({
            "name": "landscape", "objectives": [{"metric": key} for key in self.keys], "sampler": sampler,
            "seed": seed, "max_trials": count, "budgets": budgets, "quality": {"estimator": "text"},
        })  # fmt: skip

    def run(self, sampler: str, seed: int, count: int) -> list[float]:
        spec = self.spec(sampler, seed, count)
        searching = OptunaSampler(spec, self.landscape.space)
        taken: list[int] = []
        curve: list[float] = []
        for number in range(count):
            proposal = searching.ask()
            assert proposal is not None
            at = self.landscape.at(proposal.assignment)
            searching.tell(self.trial(number, at, proposal.attrs))
            taken.append(at)
            curve.append(self.volume(taken) / self.whole)
        return curve

    def trial(self, number: int, at: int, attrs: dict[str, Any]) -> TrialFacts:
        """A candidate over the budget has its metrics and no values."""
        metrics = {key: self.landscape.metrics[at][key] for key in self.keys}
        met = bool(self.kept[at])
        return TrialFacts(
            id=f"trial-{number}", study_id="study", number=number, assignment=self.landscape.assignments[at],
            state=TrialState.COMPLETE if met else TrialState.INFEASIBLE, arch_digest=str(at), sampler_attrs=attrs,
            costs=metrics, values=metrics if met else {},
        )  # fmt: skip


def ask_ms(landscape: Landscape, known: int = 1000, asks: int = 40) -> float:
    """95th percentile of a proposal's time with so many complete trials of three objectives and a budget."""
    task = Task(landscape, COSTS, True)
    searching = OptunaSampler(task.spec("surrogate", 0, known + asks), landscape.space)
    searching.replay(task.trial(number, number, {}) for number in range(known))
    times = []
    for number in range(known, known + asks):
        begun = time.perf_counter()
        proposal = searching.ask()
        times.append(1e3 * (time.perf_counter() - begun))
        assert proposal is not None
        searching.tell(task.trial(number, landscape.at(proposal.assignment), proposal.attrs))
    return float(np.quantile(times[1:], 0.95))


def tick_ms(known: int, ticks: int = 50) -> float:
    """Mean time of a tick of a study with so many finished trials in SQLite, while nothing changes."""
    with tempfile.TemporaryDirectory() as folder:
        ctx = create_app(Settings(var=Path(folder)), supervise=False).state.context
        study = Study(SqlStudyStore(ctx, _finished_study(ctx, known)), None)  # type: ignore[arg-type]
        study.load()
        study.tick()
        begun = time.perf_counter()
        assert not any(study.tick() for _ in range(ticks))
        spent = time.perf_counter() - begun
        ctx.database.dispose()
    return 1e3 * spent / ticks


def _finished_study(ctx: Context, known: int) -> str:
    of, rng, now = space("debug_space"), random.Random(0), ctx.now()
    spec = StudySpec.model_validate({"name": "old", "objectives": [{"metric": "params"}], "max_trials": known})
    with ctx.database.write() as session:
        study, _ = studies.create(session, ctx, spec, None)
        for number in range(known):
            assignment = of.sample(rng)
            arch = of.decode(assignment)
            session.add(TrialRow(
                id=f"trial-{number:016x}", study_id=study.id, number=number, state=TrialState.COMPLETE, reason="",
                assignment=assignment, arch=arch.to_dict(), arch_digest=arch.digest, sampler_attrs={}, costs={},
                blocks=[], values={"params": float(number)}, artifacts={}, created_at=now, updated_at=now,
            ))  # fmt: skip
        return str(study.id)


def judge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures over all settings: the worst setting decides where a bar is asked for. ``ceiling`` is the largest ratio
    that is possible in the setting that decides: the list's own front over the best other sampler."""
    settings = {setting: _judged([row for row in rows if row["setting"] == setting]) for setting in SETTINGS}
    needed = [one["needed"] for one in settings.values()]
    worst = min(settings.values(), key=lambda one: one["ratio"])
    return {
        "evaluations_to_match_1000_random": None if None in needed else max(needed),
        "hypervolume_ratio_at_100": worst["ratio"], "ceiling": worst["ceiling"], **_against_random(rows),
        "seeds": {name: len({row["seed"] for row in rows if row["sampler"] == name}) for name in _names(rows)},
        "settings": settings,
    }  # fmt: skip


def _judged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds of the shares of the list's hypervolume at the end, and what the bars ask for."""
    curves = {
        name: np.mean([row["curve"] for row in rows if row["sampler"] == name], axis=0)
        for name in {row["sampler"] for row in rows}
    }
    goal, ours = float(curves.pop("1000 random")[0]), curves.pop("surrogate")
    reached = np.flatnonzero(ours >= goal)
    others = {name: round(float(curve[-1]), 4) for name, curve in sorted(curves.items())}
    best = max(others.values())
    return {
        "surrogate": round(float(ours[-1]), 4), **others, "goal": round(goal, 4),
        "needed": int(reached[0]) + 1 if len(reached) else None,
        "ratio": round(float(ours[-1]) / best, 4), "ceiling": round(1 / best, 4),
    }  # fmt: skip


def _names(rows: list[dict[str, Any]]) -> list[str]:
    return sorted({row["sampler"] for row in rows} - {"1000 random"})


def _against_random(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares at the end minus those of random proposals with the same setting and seed: the mean with its 95 %
    interval. A sampler is random as long as the interval holds 0."""
    ends = {(row["sampler"], row["setting"], row["seed"]): row["curve"][-1] for row in rows}
    found: dict[str, Any] = {}
    for name in set(_names(rows)) - {"random"}:
        gaps = [end - ends["random", setting, seed] for (who, setting, seed), end in ends.items() if who == name]
        found[name] = mean_with_interval(gaps)
    bounds = found.get("nsga2", {}).get("interval")
    return {"minus_random": found, "nsga2_is_random": not (excludes_zero(bounds) and bounds[0] > 0)}


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"setting": row["setting"], "sampler": row["sampler"], "seed": row["seed"], "share": row["curve"][-1],
         "seconds": round(row["seconds"], 1)}
        for row in rows
    ]  # fmt: skip


if __name__ == "__main__":
    main()
