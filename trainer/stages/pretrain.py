"""Stage ``pretrain``: a student from random weights on packed text, with the teacher's word where there is one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from foundation.errors import InvalidConfig
from search_space import cost
from search_space.arch import ArchConfig
from search_space.modeling.model import build_model
from trainer.data.packing import PackedStream
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.config import LoopConfig
from trainer.engine.evaluate import bits_per_byte
from trainer.engine.launch import MODEL, Job, launch, whole_model
from trainer.pipeline.records import Records
from trainer.pipeline.stage import Stage, StageContext
from trainer.stages.continuation import check_model, with_tokenizer


@dataclass(frozen=True)
class PretrainStage(Stage):
    """``processes`` is how many the launcher starts; it does not change the losses."""

    kind: ClassVar[str] = "pretrain"
    arch: dict[str, Any]
    loop: LoopConfig = field(default_factory=LoopConfig)
    processes: int = 1

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("data", "teacher")

    def run(self, context: StageContext) -> dict[str, Any]:
        data, arch = context.inputs["data"], ArchConfig.from_dict(self.arch)
        vocabulary = Vocabulary.load(data / VOCABULARY)
        if vocabulary.size != arch.vocab_size:
            raise InvalidConfig(
                f"the architecture has {arch.vocab_size} tokens and the data {vocabulary.size}; make them equal"
            )
        job = Job(self.arch, asdict(self.loop), str(data), str(context.inputs["teacher"]), str(context.folder))
        launch(job, self.processes, context.progress, context.launcher)
        with_tokenizer(data, context.folder / MODEL)
        held_out = PackedStream.open(data / "held_out.bin", self.loop.length, vocabulary.end)
        models = {"before": build_model(arch, seed=self.loop.seed), "after": whole_model(context.folder)}
        bits = {when: bits_per_byte(model, held_out, vocabulary.num_bytes) for when, model in models.items()}
        rows = Records(context.folder / "curve.jsonl").read()
        return {
            "held_out_bits_per_byte": {when: round(value, 4) for when, value in bits.items()},
            "params": cost.params(arch), "embedding_share": round(cost.embedding_share(arch), 4),
            "tokens": self.loop.steps * self.loop.batch * self.loop.length,
            "first_loss": rows[0]["loss"], "last_loss": rows[-1]["loss"],
            "tokens_per_s": sorted(row["tokens_per_s"] for row in rows)[len(rows) // 2],
        }  # fmt: skip

    def resolved(self) -> dict[str, Any]:
        """Without what cannot change the numbers, so that more processes find the same folder."""
        plain = super().resolved()
        return {key: value for key, value in plain.items() if key != "processes"}

    def check(self, folder: Path) -> None:
        check_model(folder)
