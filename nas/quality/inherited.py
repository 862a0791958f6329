"""The estimator ``inherited``: a candidate around a parent, composed of inherited and learnt blocks, reads text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator

from contracts.study import QualityResult
from foundation.errors import InvalidConfig
from nas.quality.base import CandidateEstimator, EstimatorOptions
from search_space.arch import ArchConfig
from search_space.parents import parent_folder, parent_record

if TYPE_CHECKING:
    from nas.parent.estimate import InheritedJudge
    from nas.quality.base import LogitsOf

Length = Annotated[int, Field(ge=64, le=131_072)]


class InheritedOptions(EstimatorOptions):
    """``parent`` is a name of ``hilnas parent list``. ``distil_steps`` over 0 judge after a short global distillation:
    the higher fidelity for the most promising few."""

    parent: str = Field(default="", max_length=64, validate_default=True)
    lengths: list[Length] = Field(default=[512, 2048], min_length=1, max_length=6)
    held_out_rows: int = Field(default=4, ge=2, le=100_000)
    calibration_rows: int = Field(default=50, ge=4, le=100_000)
    calibration_length: int = Field(default=512, ge=32, le=131_072)
    steps: int = Field(default=150, ge=1, le=100_000)
    rows: int = Field(default=4, ge=1, le=1024)
    retrieval: bool = True
    distil_steps: int = Field(default=0, ge=0, le=1_000_000)

    @field_validator("parent")
    @classmethod
    def _there(cls, name: str) -> str:
        try:
            parent_folder(name)
        except InvalidConfig as error:
            raise ValueError(str(error)) from None
        return name

    @field_validator("lengths")
    @classmethod
    def _divides(cls, lengths: list[int]) -> list[int]:
        if odd := [length for length in lengths if max(lengths) % length]:
            raise ValueError(f"every length must divide the longest, {max(lengths)}, and {odd[0]} does not")
        return lengths


class Inherited(CandidateEstimator):
    name, metric = "inherited", "bits_per_byte"
    title = "Bits per byte of a parent whose layers are replaced by blocks that inherit its weights"
    Options = InheritedOptions

    def __init__(self, options: EstimatorOptions | None = None) -> None:
        super().__init__(options)
        assert isinstance(self.given, InheritedOptions)
        self.options = self.given

    @property
    def key(self) -> str:
        """With the digests of the parent and of the blocks that came with it: another parent of the same name gives
        other scores."""
        record = parent_record(self.options.parent)
        given = f"-{record['given'][:8]}" if record.get("given") else ""
        return f"{super().key}-{record['digest'][:16]}{given}"

    def estimate(self, arch: ArchConfig) -> QualityResult:
        from nas.parent.estimate import require_finite
        from nas.quality.gates import require_causal, require_possible_bits

        require_causal(arch)
        row = self._judge().judge(arch)
        require_finite(row["score"])
        require_possible_bits(row["score"])
        return self._result(row, "composed")

    def save(self, arch: ArchConfig, folder: Path) -> None:
        self._judge().save(arch, folder)

    def real_tokens(self, arch: ArchConfig, count: int) -> list[int]:
        stream = self._judge().parent.text.held_out
        return [int(token) for token in stream[:count]]

    def judge_program(self, arch: ArchConfig, logits_of: LogitsOf) -> QualityResult:
        from nas.parent.estimate import require_finite

        row = self._judge().judge_program(logits_of)
        require_finite(row["score"])
        return self._result(row, "as a program")

    def _judge(self) -> InheritedJudge:
        from nas.parent.distil import DistilSettings
        from nas.parent.estimate import InheritedSettings, judge_of
        from nas.parent.learn import LearnSettings

        chosen = self.options
        return judge_of(InheritedSettings(
            chosen.parent, tuple(sorted(chosen.lengths)), chosen.held_out_rows, chosen.calibration_rows,
            chosen.calibration_length, chosen.retrieval, LearnSettings(steps=chosen.steps, rows=chosen.rows),
            DistilSettings(steps=chosen.distil_steps, length=max(chosen.lengths)),
        ))  # fmt: skip

    def _result(self, row: dict[str, Any], form: str) -> QualityResult:
        chosen = self.options
        after = f" after {chosen.distil_steps} steps of distillation" if chosen.distil_steps else ""
        return QualityResult(
            estimator=self.name, metric=self.metric, score=row["score"], low=row["low"], high=row["high"],
            fidelity=f"{form}{after}, {chosen.held_out_rows} rows", details=row.get("details", {}),
        )  # fmt: skip
