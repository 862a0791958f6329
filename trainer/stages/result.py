"""Stage ``result``: an earlier stage's model as others use it, measured, with a card."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from foundation.errors import HilnasError
from trainer.engine.model_dir import ModelDir
from trainer.pipeline.brief import Brief
from trainer.pipeline.chain import finished
from trainer.pipeline.fields import in_digest, source
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir
from trainer.results.program import HOST
from trainer.results.records import run_of
from trainer.results.write import CARD, RESULT, Wanted, write_result


@dataclass(frozen=True)
class ResultDir(StageDir):
    what: ClassVar[str] = "a result"
    required: ClassVar[tuple[str, ...]] = (CARD, RESULT)


@STAGES.register("result")
@dataclass(frozen=True)
class ResultStage(Stage):
    """``described`` names further stages whose figures the card shows, so that it is written anew when they change.

    ``budget_bytes`` and ``against_random`` as trainer.results.write.Wanted has them.
    """

    kind: ClassVar[str] = "result"
    title: ClassVar[str] = "the model as others use it, measured, with a card"
    output: ClassVar[type[StageDir]] = ResultDir
    subject: str = field(metadata=source(ModelDir, "never"))
    described: tuple[str, ...] = field(default=(), metadata=source(StageDir, "never"))
    quantization: str = "8da4w"
    targets: tuple[str, ...] = (HOST,)
    gguf: tuple[str, ...] = ("F16",)
    budget_bytes: float | None = field(default=None, metadata=in_digest("unless_default"))
    against_random: bool = field(default=False, metadata=in_digest("unless_default"))

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

    def cost(self, costing: object) -> None:
        """An export and a measurement."""

    def shortened(self, brief: Brief) -> ResultStage:
        return self

    def check(self, folder: Path) -> None:
        super().check(folder)
        metrics = (finished(folder) or {})["metrics"]
        written = [name for name in metrics if name.endswith((".gguf", ".safetensors", ".pte")) and metrics[name]]
        for name in written:
            if not (folder / name).exists():
                raise HilnasError(f"{folder / name} is gone")
