"""One result record feeds every output: a table for people, a JSON file kept with its command, JSON on the last
line."""

from __future__ import annotations

import json
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
console = Console(width=140)


def environment() -> dict[str, Any]:
    """What a reader needs to judge the numbers; no paths, no host names."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    packages = {name: version(name) for name in ("torch", "executorch", "torchao", "optuna")}
    return {"cpu": model, "arch": platform.machine(), "cores": info.count("processor\t"), "packages": packages}


def publish(name: str, summary: dict[str, Any], rows: list[dict[str, Any]], raw: Any = None) -> None:
    """Prints ``rows`` and ``summary``, keeps everything under results/, ends with one line of JSON."""
    if rows:
        table = Table(title=name, title_justify="left")
        for key in rows[0]:
            table.add_column(key, justify="right" if not isinstance(rows[0][key], str) else "left")
        for row in rows:
            table.add_row(*(_text(row.get(key)) for key in rows[0]))
        console.print(table)
    record = {
        "benchmark": name, "command": f"python -m benchmarks.{name} {' '.join(sys.argv[1:])}".strip(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "environment": environment(), "summary": summary,
        "rows": rows, "raw": raw,
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(summary))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
