"""Stage ``evaluate``: what the model of an earlier stage can do, in numbers with intervals."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from contracts.metrics import METRICS
from foundation.files import write_atomically
from trainer.data.token_dir import TokenDir
from trainer.engine.model_dir import ModelDir
from trainer.evaluation.files import EVALUATION, FINISHED, KIND, PREFIX, EvaluationDir
from trainer.evaluation.subject import Settings, Subject, open_subject
from trainer.evaluation.suites import SuiteRun, suite_of
from trainer.evaluation.threads import quick_threads
from trainer.evaluation.values import Better, Metric
from trainer.pipeline.brief import Brief
from trainer.pipeline.fields import in_digest, source
from trainer.pipeline.records import Records
from trainer.pipeline.stage import STAGES, Stage, StageContext, StageDir
from trainer.quantization.modules import quantized

STANDARD = ("bits_per_byte", "loss_by_position count=16", "retrieval count=4")


@STAGES.register(KIND)
@dataclass(frozen=True)
class EvaluateStage(Stage):
    """``suites`` as trainer/evaluation/suites.py names them, ``settings`` what they do not set themselves; ``device``
    also exports the model and measures it on this machine; ``quantized`` evaluates what the exported 8da4w program
    says instead of the float weights."""

    kind: ClassVar[str] = KIND
    title: ClassVar[str] = "what a model can do, in numbers with intervals"
    output: ClassVar[type[StageDir]] = EvaluationDir
    scratch: ClassVar[tuple[str, ...]] = ("answers",)
    data: str = field(default="data", kw_only=True, metadata=source(TokenDir, "never"))
    subject: str = field(metadata=source(ModelDir, "never"))
    suites: tuple[str, ...] = STANDARD
    settings: Settings = Settings()
    device: bool = False
    quantized: bool = field(default=False, metadata=in_digest("unless_default"))

    def __post_init__(self) -> None:
        self._runs()  # what cannot work is found before hours of training, not after

    @property
    def name(self) -> str:
        return self.label or f"{PREFIX}{self.subject}"

    def run(self, context: StageContext) -> dict[str, Any]:
        """Metric name -> {value, low, high, n, better}. Suites that an ended run had finished are not run again."""
        finished = Records(context.folder / FINISHED)
        done = {line["suite"]: line for line in finished.read()}
        todo = [run for run in self._runs() if run.text not in done]
        if todo:
            subject = self._subject(context)
            for index, run in enumerate(todo):
                context.progress(index / (len(todo) + self.device), run.text)
                line = _measured(run, subject)
                finished.add(**line)
                done[run.text] = line
        if self.device and "device" not in done:
            context.progress(len(todo) / (len(todo) + 1), "on this device")
            done["device"] = _on_device(context.read(ModelDir, self.subject).path, context.cache)
            finished.add(**done["device"])
        metrics = {name: entry for line in done.values() for name, entry in line["metrics"].items()}
        seconds = {suite: line["seconds"] for suite, line in done.items()}
        written = {"metrics": metrics, "seconds": seconds, "device": done.get("device", {}).get("said")}
        write_atomically(context.folder / EVALUATION, json.dumps(written, indent=1))
        return metrics

    def cost(self, costing: object) -> None:
        """Some hundred short answers."""

    def shortened(self, brief: Brief) -> EvaluateStage:
        """One suite of every kind, one example each."""
        firsts = {text.partition(" ")[0].partition(":")[0]: text.partition(" ")[0] for text in reversed(self.suites)}
        settings = replace(self.settings, count=1, length=brief.row, contexts=(brief.row,), max_new_tokens=8)
        return replace(self, suites=tuple(firsts.values()), settings=settings)

    def _runs(self) -> list[SuiteRun]:
        return [suite_of(text, self.settings) for text in self.suites]

    def _subject(self, context: StageContext) -> Subject:
        model, tokens = context.read(ModelDir, self.subject), context.read(TokenDir, self.data)
        subject = open_subject(model, tokens, context.folder, self.settings)
        return replace(subject, model=quantized(subject.model)) if self.quantized else subject


def _measured(run: SuiteRun, subject: Subject) -> dict[str, Any]:
    start = time.monotonic()
    with quick_threads(subject.model):
        found: list[Metric] = run.metrics(subject)
    return {
        "suite": run.text, "seconds": round(time.monotonic() - start, 2),
        "metrics": {metric.name: metric.to_dict() for metric in found},
        "rows": {metric.name: {"rows": metric.rows, "weights": metric.weights} for metric in found if metric.rows},
    }  # fmt: skip


def _on_device(model: Path, cache: Path) -> dict[str, Any]:
    """Prefill, decode and memory of the exported program, with the verdict of the measurement."""
    from trainer.results.program import measure_here

    start = time.monotonic()
    result = measure_here(model, cache)
    verdict = {"verdict": result["verdict"], "note": result["reason"] or ""}
    return {
        "suite": "device", "seconds": round(time.monotonic() - start, 2),
        "said": {key: result[key] for key in ("verdict", "reason")},
        "metrics": {
            f"device/{name}": {**entry, "better": _better(name), **verdict} for name, entry in result["metrics"].items()
        },
    }  # fmt: skip


def _better(name: str) -> Better:
    return "high" if METRICS[name.partition("@")[0]].direction == "max" else "low"
