"""Which cores a measurement runs on: derived from their maximum frequencies, not from a table of phones."""

from __future__ import annotations

from itertools import groupby

SLOW_CLUSTER = 0.72  # clusters below this share of the fastest core's frequency are for saving power
ALIKE = 0.90  # a cluster this close to the fastest one is as good, and threads of one cluster end together


def clusters(max_khz: dict[int, int]) -> list[tuple[int, list[int]]]:
    """(frequency, cores) of every cluster, slowest first."""
    rows = sorted((khz, cpu) for cpu, khz in max_khz.items())
    return [(khz, [cpu for _, cpu in group]) for khz, group in groupby(rows, key=lambda row: row[0])]


def big_cores(max_khz: dict[int, int]) -> list[int]:
    """All cores but those of power-saving clusters."""
    fastest = max(max_khz.values(), default=0)
    return sorted(cpu for cpu, khz in max_khz.items() if khz >= SLOW_CLUSTER * fastest)


def choose_cores(max_khz: dict[int, int], threads: int) -> list[int]:
    """``threads`` cores: all from one cluster if one near the top is large enough, else the fastest ones."""
    fastest = max(max_khz.values(), default=0)
    for khz, cores in reversed(clusters(max_khz)):
        if khz >= ALIKE * fastest and len(cores) >= threads:
            return sorted(cores)[-threads:]
    ranked = sorted(max_khz, key=lambda cpu: (max_khz[cpu], cpu), reverse=True)
    return sorted(ranked[:threads])
