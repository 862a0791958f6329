"""Chains of stages: named by content, finished once, going on after a kill, failing in one sentence."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from foundation.errors import HilnasError, InvalidConfig
from trainer.pipeline.chain import DONE, finished, run_recipe, run_stage, stage_folders
from trainer.pipeline.fields import source
from trainer.pipeline.records import Records
from trainer.pipeline.stage import Recipe, Stage, StageContext, StageDir, StageFailed

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Count(Stage):
    """Counts to ``steps``, one line of its curve a step."""

    kind: ClassVar[str] = "count"
    steps: int = 3
    pause_s: float = 0.0

    def run(self, context: StageContext) -> dict[str, Any]:
        state = context.folder / "state"
        start = int(state.read_text()) if state.exists() else 0
        context.curve.keep_until(start)
        for step in range(start, self.steps):
            context.curve.add(step=step, resumed_from=start)
            partial = state.with_suffix(".partial")
            partial.write_text(str(step + 1))
            partial.replace(state)
            context.progress((step + 1) / self.steps, f"step {step + 1}")
            time.sleep(self.pause_s)
        return {"counted": self.steps}

    def check(self, folder: Path) -> None:
        if not (folder / "state").exists():
            raise HilnasError("the state is gone")

    def cost(self, costing: object) -> None: ...

    def shortened(self, brief: object) -> Count:
        return self


@dataclass(frozen=True)
class Double(Stage):
    kind: ClassVar[str] = "double"
    fault: str = ""
    count: str = field(default="count", metadata=source(StageDir))

    def run(self, context: StageContext) -> dict[str, Any]:
        if self.fault == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.fault:
            raise InvalidConfig(self.fault)
        return {"doubled": 2 * int((context.inputs["count"] / "state").read_text())}

    def cost(self, costing: object) -> None: ...

    def shortened(self, brief: object) -> Double:
        return self


def test_stages_run_in_order_and_only_once(tmp_path: Path) -> None:
    recipe = Recipe("r", (Count(), Double()))
    results = run_recipe(recipe, tmp_path, "a", commit="abc")
    assert results["double"]["metrics"] == {"doubled": 6}
    folder = stage_folders(recipe, tmp_path)["count"]
    before = (folder / DONE).stat().st_mtime_ns
    assert run_recipe(recipe, tmp_path, "b") == results
    assert (folder / DONE).stat().st_mtime_ns == before
    saved = json.loads((tmp_path / "runs" / "a" / "recipe.json").read_text())
    assert (saved["commit"], [s["stage"] for s in saved["stages"]]) == ("abc", ["count", "double"])
    assert Records(tmp_path / "runs" / "a" / "progress.jsonl").read()[-1]["event"] == "run_finished"


def test_the_digest_follows_config_and_inputs() -> None:
    plain, more = (Recipe("r", (Count(steps), Double())).digests() for steps in (3, 4))
    assert plain["count"] != more["count"]
    assert plain["double"] != more["double"]
    assert Recipe("other name", (Count(3), Double())).digests() == plain
    assert Recipe("r", (Count(3), Double("x"))).digests()["count"] == plain["count"]


@pytest.mark.parametrize(("fault", "sentence"), [("full", "is full"), ("loss is nan", "loss is nan")])
def test_a_failing_stage_says_one_sentence_and_the_next_start_goes_on(tmp_path, fault: str, sentence: str) -> None:
    recipe = Recipe("r", (Count(), Double(fault)))
    with pytest.raises(StageFailed, match=f"stage double stopped: .*{sentence}.*goes on"):
        run_recipe(recipe, tmp_path, "a")
    last = Records(tmp_path / "runs" / "a" / "progress.jsonl").read()[-1]
    assert (last["event"], last["stage"]) == ("stage_failed", "double")
    assert finished(stage_folders(recipe, tmp_path)["count"])
    assert finished(stage_folders(recipe, tmp_path)["double"]) is None


def test_a_finished_stage_that_was_spoiled_runs_again(tmp_path: Path) -> None:
    run_stage(Count(), tmp_path, {})
    (tmp_path / "state").unlink()
    assert run_stage(Count(), tmp_path, {})["metrics"] == {"counted": 3}
    assert (tmp_path / "state").read_text() == "3"


def test_a_stage_that_is_running_elsewhere_is_refused(tmp_path: Path) -> None:
    import fcntl

    with open(tmp_path / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InvalidConfig, match="another run"):
            run_stage(Count(), tmp_path, {})


def test_records_drop_a_torn_line_and_steps_that_come_again(tmp_path: Path) -> None:
    records = Records(tmp_path / "curve.jsonl")
    for step in range(4):
        records.add(step=step)
    with open(records.path, "a") as file:
        file.write('{"step": 4, "lo')
    assert [row["step"] for row in records.read()] == [0, 1, 2, 3]
    records.keep_until(2)
    assert [row["step"] for row in records.read()] == [0, 1]


def test_a_killed_process_goes_on_where_it_was(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.unit.test_pipeline import Count;"
        "from trainer.pipeline.chain import run_stage; run_stage(Count(400, 0.01), Path(sys.argv[1]), {})"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env={**os.environ})
    curve = Records(tmp_path / "curve.jsonl")
    while len(curve.read()) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert finished(tmp_path) is None
    run_stage(Count(400, 0.0), tmp_path, {})
    rows = curve.read()
    assert [row["step"] for row in rows] == list(range(400))
    assert {row["resumed_from"] for row in rows} == {0, rows[-1]["resumed_from"]}
    assert rows[-1]["resumed_from"] >= 4
