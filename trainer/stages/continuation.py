"""What the stages share that go on training a model of an earlier stage."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foundation.errors import HilnasError
from search_space.arch import ArchConfig
from trainer.engine.config import LoopConfig
from trainer.engine.launch import MODEL, Job, launch
from trainer.pipeline.records import Records
from trainer.pipeline.stage import StageContext


def arch_of(model: Path) -> ArchConfig:
    """Of a Hugging Face directory of ours."""
    from search_space.modeling.configuration import HilnasConfig

    return HilnasConfig.from_pretrained(model).to_arch()


def continue_training(
    context: StageContext, start: Path, data: Path, loop: LoopConfig, arch: ArchConfig | None = None,
    stream: Path | None = None, processes: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Trains ``start``'s weights, perhaps in another ``arch``, and leaves ``model`` with its tokenizer."""
    chosen = arch or arch_of(start / MODEL)
    job = Job(
        chosen.to_dict(), asdict(loop), str(data), None, str(context.folder), str(start / MODEL),
        str(stream) if stream else None,
    )  # fmt: skip
    launch(job, processes, context.progress, context.launcher)
    with_tokenizer(data, context.folder / MODEL)
    rows = Records(context.folder / "curve.jsonl").read()
    return {
        "tokens": loop.steps * loop.batch * loop.length, "first_loss": rows[0]["loss"], "last_loss": rows[-1]["loss"],
        "tokens_per_s": sorted(row["tokens_per_s"] for row in rows)[len(rows) // 2],
    }  # fmt: skip


def with_tokenizer(data: Path, model: Path) -> None:
    for file in (data / "tokenizer").iterdir():
        (model / file.name).write_bytes(file.read_bytes())


def copy_model(start: Path, folder: Path) -> None:
    """The model as it is."""
    shutil.copytree(start / MODEL, folder / MODEL, dirs_exist_ok=True)


def check_model(folder: Path) -> None:
    if not (folder / MODEL / "model.safetensors").exists():
        raise HilnasError(f"{folder / MODEL} is gone")
