"""Stage ``evaluate``: what the model of an earlier stage can do, in numbers with intervals."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from contracts.metrics import METRICS
from foundation.errors import HilnasError
from foundation.files import write_atomically
from trainer.engine.launch import MODEL
from trainer.evaluation.files import EVALUATION, FINISHED, KIND, PREFIX
from trainer.evaluation.subject import Settings, Subject, open_subject
from trainer.evaluation.suites import Named, suite_named
from trainer.evaluation.threads import quick_threads
from trainer.evaluation.values import Better, Metric
from trainer.pipeline.records import Records
from trainer.pipeline.stage import Stage, StageContext
from trainer.quantization.modules import quantized

STANDARD = ("bits_per_byte", "loss_by_position count=16", "retrieval count=4")


@dataclass(frozen=True)
class EvaluateStage(Stage):
    """``suites`` as trainer/evaluation/suites.py names them, ``settings`` what they do not set themselves; ``device``
    also exports the model and measures it on this machine; ``quantized`` evaluates what the exported 8da4w program
    says instead of the float weights."""

    kind: ClassVar[str] = KIND
    scratch: ClassVar[tuple[str, ...]] = ("answers",)
    subject: str
    data: str = "data"
    suites: tuple[str, ...] = STANDARD
    settings: Settings = Settings()
    device: bool = False
    quantized: bool = False

    def __post_init__(self) -> None:
        self._named()  # what cannot work is told before hours of training, not after

    @property
    def name(self) -> str:
        return self.label or f"{PREFIX}{self.subject}"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.data, self.subject)

    def resolved(self) -> dict[str, Any]:
        plain = super().resolved()
        left_out = ("subject", "data", *([] if self.quantized else ["quantized"]))
        return {key: value for key, value in plain.items() if key not in left_out}

    def run(self, context: StageContext) -> dict[str, Any]:
        """Metric name -> {value, low, high, n, better}. Suites that an ended run had finished are not run again."""
        finished = Records(context.folder / FINISHED)
        done = {line["suite"]: line for line in finished.read()}
        todo = [named for named in self._named() if named.text not in done]
        if todo:
            subject = self._subject(context)
            for index, named in enumerate(todo):
                context.progress(index / (len(todo) + self.device), named.text)
                line = _measured(named, subject)
                finished.add(**line)
                done[named.text] = line
        if self.device and "device" not in done:
            context.progress(len(todo) / (len(todo) + 1), "on this device")
            done["device"] = _on_device(context.inputs[self.subject] / MODEL, context.cache)
            finished.add(**done["device"])
        metrics = {name: entry for line in done.values() for name, entry in line["metrics"].items()}
        seconds = {suite: line["seconds"] for suite, line in done.items()}
        told = {"metrics": metrics, "seconds": seconds, "device": done.get("device", {}).get("said")}
        write_atomically(context.folder / EVALUATION, json.dumps(told, indent=1))
        return metrics

    def check(self, folder: Path) -> None:
        if not (folder / EVALUATION).exists():
            raise HilnasError(f"{folder / EVALUATION} is gone")

    def _named(self) -> list[Named]:
        return [suite_named(text, self.settings) for text in self.suites]

    def _subject(self, context: StageContext) -> Subject:
        folders = context.inputs[self.subject], context.inputs[self.data]
        subject = open_subject(*folders, context.folder, self.settings)
        return replace(subject, model=quantized(subject.model)) if self.quantized else subject


def _measured(named: Named, subject: Subject) -> dict[str, Any]:
    start = time.monotonic()
    with quick_threads(subject.model):
        found: list[Metric] = named.metrics(subject)
    return {
        "suite": named.text, "seconds": round(time.monotonic() - start, 2),
        "metrics": {metric.name: metric.to_dict() for metric in found},
        "rows": {metric.name: {"rows": metric.rows, "weights": metric.weights} for metric in found if metric.rows},
    }  # fmt: skip


def _on_device(model: Path, cache: Path) -> dict[str, Any]:
    """Prefill, decode and memory of the exported program, with the verdict of the measurement."""
    from trainer.results.program import measure_here

    start = time.monotonic()
    result = measure_here(model, cache)
    told = {"verdict": result["verdict"], "note": result["reason"] or ""}
    return {
        "suite": "device", "seconds": round(time.monotonic() - start, 2),
        "said": {key: result[key] for key in ("verdict", "reason")},
        "metrics": {
            f"device/{name}": {**entry, "better": _better(name), **told} for name, entry in result["metrics"].items()
        },
    }  # fmt: skip


def _better(name: str) -> Better:
    return "high" if METRICS[name.partition("@")[0]].direction == "max" else "low"
