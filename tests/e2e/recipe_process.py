"""``python -m tests.e2e.recipe_process TEXT TEACHER``: runs a small recipe in a new process for every line of JSON on
standard input, {root, stage, delay}, and tells how it ended. With a stage the process is killed by SIGKILL that many
seconds after the stage began, by a thread of its own: on a busy machine both are slow alike. The libraries are loaded
once, so that killing many processes takes seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from trainer.engine.config import LoopConfig
from trainer.evaluation.subject import Settings
from trainer.examples.files import ExamplesDir
from trainer.pipeline.chain import run_recipe, stage_folders
from trainer.pipeline.stage import Recipe, Stage, StageContext
from trainer.preference.candidates import Rollouts
from trainer.rl.config import RlConfig
from trainer.rl.groups import Sampling
from trainer.rollout.episodes import RolloutConfig
from trainer.stages.data import DataStage
from trainer.stages.evaluate import EvaluateStage
from trainer.stages.extend import ExtendStage
from trainer.stages.integrate import IntegrateStage
from trainer.stages.pairs import PairsStage
from trainer.stages.preference import PreferenceStage
from trainer.stages.pretrain import PretrainStage
from trainer.stages.qat import QatStage
from trainer.stages.rl import RlStage
from trainer.stages.sft import SftStage
from trainer.stages.teacher import TeacherStage
from trainer.tasks.registry import task_named
from trainer.teacher.directory import identity

ARCH = ArchConfig(64, 300, (LayerConfig(GatedShortConv(3), SwiGLU(96)), LayerConfig(Gqa(2, 1, 32), SwiGLU(96))))
TASKS = ("extraction", "tool_calls")


@dataclass(frozen=True)
class ExamplesStage(Stage):
    """Verifiers' examples without filters."""

    kind: ClassVar[str] = "sft_data"
    output: ClassVar[type[ExamplesDir]] = ExamplesDir

    def run(self, context: StageContext) -> dict[str, Any]:
        made = [e for name in TASKS for e in task_named(name).examples("train", 12)]
        ExamplesDir(context.folder).write(made)
        return {}

    def cost(self, costing: object) -> None: ...

    def shortened(self, brief: object) -> ExamplesStage:
        return self


def recipe(text: str, teacher: str) -> Recipe:
    teacher_id = identity(teacher)

    def loop(length: int, **changes: Any) -> LoopConfig:
        return LoopConfig(**{"steps": 30, "batch": 2, "micro_batch": 1, "length": length, "warmup": 2, "save_every": 4,
                             "kd_weight": 0.0, **changes})  # fmt: skip

    def sft(label: str, start: str, tasks: tuple[str, ...] = ()) -> Stage:
        return SftStage(start=start, tasks=tasks, loop=loop(512, steps=10, in_order=True), label=label)

    suites = ("bits_per_byte length=32 count=20", "loss_by_position length=32 count=20", "task:extraction count=6")
    return Recipe("kills", (
        DataStage(teacher, teacher_id, (f"directory:{text}",), 300, max_tokens=6_000, held_out_share=0.2),
        TeacherStage(teacher, teacher_id, k=8, max_tokens=2_000, window=64, shard_tokens=256),
        PretrainStage(ARCH.to_dict(), loop=loop(32, kd_weight=0.5)),
        EvaluateStage("pretrain", suites=suites, settings=Settings(length=32)),
        ExtendStage(loop=loop(128), original_length=128),
        ExamplesStage(),
        sft("sft", "extend"), sft("first", "sft", ("extraction",)), sft("second", "sft", ("tool_calls",)),
        IntegrateStage("sft", ("first", "second"), TASKS, count=3, candidates=("linear", "dare_ties density=0.5"),
                       label="merge"),
        PairsStage("merge", teacher, teacher_id, TASKS, texts=12, per_task=4, opening=8, teacher_share=0.2,
                   rollouts=Rollouts(sampled=2, max_new_tokens=8)),
        PreferenceStage("merge", loop=loop(1024, steps=12)),
        RlStage("preference", ("extraction",), 0, Sampling(2, 2, RolloutConfig(6)),
                RlConfig(dynamic_filter=False, ngram=2), loop=loop(512, steps=12)),
        QatStage(start="rl", rounding="stochastic", loop=loop(512, steps=10, in_order=True), eval_rows=4),
    ))  # fmt: skip


def kill_within(folder: Path, delay: float) -> None:
    """SIGKILL to this process, ``delay`` seconds after the stage of ``folder`` took its lock."""

    def wait() -> None:
        while not (folder / "lock").exists():
            time.sleep(0.002)
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def run(made: Recipe, asked: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(1)  # a copy of a process has none of its threads
    root = Path(asked["root"])
    if asked.get("stage"):
        folder = stage_folders(made, root)[asked["stage"]]
        (folder / "lock").unlink(missing_ok=True)  # of the process before
        kill_within(folder, asked["delay"])
    run_recipe(made, root, "run")


def main() -> None:
    import torch  # noqa: F401  loaded once
    from transformers.utils import logging

    logging.disable_progress_bar()
    made = recipe(sys.argv[1], sys.argv[2])
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            try:
                run(made, json.loads(line))
            except BaseException as error:
                sys.stderr.write(f"{error!r}\n")
                os._exit(1)
            os._exit(0)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
