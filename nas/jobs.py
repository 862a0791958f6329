"""Measurement jobs with a study's settings. Needs no torch, so that the coordinator can create them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from contracts.job import MeasureJob
from contracts.plan import PRECISION, PROTOCOLS, Cache, Check, Plan, State, Step
from contracts.study import StudySpec
from nas.export.prompts import token_ids
from search_space.arch import ArchConfig

NUM_TOKENS = 64  # of real text in a plan; longer prompts repeat them


def measure_job(spec: StudySpec, plan: Plan, **options: Any) -> MeasureJob:
    """A job for ``plan`` at the study's precision; ``options`` are those of MeasureJob."""
    half_width, repeats = PRECISION[spec.protocol]
    return MeasureJob(plan=plan, max_half_width=spec.precision or half_width, max_repeats=repeats, **options)


def trained_job(spec: StudySpec, arch: ArchConfig, program: str, vocab_size: int, check: Check | None) -> MeasureJob:
    """Measures the trained ``program`` of a candidate under the study's protocol, so that its row is comparable with
    those of the search. Training may change a candidate's vocabulary, never its layers."""
    trained = replace(arch, vocab_size=vocab_size)
    protocol = PROTOCOLS[spec.protocol](spec.threads)
    states = [State(**state.to_plan()) for layer in arch.layers for state in layer.mixer.states(arch.d_model)]
    plan = Plan(
        id=f"trained-{trained.digest[:12]}", chain=[Step(block=program, role="model", name="model", states=states)],
        cache=Cache(dtype=spec.cache_dtype, capacity=protocol.capacity), hidden_size=arch.d_model,
        vocab_size=vocab_size, protocol=protocol, tokens=token_ids(vocab_size, NUM_TOKENS), check=check,
    )  # fmt: skip
    return measure_job(spec, plan, form="trained")
