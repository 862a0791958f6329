"""Optimizer steps for stages whose loss is not a stream's: checked before they touch a weight, saved with what else the
stage must remember, resumed bit by bit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foundation.errors import HilnasError
from foundation.files import write_atomically
from trainer.engine.checkpoint import load, save, steps
from trainer.engine.config import LoopConfig
from trainer.engine.processes import Processes, alone
from trainer.engine.train import adamw, check_finite


class Updater:
    """AdamW over ``model`` from the newest checkpoint in ``folder``; ``step`` counts finished steps, ``state`` is what
    the stage saved with the last of them."""

    def __init__(self, model: nn.Module, config: LoopConfig, folder: Path, processes: Processes | None = None) -> None:
        self.processes = processes or alone()
        self.model, self.config, self.folder = model.to(self.processes.device), config, folder
        self.optimizer = adamw(model, config)
        self.step = load(folder, model, self.optimizer, self.processes)
        self.state: dict[str, Any] = self._remembered() if self.step else {}

    def update(self, losses: Iterable[Tensor]) -> tuple[float, float]:
        """One optimizer step on the sum of ``losses``, which may be made one after the other; returns sum and gradient
        norm. Raises LossNotFinite before a weight changes."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self.config.share(self.step)
        total = 0.0
        for loss in losses:
            loss.backward()
            total += float(loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip))
        check_finite(total, norm, self.step, self.config)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total, norm

    def finish_step(self, state: dict[str, Any] | None = None) -> None:
        """Counts the step; saves when it is due."""
        self.step += 1
        if self.step % self.config.save_every and self.step != self.config.steps:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._state_file(self.step), json.dumps(state or {}))
        save(self.folder, self.step, self.model, self.optimizer, self.processes)
        kept = {self._state_file(step) for step in steps(self.folder)}
        for old in set(self.folder.glob("state-*.json")) - kept:
            old.unlink()

    def _state_file(self, step: int) -> Path:
        return self.folder / f"state-{step:08d}.json"

    def _remembered(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._state_file(self.step).read_text()))
        except (OSError, ValueError):
            raise HilnasError(
                f"{self._state_file(self.step)} is gone or torn; remove {self.folder} to start anew"
            ) from None
