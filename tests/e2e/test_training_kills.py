"""kill -9 of a whole training at seeded random moments of every stage: the same command goes on, and every weight and
every curve is that of a run that nothing happened to."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import ROOT, environment
from tests.unit.conftest import small_teacher, small_text  # noqa: F401  fixtures
from trainer.pipeline.chain import finished, stage_folders
from trainer.pipeline.records import Records

KILLS = 3  # of every stage
LONG_S = 0.2  # a stage that takes longer must have been hit
DEADLINE_S = 120.0
pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class Runs:
    """Starts the recipe in one process after another."""

    def __init__(self, text: Path, teacher: str) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.recipe_process", str(text), teacher], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment(OMP_NUM_THREADS="1"),
        )  # fmt: skip

    def run(self, root: Path, stage: str | None = None, delay: float = 0.0) -> int:
        """The signal or exit status that it ended with; with a ``stage`` killed ``delay`` seconds within it."""
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps({"root": str(root), "stage": stage, "delay": delay}) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def close(self) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(DEADLINE_S)
        self._server.stdout.close()


@pytest.fixture
def runs(small_text: Path, small_teacher: str) -> Iterator[Runs]:  # noqa: F811
    made = Runs(small_text, small_teacher)
    yield made
    made.close()


def test_killed_in_every_stage(tmp_path: Path, runs: Runs, rng: random.Random, small_text, small_teacher) -> None:  # noqa: F811
    from tests.e2e.recipe_process import recipe

    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    assert runs.run(quiet) == 0
    made = recipe(str(small_text), small_teacher)
    undisturbed, folders = stage_folders(made, quiet), stage_folders(made, killed)
    hits: Counter[str] = Counter()
    seconds = {name: finished(folder)["seconds"] for name, folder in undisturbed.items()}  # type: ignore[index]
    for name, folder in folders.items():
        for _ in range(KILLS):
            ended = runs.run(killed, name, rng.uniform(0, 0.8) * seconds[name])
            hits[name] += ended == signal.SIGKILL and finished(folder) is None
    assert runs.run(killed) == 0
    print(f"killed within a stage: {dict(hits)}")
    missed = [name for name in folders if seconds[name] > LONG_S and not hits[name]]
    assert not missed, hits
    for name, folder in folders.items():
        assert result(folder) == result(undisturbed[name]), name


def result(folder: Path) -> dict[str, Any]:
    """Everything of a finished stage that is not time: weights byte by byte, metrics, losses."""
    record = finished(folder)
    assert record is not None
    model = folder / "model" / "model.safetensors"
    curve = [{key: row.get(key) for key in ("step", "loss", "success", "gradient_norm")}
             for row in Records(folder / "curve.jsonl").read()]  # fmt: skip
    of_a_process = ("tokens_per_s", "prefix_reused", "prefix_seconds_saved")
    evaluation = folder / "evaluation.json"
    return {
        "weights": model.read_bytes() if model.exists() else b"", "curve": curve,
        "metrics": {key: value for key, value in record["metrics"].items() if key not in of_a_process},
        "evaluation": json.loads(evaluation.read_text())["metrics"] if evaluation.exists() else {},
    }  # fmt: skip
