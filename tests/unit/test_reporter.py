"""What a run's files become for the coordinator: new lines once, lines done again after a resume, nothing torn."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from contracts.http import Unreachable
from contracts.training import MAX_LINES, TrainingProgress, TrainingReply
from foundation.files import write_atomically
from trainer.pipeline.records import Records
from trainer.runs import reporter
from trainer.runs.reporter import Reporter, RunReader

STAGES = [{"stage": "pretrain"}, {"stage": "evaluate"}, {"stage": "sft", "start": "pretrain"}]
FOLDERS = {"pretrain": "pretrain-1", "evaluate_pretrain": "evaluate-1", "sft": "sft-1"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    run = tmp_path / "runs" / "here"
    run.mkdir(parents=True)
    for folder in FOLDERS.values():
        (tmp_path / "stages" / folder).mkdir(parents=True)
    write_atomically(run / "recipe.json", json.dumps({"recipe": "debug", "stages": STAGES, "folders": FOLDERS}))
    return tmp_path


def curve(root: Path) -> Records:
    return Records(root / "stages" / "pretrain-1" / "curve.jsonl")


def told(reader: RunReader) -> list[int]:
    progress = reader.next()
    reader.accepted()
    return [line.step for line in progress.curve]


def test_every_line_is_told_once_and_at_most_so_many_at_a_time(root: Path) -> None:
    reader, records = RunReader(root, "here"), curve(root)
    for step in range(MAX_LINES + 5):
        records.add(step=step, loss=1.0)
    assert told(reader) == list(range(MAX_LINES))
    assert reader.next().curve[0].step == MAX_LINES
    assert told(reader) == list(range(MAX_LINES, MAX_LINES + 5)), "what was not accepted is told again"
    assert told(reader) == []
    records.add(step=MAX_LINES + 5, loss=0.5)
    assert told(reader) == [MAX_LINES + 5]


def test_a_resumed_stage_is_told_anew_and_a_torn_line_waits(root: Path) -> None:
    reader, records = RunReader(root, "here"), curve(root)
    for step in range(4):
        records.add(step=step, loss=1.0)
    told(reader)
    records.keep_until(2)
    records.add(step=2, loss=float("nan"), gradient_norm=2.0)
    with open(records.path, "a") as file:
        file.write('{"step": 3, "lo')
    progress = reader.next()
    reader.accepted()
    assert [(line.step, line.values) for line in progress.curve] == [
        (0, {"loss": 1.0}), (1, {"loss": 1.0}), (2, {"gradient_norm": 2.0}),
    ]  # fmt: skip
    with open(records.path, "a") as file:
        file.write('ss": 0.1}\n')
    assert told(reader) == [3]


def test_stages_say_how_far_they_are_and_what_they_came_from(root: Path) -> None:
    done: dict[str, Any] = {"stage": "pretrain", "metrics": {"loss": float("inf"), "tokens": 5}, "seconds": 2.5}
    write_atomically(root / "stages" / "pretrain-1" / "done.json", json.dumps(done))
    records = Records(root / "runs" / "here" / "progress.jsonl")
    records.add(time=1.0, stage="evaluate_pretrain", stage_share=0.5, eta_s=4, message="task:x")
    progress = RunReader(root, "here").next()
    first, second, third = progress.stages
    assert (first.state, first.seconds, first.metrics) == ("done", 2.5, {"loss": "inf", "tokens": 5})
    assert (second.state, second.start, second.share, second.eta_s) == ("running", "pretrain", 0.5, 4)
    assert (third.state, third.start) == ("open", "pretrain")
    assert (progress.share, progress.message) == (0.5, "evaluate_pretrain: task:x")
    records.add(time=2.0, stage="evaluate_pretrain", event="stage_failed", message="stage stopped: no")
    assert RunReader(root, "here").next("failed").stages[1].state == "failed"


def test_a_run_that_has_not_begun_says_nothing(tmp_path: Path) -> None:
    assert RunReader(tmp_path, "later").next().stages == []


def test_a_coordinator_that_is_away_misses_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "EVERY_S", 0.001)
    came: list[int] = []
    tries, arrived = iter(range(10_000)), threading.Event()

    def send(progress: TrainingProgress) -> TrainingReply:
        if next(tries) < 3:
            raise Unreachable("away")
        came.extend(line.step for line in progress.curve)
        arrived.set()
        return TrainingReply(stop=True)

    curve(root).add(step=0, loss=1.0)
    with Reporter(RunReader(root, "here"), send) as watching:
        assert arrived.wait(30)
        assert watching.stop_asked.wait(30)
        curve(root).add(step=1, loss=1.0)
    watching.finish("stopped")
    assert came == [0, 1]
