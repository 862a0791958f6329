"""From a model that exists to a measured winner that is faster: SmolLM2-135M on this machine, by the product's own
commands. Blocks around the parent, a search, the winner healed by its parent, both as one-piece programs side by side.

Every step is kept under ``--var`` with its seconds; started again, the benchmark goes on. ``minutes`` adds them up.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import publish
from benchmarks.resume import KeptRows
from contracts.job import MeasureJob
from contracts.plan import PROTOCOLS, Check, Plan
from foundation.cpus import usable_cpus
from hilnas.cli.search import watch_study
from hilnas.local import LocalMeasurer
from hilnas.service import local_service
from search_space.arch import ArchConfig

NAME = "parent"
CONTEXT, PROMPT, LENGTH = 4096, 2048, 2048
DECODE, PREFILL = f"decode_ms@{CONTEXT}", f"prefill_ms@{PROMPT}"
COLD_RUNS = 5


@dataclass(frozen=True)
class Settings:
    """``speedup``: the least that a winner must have over its parent. Text is in the parent's tokens."""

    source: str = "smollm2-135m"
    windows: tuple[int, ...] = (512,)
    kernels: tuple[int, ...] = (3,)
    shares: tuple[float, ...] = (0.5,)
    steps: int = 150
    calibration_rows: int = 50
    calibration_length: int = 512
    trials: int = 60
    judged: int = 25
    confirmed: int = 2
    length: int = LENGTH
    held_out_rows: int = 4
    speedup: float = 1.3
    heal_tokens: int = 160_000
    heal_rate: float = 1e-4
    compared_rows: int = 8
    text: str = "python:docs"
    max_tokens: int = 1_500_000

    @property
    def space(self) -> dict[str, Any]:
        return {"parent": NAME, "windows": self.windows, "kernels": self.kernels, "shares": self.shares}

    @property
    def quality(self) -> dict[str, Any]:
        """One reading of ``held_out_rows``; the retrieval task would be three quarters of a judgement."""
        return {"estimator": "inherited", "options": {
            "parent": NAME, "lengths": [self.length], "held_out_rows": self.held_out_rows, "retrieval": False,
            "steps": self.steps, "calibration_rows": self.calibration_rows,
            "calibration_length": self.calibration_length,
        }}  # fmt: skip

    @property
    def study(self) -> dict[str, Any]:
        return {
            "name": "parent-search", "space": "around", "space_options": self.space, "sampler": "surrogate",
            "objectives": [{"metric": "bits_per_byte"}, {"metric": DECODE}], "protocol": "screening",
            "max_trials": self.trials, "max_quality": self.judged, "confirm": self.confirmed, "quality": self.quality,
        }  # fmt: skip


QUICK = Settings(
    steps=3, calibration_rows=8, calibration_length=64, trials=5, judged=3, confirmed=1, length=128, held_out_rows=2,
    speedup=0.0, heal_tokens=2048, compared_rows=2, windows=(64,), max_tokens=60_000, text="python:topics",
)  # fmt: skip


class Steps:
    """What was done, with its seconds; a step that an earlier start finished is not done again."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._kept, self.seconds = KeptRows(folder, "parent_search", asdict(settings)), dict[str, float]()

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        row = self._kept.once(name, 0, lambda: _timed(work))
        self.seconds[name] = round(row["seconds"], 1)
        return row["found"]


def _timed(work: Callable[[], Any]) -> dict[str, Any]:
    begun = time.monotonic()
    found = work()
    return {"found": found, "seconds": time.monotonic() - begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--var", type=Path, default=Path("var/parent_search"))
    parser.add_argument("--port", type=int, default=8741)
    parser.add_argument("--source", default="smollm2-135m", help="A Hugging Face directory, or smollm2-135m.")
    parser.add_argument("--quick", action="store_true", help="Few and short steps, for tests.")
    given = parser.parse_args()
    base = QUICK if given.quick else Settings()
    settings = Settings(**{**asdict(base), "source": given.source})
    os.environ["HILNAS_VAR"] = str(given.var.absolute())
    measured, seconds = measure(settings, given.var.absolute(), given.port)
    publish("parent_search", judge(measured, seconds), measured["winners"], {**measured, "seconds": seconds})


def measure(settings: Settings, var: Path, port: int) -> tuple[dict[str, Any], dict[str, float]]:
    steps = Steps(var, settings)
    steps.once("import", lambda: imported(settings, var))
    blocks = steps.once("blocks", lambda: learned(settings))
    study = steps.once("search", lambda: searched(settings, var, port))
    chosen = steps.once("choose", lambda: choice(study, settings.speedup))
    healed = steps.once("heal", lambda: heal(settings, var, chosen))
    quality = steps.once("quality", lambda: qualities(settings, Path(healed["start"]), Path(healed["model"])))
    latency = steps.once("confirm", lambda: compared(var, Path(healed["model"])))
    found = {"blocks": blocks, "winners": study["winners"], "counts": study["counts"], "chosen": chosen,
             "healed": healed["bits"], "quality": quality, "latency": latency}  # fmt: skip
    return found, steps.seconds


def judge(found: dict[str, Any], seconds: dict[str, float]) -> dict[str, Any]:
    """Ratios are of one session with both programs in turn; errors compare a winner's chain of blocks with its program.
    ``bits_per_byte_ratio`` is of float weights, ``quantized_bits_per_byte_ratio`` of both programs."""
    ratios, quality = found["latency"]["ratios"], found["quality"]
    errors = [abs(row["composed_ms"] / row["one_piece_ms"] - 1) for row in found["winners"] if row["one_piece_ms"]]
    return {
        "minutes": round(sum(seconds.values()) / 60, 1),
        "decode_speedup_4096": ratios[DECODE], "prefill_speedup_2048": ratios[PREFILL],
        "memory_ratio": ratios["memory"], "verdict": found["latency"]["verdict"],
        "bits_per_byte_ratio": round(quality["healed"] / quality["parent"], 4),
        "bits_per_byte_ratio_before_heal": round(quality["winner"] / quality["parent"], 4),
        "quantized_bits_per_byte_ratio": round(quality["healed_program"] / quality["parent_program"], 4),
        "latency_prediction_error": round(max(errors), 4) if errors else None,
        "measured": found["counts"]["measured"], "judged": found["counts"]["judged"], "blocks": found["blocks"],
    }  # fmt: skip


# --- steps ---------------------------------------------------------------------------------------------------------


def imported(settings: Settings, var: Path) -> str:
    from hilnas.parents import import_parent
    from search_space.parents import parent_names, parent_record

    if NAME not in parent_names():
        import_parent(NAME, settings.source, (settings.text,), settings.max_tokens, var / "train/cache")
    return str(parent_record(NAME)["digest"])


def learned(settings: Settings) -> int:
    from nas.parent.learn import LearnSettings
    from nas.parent.workers import all_alternatives, learn_blocks

    wanted = all_alternatives(NAME, settings.windows, settings.kernels, settings.shares)
    calibration = (settings.calibration_length, settings.calibration_rows)
    learn_blocks(NAME, wanted, LearnSettings(steps=settings.steps), calibration, usable_cpus())
    return len(wanted)


def searched(settings: Settings, var: Path, port: int) -> dict[str, Any]:
    """The study's candidates and winners, through coordinator and agent as processes of their own."""
    with local_service(var, port) as rest:
        begun = [one["id"] for one in rest.get("/studies") if _is_of(settings, rest.get(f"/studies/{one['id']}"))]
        study = watch_study(rest, begun[0] if begun else str(rest.post("/studies", settings.study)["id"]))
        front = rest.get(f"/studies/{study['id']}/front")
        trials = rest.get(f"/studies/{study['id']}/trials")
    rows = [_row(trial) for trial in trials if trial["measurements"]]
    confirmed = {member["trial_id"] for member in front["members"] if member["confirmed"]}
    winners = [row for row in rows if row["trial"] in confirmed]
    counts = {"measured": len(rows), "judged": sum(row["bits_per_byte"] is not None for row in rows)}
    return {"reason": study["reason"], "rows": rows, "winners": winners, "counts": counts}


def _is_of(settings: Settings, study: dict[str, Any]) -> bool:
    """Whether an earlier start with these settings began the study."""
    wanted = json.loads(json.dumps(settings.study))
    decisive = ("name", "space_options", "max_trials", "max_quality", "confirm", "quality")
    return all(study["spec"][key] == wanted[key] for key in decisive)


def _row(trial: dict[str, Any]) -> dict[str, Any]:
    (measured,) = list(trial["measurements"].values())[:1]
    confirmed = next(iter(trial["confirmed"].values()), None)
    quality, program = trial["quality"], trial["program_quality"]
    both = confirmed and DECODE in confirmed["metrics"] and DECODE in confirmed["beside"]
    return {
        "trial": trial["id"], "number": trial["number"], "name": trial["sampler_attrs"].get("name", ""),
        "state": trial["state"], "bits_per_byte": quality["score"] if quality else None,
        "decode_ms": measured["metrics"].get(DECODE, {}).get("median"),
        "program_bits_per_byte": program["score"] if program else None,
        "verdict": confirmed["verdict"] if confirmed else None,
        "one_piece_ms": confirmed["metrics"][DECODE]["median"] if both else None,
        "composed_ms": confirmed["beside"][DECODE]["median"] if both else None, "arch": trial["arch"],
    }  # fmt: skip


def choice(study: dict[str, Any], speedup: float) -> dict[str, Any]:
    """The best reader among the judged candidates that are faster than the parent by more than is asked; a tenth is
    kept in hand, since the winner will be measured again."""
    parent = next(row for row in study["rows"] if row["name"] == NAME)
    judged = [row for row in study["rows"] if row["bits_per_byte"] is not None and row is not parent]
    fast = [row for row in judged if row["decode_ms"] * speedup * 1.1 <= parent["decode_ms"]]
    if not judged:
        raise SystemExit("no candidate was judged; see the study's trials for the reasons")
    best = min(fast, key=lambda row: row["bits_per_byte"]) if fast else min(judged, key=lambda row: row["decode_ms"])
    return {**best, "parent_ms": parent["decode_ms"]}


def heal(settings: Settings, var: Path, chosen: dict[str, Any]) -> dict[str, Any]:
    """The chosen candidate with the weights that were judged, then the recipe ``heal``."""
    from contracts.study import QualitySpec
    from nas.export.judged import saved
    from nas.quality.base import CandidateEstimator
    from nas.quality.contract import estimator
    from trainer.pipeline.chain import run_recipe, stage_folders
    from trainer.recipes import recipe_named

    judge_ = estimator(QualitySpec(**settings.quality))
    assert isinstance(judge_, CandidateEstimator)
    arch = ArchConfig.from_dict(chosen["arch"])
    options = {"start": str(saved(var / "library", judge_, arch)), "tokens": settings.heal_tokens,
               "length": settings.length, "learning_rate": settings.heal_rate, "rows": 4}  # fmt: skip
    recipe = recipe_named("heal", arch, options)
    done = run_recipe(recipe, var / "train", "heal", on_event=print)
    folder = stage_folders(recipe, var / "train")["heal"]
    return {"model": str(folder / "model"), "start": options["start"],
            "bits": done["heal"]["metrics"]["held_out_bits_per_byte"]}  # fmt: skip


def qualities(settings: Settings, start: Path, healed: Path) -> dict[str, float]:
    """Bits per byte on text that no step has read but the search, at ``length``: float models, and programs as
    quantized."""
    from nas.export.backends import BACKENDS
    from nas.export.eager_program import EagerProgram
    from nas.export.modules import deploy
    from nas.parent.judge import HeldOut, Reader
    from nas.parent.store import Parent
    from search_space.modeling.model import HilnasForCausalLM

    parent = Parent(NAME)
    text = parent.text
    rows = HeldOut.cut(text.held_out, text.num_bytes, settings.length, settings.compared_rows)
    reader = Reader(parent.model(), rows, at_once=1)
    models = {"healed": HilnasForCausalLM.from_pretrained(healed, dtype="float32").eval(),
              "winner": HilnasForCausalLM.from_pretrained(start, dtype="float32").eval()}  # fmt: skip
    found = {"parent": reader.bits_per_byte(reader.own)}
    found |= {name: reader.bits_per_byte(reader.read(model)) for name, model in models.items()}
    for name, model in {"parent": reader.parent, "healed": models["healed"]}.items():
        quantized = BACKENDS["xnnpack"].quantize(deploy(model, "8da4w"), "8da4w")
        program = EagerProgram(quantized, model.config.to_arch())  # type: ignore[arg-type]
        found[f"{name}_program"] = reader.bits_per_byte(reader.read_logits(program.logits))
    return found


def compared(var: Path, healed: Path) -> dict[str, Any]:
    """The healed winner and its parent as one-piece programs, in turn in one session, cold each time."""
    from nas.parent.store import Parent
    from trainer.results.program import export

    bench = LocalMeasurer(library_dir=var / "train/cache/library")
    plans = [_plan(bench, export(folder, var / "train/cache", "8da4w")) for folder in (healed, Parent(NAME).folder)]
    job = MeasureJob(plan=plans[0], beside=plans[1], form="trained", cold_repeats=COLD_RUNS, max_repeats=COLD_RUNS + 3)
    row = bench.measure(job, {digest: bench.library.path(digest) for digest in job.blocks})
    bench.close()
    keys = {DECODE: DECODE, PREFILL: PREFILL, "memory": "peak_rss_bytes"}
    ratios = {}
    for name, key in keys.items():
        mine, theirs = (side[key].median if key in side else math.nan for side in (row.metrics, row.beside))
        ratios[name] = round(mine / theirs if name == "memory" else theirs / mine, 3)
    return {"verdict": str(row.verdict), "reason": row.reason, "ratios": ratios,
            "winner": {key: one.model_dump() for key, one in row.metrics.items()},
            "parent": {key: one.model_dump() for key, one in row.beside.items()}}  # fmt: skip


def _plan(bench: LocalMeasurer, exported: dict[str, Any]) -> Plan:
    from nas.export.compose import build_plan, canary_of
    from nas.export.one_piece import one_piece_chain

    protocol = PROTOCOLS["screening"](2).model_copy(update={"prefill_lengths": [512, PROMPT], "memory": True})
    arch = ArchConfig.from_dict(exported["arch"])
    return build_plan(
        arch, one_piece_chain(arch, exported["digest"]), protocol, cache_dtype="fp32",
        check=Check(**exported["check"]), canary=canary_of(arch.d_model, "8da4w", bench.library),
        name=f"parent-search-{exported['digest'][:12]}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
