"""Stage ``result``: an earlier stage's model as others use it, measured, with a card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from foundation.errors import HilnasError
from trainer.pipeline.chain import finished
from trainer.pipeline.stage import Stage, StageContext
from trainer.results.program import HOST
from trainer.results.records import run_of
from trainer.results.write import CARD, RESULT, Wanted, write_result


@dataclass(frozen=True)
class ResultStage(Stage):
    """``described`` names further stages whose figures the card shows, so that it is written anew when they change.

    ``budget_bytes`` and ``against_random`` as trainer.results.write.Wanted has them.
    """

    kind: ClassVar[str] = "result"
    subject: str
    described: tuple[str, ...] = ()
    quantization: str = "8da4w"
    targets: tuple[str, ...] = (HOST,)
    gguf: tuple[str, ...] = ("F16",)
    budget_bytes: float | None = None
    against_random: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.subject, *self.described)))

    def resolved(self) -> dict[str, Any]:
        """Without what is at its default and came later: results of before stay done."""
        left_out = [
            key for key, default in (("budget_bytes", None), ("against_random", False)) if getattr(self, key) == default
        ]
        return {k: v for k, v in super().resolved().items() if k not in ("subject", "described", *left_out)}

    def run(self, context: StageContext) -> dict[str, Any]:
        """Device metrics as `host/decode_tok_s@256`, each {value, low, high, n, unit, verdict}; against random weights
        as `host/random/decode_ms@256`, each {ratio, low, high, noise, equal}."""
        run = run_of(context.folder)
        if run is None:
            raise HilnasError("no run names this folder; start the recipe with `hilnas train run`")
        wanted = Wanted(self.quantization, self.targets, self.gguf, self.budget_bytes, self.against_random)
        result = write_result(run.stage(self.subject), run, context.folder, context.cache, wanted, context.progress)
        metrics: dict[str, Any] = {row["file"]: row["bytes"] for row in result["files"]}
        for device in result["devices"]:
            for name, entry in device["metrics"].items():
                metrics[f"{device['target']}/{name}"] = {**entry, "verdict": device["verdict"]}
            for name, entry in device.get("random", {}).get("ratios", {}).items():
                metrics[f"{device['target']}/random/{name}"] = entry
        if "budget_met" in result:
            metrics["budget_met"] = result["budget_met"]
        return {"architecture": result["architecture"], **metrics}

    def check(self, folder: Path) -> None:
        metrics = (finished(folder) or {})["metrics"]
        written = [name for name in metrics if name.endswith((".gguf", ".safetensors", ".pte")) and metrics[name]]
        for name in (CARD, RESULT, *written):
            if not (folder / name).exists():
                raise HilnasError(f"{folder / name} is gone")
