"""How many evaluations does each sampler need on a landscape that everybody can rerun? Candidates around a small
parent, each judged composed on real text (docs/landscape.md); costs in closed form. The table holds a list, so a
proposal stands for the nearest candidate of the list that was not evaluated yet, for every sampler alike."""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.intervals import excludes_zero, mean_with_interval
from benchmarks.record import RESULTS, publish
from contracts.states import TrialState
from contracts.study import StudySpec, TrialFacts
from nas.hypervolume import hypervolume
from nas.samplers.optuna_sampler import OptunaSampler
from nas.samplers.surrogate.structure import Structure
from nas.study import Study
from search_space.arch import ArchConfig
from search_space.cost import closed_form
from search_space.mixers import GatedShortConv, Gqa, Skip, SlidingWindow
from search_space.space import SearchSpace, space, uniform_space
from server.app import create_app
from server.context import Context
from server.settings import Settings
from server.store import SqlStudyStore
from server.studies import service as studies
from server.tables import TrialRow

LANDSCAPE = RESULTS / "landscape.json.gz"
COSTS = ("decode_bytes@2048", "weight_bytes")
SAMPLERS = ("surrogate", "nsga2", "nsga3", "tpe", "random")
SETTINGS = {
    "2 objectives": (COSTS[:1], False), "2 with a budget": (COSTS[:1], True),
    "3 objectives": (COSTS, False), "3 with a budget": (COSTS, True),
}  # fmt: skip
EVALUATIONS, RANDOM_EVALUATIONS = 100, 1000


class Landscape:
    """The judged candidates of a list: assignments as rows, and their metrics."""

    def __init__(self, path: Path) -> None:
        data = json.loads(gzip.decompress(path.read_bytes()))
        self.space = space_of(data)
        self.structure = Structure(self.space)
        at = data["columns"].index("bits_per_byte@2048")
        digits = np.array([[int(digit) for digit in one[1]] for one in data["list"]])
        names = list(data["parameters"])
        self.assignments = [
            {name: data["parameters"][name][index] for name, index in zip(names, row, strict=True)} for row in digits
        ]
        self.rows = self.structure.rows(self.assignments)
        archs = [self.space.decode(one) for one in self.assignments]
        self.metrics = [
            {"bits_per_byte": float(one[at]), **{key: _cost(arch, key) for key in COSTS}}
            for one, arch in zip(data["list"], archs, strict=True)
        ]

    def nearest(self, assignment: dict[str, str], taken: set[int]) -> int:
        distance = (self.rows != self.structure.rows([assignment])[0]).sum(1)
        distance[list(taken)] = distance.max() + 1
        return int(np.argmin(distance))


def space_of(data: dict[str, Any]) -> SearchSpace:
    """The space that the landscape was drawn from, its choices in the order of the file."""
    heads = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 32}
    mixers = (Gqa(**heads), Gqa(4, 1, 32), SlidingWindow(**heads, window=64), SlidingWindow(**heads, window=256),
              GatedShortConv(3), GatedShortConv(7), Skip())  # fmt: skip
    found = uniform_space("landscape", 128, 2048, 10, mixers, (384, 192, 96, 0), rope_theta=10_000.0)
    assert {name: tuple(labels) for name, labels in data["parameters"].items()} == found.parameters()
    return found


def _cost(arch: ArchConfig, key: str) -> float:
    name, _, context = key.partition("@")
    return closed_form(arch, name, int(context) if context else None, "8da4w", "fp32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS)
    parser.add_argument("--quick", action="store_true", help="one seed, 20 evaluations, two samplers; keeps nothing")
    options = parser.parse_args()
    landscape = Landscape(LANDSCAPE)
    samplers, seeds, count = SAMPLERS, options.seeds, options.evaluations
    if options.quick:
        samplers, seeds, count = ("surrogate", "random"), 1, 20
    rows = measure(landscape, samplers, seeds, count)
    if options.quick:
        print(json.dumps(judge(rows)))
        return
    speed = {"ask_ms_p95_at_1000": ask_ms(landscape), "tick_ms_at_10": tick_ms(10), "tick_ms_at_10000": tick_ms(10_000)}
    publish("search_efficiency", judge(rows) | speed, table(rows), rows)


def measure(landscape: Landscape, samplers: tuple[str, ...], seeds: int, count: int) -> list[dict[str, Any]]:
    """One row for each setting, sampler and seed: the hypervolume after every evaluation, as a share of the list's."""
    found = []
    for setting, (costs, with_budget) in SETTINGS.items():
        task = Task(landscape, costs, with_budget)
        for name in samplers:
            for seed in range(seeds):
                begun = time.monotonic()
                curve = task.run(name, seed, count)
                seconds = time.monotonic() - begun
                found.append({"setting": setting, "sampler": name, "seed": seed, "curve": curve, "seconds": seconds})
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
            at = self.landscape.nearest(proposal.assignment, set(taken))
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
        searching.tell(task.trial(number, landscape.nearest(proposal.assignment, set(range(number))), proposal.attrs))
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
    """Figures over all settings: the worst setting decides where a bar is asked for."""
    needed, ratios, settings = [], [], {}
    for setting in SETTINGS:
        curves = {
            name: np.mean([row["curve"] for row in rows if (row["setting"], row["sampler"]) == (setting, name)], axis=0)
            for name in {row["sampler"] for row in rows if row["setting"] == setting}
        }
        goal, ours = float(curves.pop("1000 random")[0]), curves.pop("surrogate")
        reached = np.flatnonzero(ours >= goal)
        needed.append(int(reached[0]) + 1 if len(reached) else None)
        others = {name: float(curve[-1]) for name, curve in curves.items()}
        ratios.append(float(ours[-1]) / max(others.values()))
        settings[setting] = {"surrogate": round(float(ours[-1]), 4), "goal": round(goal, 4), "needed": needed[-1],
                             **{name: round(value, 4) for name, value in others.items()}}  # fmt: skip
    return {
        "evaluations_to_match_1000_random": None if None in needed else max(one for one in needed if one),
        "hypervolume_ratio_at_100": round(min(ratios), 4), **_against_random(rows), "settings": settings,
    }  # fmt: skip


def _against_random(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares at the end minus those of random proposals with the same setting and seed, which the table treats alike:
    the mean with its 95 % interval. A sampler is random as long as the interval holds 0."""
    ends = {(row["sampler"], row["setting"], row["seed"]): row["curve"][-1] for row in rows}
    found: dict[str, Any] = {}
    for name in {row["sampler"] for row in rows} - {"random", "1000 random"}:
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
