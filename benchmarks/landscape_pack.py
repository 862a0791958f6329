"""Packs a landscape's rows into one file below 2 MB, and says what they show: additive costs against composed models.

python -m benchmarks.landscape_pack --rows var/landscape --out benchmarks/results/landscape.json.gz
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

KL, BITS = "divergence@2048", "bits_per_byte@2048"
CHANGES = ((1, 2), (3, 5), (6, 9), (10, 14), (15, 20))


def command() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rows", type=Path, required=True, help="the folder that benchmarks.landscape filled")
    options.add_argument("--out", type=Path, default=Path("benchmarks/results/landscape.json.gz"))
    given = options.parse_args()
    rows = {name: read(given.rows / f"{name}.jsonl") for name in ("list", "singles", "distilled")}
    names, choices, own = labels_of(rows["singles"])
    packed = {
        "made_by": "benchmarks.landscape_text, benchmarks.landscape, benchmarks.landscape_pack",
        "parent": json.loads((given.rows / "parent_judged.json").read_text()),
        "blocks": json.loads((given.rows / "blocks.json").read_text()),
        "parameters": choices, "summary": summary(rows, own),
        "columns": ["stratum", "choices", "bits_per_byte@512", BITS, KL, f"difference@{2048}", "retrieval"],
        **{phase: [pack(row, names, choices) for row in found] for phase, found in rows.items()},
    }  # fmt: skip
    given.out.write_bytes(gzip.compress(json.dumps(packed, separators=(",", ":")).encode(), mtime=0))
    print(json.dumps({**packed["summary"], "bytes": given.out.stat().st_size}, indent=1))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def labels_of(singles: list[dict[str, Any]]) -> tuple[list[str], dict[str, list[str]], dict[str, str]]:
    """Parameter names, their choices (the parent's first), the parent's choices."""
    names = list(singles[0]["assignment"])
    own = {name: Counter(row["assignment"][name] for row in singles).most_common(1)[0][0] for name in names}
    others = {name: [row["choice"] for row in singles if row["name"] == name] for name in names}
    return names, {name: [own[name], *others[name]] for name in names}, own


def pack(row: dict[str, Any], names: list[str], choices: dict[str, list[str]]) -> list[Any]:
    """``choices`` as one digit for each parameter; retrieval as accuracy by distance."""
    digits = "".join(str(choices[name].index(row["assignment"][name])) for name in names)
    figures = [round(row[key], 5) for key in ("bits_per_byte@512", BITS, KL)]
    gap = [round(value, 5) for value in row["difference@2048"]]
    return [row["stratum"], digits, *figures, gap, [round(x, 4) for x in row["retrieval"]["accuracy"].values()]]


def summary(rows: dict[str, list[dict[str, Any]]], own: dict[str, str]) -> dict[str, Any]:
    costs = {(row["name"], row["choice"]): row[KL] for row in rows["singles"]}
    changed = [[item for item in row["assignment"].items() if item[1] != own[item[0]]] for row in rows["list"]]
    added = np.array([sum(costs[item] for item in items) for items in changed])
    composed, counts = np.array([row[KL] for row in rows["list"]]), np.array([len(items) for items in changed])
    bands = {}
    for first, last in CHANGES:
        inside = (counts >= first) & (counts <= last) & (added > 0)
        ratio = composed[inside] / added[inside]
        bands[f"{first}-{last}"] = {
            "candidates": int(inside.sum()), "spearman": rho(added[inside], composed[inside]),
            "composed_over_sum": [round(float(q), 3) for q in np.percentile(ratio, [5, 50, 95])],
        }  # fmt: skip
    before = {row["index"]: row for row in rows["list"]}
    pairs = [(before[row["index"]][KL], row[KL]) for row in rows["distilled"]]
    return {
        "candidates": len(rows["list"]), "singles": len(rows["singles"]), "by_replacements": bands,
        "spearman_sum_composed": rho(added, composed),
        "distilled": {"candidates": len(pairs), "spearman": rho(*map(np.array, zip(*pairs, strict=True)))},
    }  # fmt: skip


def rho(first: Any, second: Any) -> float:
    return round(float(spearmanr(first, second)[0]), 4)


if __name__ == "__main__":
    command()
