"""Stage ``result``: an earlier stage's model as others use it, measured, with a card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nas.contracts.errors import HilnasError
from trainer.pipeline.chain import finished
from trainer.pipeline.stage import Stage, StageContext
from trainer.results.program import HOST
from trainer.results.records import run_of
from trainer.results.write import CARD, RESULT, Wanted, write_result


@dataclass(frozen=True)
class ResultStage(Stage):
    """``described`` names further stages whose figures the card shows, so that it is written anew when they change."""

    kind: ClassVar[str] = "result"
    subject: str
    described: tuple[str, ...] = ()
    quantization: str = "8da4w"
    targets: tuple[str, ...] = (HOST,)
    gguf: tuple[str, ...] = ("F16",)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.subject, *self.described)))

    def resolved(self) -> dict[str, Any]:
        return {key: value for key, value in super().resolved().items() if key not in ("subject", "described")}

    def run(self, context: StageContext) -> dict[str, Any]:
        """Device metrics as `host/decode_tok_s@256`, each {value, low, high, n, unit, verdict}."""
        run = run_of(context.folder)
        if run is None:
            raise HilnasError("no run names this folder; start the recipe with `hilnas train run`")
        wanted = Wanted(self.quantization, self.targets, self.gguf)
        result = write_result(run.stage(self.subject), run, context.folder, context.cache, wanted, context.progress)
        metrics: dict[str, Any] = {row["file"]: row["bytes"] for row in result["files"]}
        for device in result["devices"]:
            for name, entry in device["metrics"].items():
                metrics[f"{device['target']}/{name}"] = {**entry, "verdict": device["verdict"]}
        return {"architecture": result["architecture"], **metrics}

    def check(self, folder: Path) -> None:
        metrics = (finished(folder) or {})["metrics"]
        written = [name for name in metrics if name.endswith((".gguf", ".safetensors", ".pte")) and metrics[name]]
        for name in (CARD, RESULT, *written):
            if not (folder / name).exists():
                raise HilnasError(f"{folder / name} is gone")
