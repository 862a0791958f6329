"""Checks results that others send in from their phones: ``python -m benchmarks.phones.check FILE.json ...``.

A result is the JSON that ``hilnas compare --on phone:NAME --json`` prints. One line per file; exit code 1 when one
cannot be taken. Everything that a reader would rely on is computed again from the raw samples.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from contracts.comparison import ComparedRow, Comparison
from contracts.measurement import Verdict
from foundation.errors import InvalidConfig
from hilnas.comparison.earlier import read_comparison
from hilnas.comparison.pairs import pairs_of

MIN_RUNS, TOLERANCE, MAX_MS = 5, 0.02, 600_000.0
MODELS = ("SM-S92", "SM-S93")  # Galaxy S24 and S25


def problems(result: Comparison) -> list[str]:
    """Sentences on what is wrong; none for a result that can be taken."""
    found = [*of_device(result), *(words for row in result.rows for words in of_row(row, result))]
    return found + ([] if found else of_pairs(result))


def of_device(result: Comparison) -> Iterator[str]:
    device = result.device
    if not device.runner_version:
        yield "the device names no runner_version"
    if device.kind != "android" or not device.model.startswith(MODELS):
        yield f"the device is {device.kind} {device.model!r}, not a Galaxy S24 or S25"
    if device.details.get("virtual"):
        yield "the phone is virtual: its times mean nothing"
    if not result.settings.affinity:
        yield "the settings name no cores: a phone's runs are pinned"


def of_row(row: ComparedRow, result: Comparison) -> Iterator[str]:
    if row.verdict is not Verdict.VALID:
        yield f"{row.name}: the verdict is {row.verdict} ({row.reason}); measure again and send only valid rows"
        return
    if len(row.rounds) < MIN_RUNS or row.cold_runs < len(row.rounds):
        yield f"{row.name}: {len(row.rounds)} undisturbed cold runs of {row.cold_runs}, {MIN_RUNS} are needed"
    if len(set(row.rounds)) != len(row.rounds):
        yield f"{row.name}: two cold runs are of one round"
    for metric in result.compared_metrics:
        if metric not in row.samples or metric not in row.metrics:
            yield f"{row.name}: {metric} has no samples or no summary"
            continue
        yield from of_samples(row, metric)


def of_samples(row: ComparedRow, metric: str) -> Iterator[str]:
    """The summary is that of the samples: of all, or of the medians of the cold runs."""
    runs, estimate = row.samples[metric], row.metrics[metric]
    pooled = statistics.median(value for run in runs for value in run)
    centres = [pooled, statistics.median(map(statistics.median, runs))]
    given = estimate.raw or estimate.median
    if not any(abs(given / centre - 1) <= TOLERANCE for centre in centres if centre > 0):
        yield f"{row.name}: {metric} says {given:.4g} ms, its samples say {pooled:.4g} ms"
    if all(len(set(run)) == 1 for run in runs) and sum(map(len, runs)) > len(runs):
        yield f"{row.name}: the samples of {metric} are all equal, as no clock measures them"
    if max(max(run) for run in runs) > MAX_MS or min(min(run) for run in runs) <= 0:
        yield f"{row.name}: a sample of {metric} is no time of a phone"


def of_pairs(result: Comparison) -> list[str]:
    again = {(one.metric, one.first, one.second): one for one in pairs_of(result.rows, result.compared_metrics)}
    given = {(one.metric, one.first, one.second): one for one in result.pairs}
    if set(again) != set(given):
        return ["the pairs are not those of the rows"]
    return [
        f"{one.first} before {one.second} at {one.metric}: probability {one.probability:.3f} and ratio {one.ratio:.3f},"
        f" the samples say {again[key].probability:.3f} and {again[key].ratio:.3f}"
        for key, one in given.items()
        if abs(one.probability - again[key].probability) > 1e-3 or abs(one.ratio / again[key].ratio - 1) > 1e-3
    ]


def main(files: Iterable[str]) -> int:
    bad = 0
    for name in files:
        try:
            result = read_comparison(Path(name))
            found = problems(result)
        except InvalidConfig as error:
            found = [str(error)]
        bad += bool(found)
        taken = "" if found else f"{result.device.model}, {len(result.rows)} rows, can be taken"
        print(f"{name}: {'; '.join(found) or taken}")
    return int(bad > 0)


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("name the files to check: python -m benchmarks.phones.check FILE.json ...")
    sys.exit(main(sys.argv[1:]))
