"""The tiny recipe from a searched winner to a merged model: minutes of the whole chain, each stage's metrics, and
whether each stage improved what it is for.

The winner comes from a search of its own in real processes (its minutes do not count); a stage that an earlier run
finished is taken from there, and its recorded seconds count.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.record import console, publish
from hilnas.winner import searched_winner
from search_space.arch import ArchConfig
from trainer.recipes import RecipeOptions, tiny
from trainer.recipes.improvements import improvements, main_figures
from trainer.runs.local import run_here

MINUTES_BAR = 25.0
Records = dict[str, dict[str, Any]]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--root", type=Path, default=Path("var/train"), help="of runs; stages there are used again")
    options.add_argument("--scale", type=float, default=1.0)
    options.add_argument("--port", type=int, default=8127, help="of the coordinator that searches")
    given = options.parse_args()
    arch, records = measure(given.root, given.scale, given.port)
    rows = [{"stage": name, "seconds": record["seconds"], "figures": main_figures(record["metrics"])}
            for name, record in records.items()]  # fmt: skip
    summary = {**judge(records), "scale": given.scale, "arch": arch.label}
    publish("recipe_tiny", summary, rows, {name: record["metrics"] for name, record in records.items()})


def measure(root: Path, scale: float, port: int) -> tuple[ArchConfig, Records]:
    """The winner, and what each stage's record says."""
    arch = searched_winner(root / "searched_winner.json", port)
    return arch, run_here(tiny(arch, RecipeOptions(scale=scale)), root, "recipe_tiny", console.print)


def judge(records: Records) -> dict[str, Any]:
    checks = improvements({name: record["metrics"] for name, record in records.items()})
    return {
        "minutes": round(sum(record["seconds"] for record in records.values()) / 60, 2), "minutes_bar": MINUTES_BAR,
        "every_stage_improves_its_target": all(check["improved"] for check in checks.values()), "targets": checks,
    }  # fmt: skip


if __name__ == "__main__":
    main()
