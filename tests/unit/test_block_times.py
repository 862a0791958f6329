"""Times of blocks in the surrogate: what is read of a row, and what a few rows then say of chains not seen yet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contracts.measurement import Verdict
from contracts.states import TrialState
from contracts.study import StudySpec, TrialFacts
from nas.samplers.block_times import block_times
from nas.samplers.facts import BLOCK_TIMES, DEVIATIONS, METRICS, user_attrs
from nas.samplers.surrogate.of_study import models_of, structure_of
from nas.samplers.surrogate.structure import Structure
from search_space.space import SearchSpace, space_from_data

FLAT = {
    "name": "flat", "d_model": 64, "vocab_size": 64, "depth": 10,
    "mixers": [{"kind": "gated_short_conv", "kernel": [3, 7]},
               {"kind": "gqa", "num_heads": 2, "num_kv_heads": [1, 2], "head_dim": 32},
               {"kind": "sliding_window", "num_heads": 2, "num_kv_heads": 1, "head_dim": 32, "window": [64, 256]},
               "skip"],
    "ffn": [0, 64, 96, 128],
}  # fmt: skip
VARIED = {**FLAT, "name": "varied", "d_model": [64, 96], "depth": {"min": 4, "max": 8}, "tied": {"ffn": 2}}


def spec_of(metric: str = "decode_ms@256", **changes: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "s", "objectives": [{"metric": metric}], "max_trials": 40, **changes})


class Host:
    """A machine on which every block takes its own time; a chain takes ``factor`` of their sum and an overhead. Both
    are seen with noise."""

    def __init__(self, of: SearchSpace, seed: int, noise: float = 0.01) -> None:
        self.space, self.rng, self.noise = of, np.random.default_rng(seed), noise
        self.factor, self.overhead = self.rng.uniform(0.5, 1.1), self.rng.uniform(0.0, 0.3)
        self.costs: dict[object, float] = {}

    def fact(self, assignment: dict[str, str], rate: float = 0.0) -> dict[str, Any]:
        arch = self.space.decode(assignment)
        steps, total = {}, 0.0
        for index, layer in enumerate(arch.layers):
            for name, part in (("mixer", layer.mixer), ("ffn", layer.ffn)):
                if part is None or getattr(part, "identity", False):
                    continue
                ms = self.costs.setdefault((arch.d_model, part), float(self.rng.lognormal(-2, 1)))
                steps[f"{index}.{name}"] = ms * self.rng.lognormal(0, 2 * self.noise)
                total += ms
        chain = (self.factor * total + self.overhead) * self.rng.lognormal(0, self.noise)
        return {METRICS: {"decode_ms@256": chain}, DEVIATIONS: {}, BLOCK_TIMES: {"decode_ms@256": steps}}


def errors(of: SearchSpace, seed: int, with_times: bool, measured: int = 6) -> tuple[float, float]:
    """Median relative error of candidates not seen, and the share of them inside 95 %."""
    host, structure = Host(of, seed), structure_of(of)
    drawn = structure.canonical(structure.random(measured + 200, np.random.default_rng(seed)))
    facts = [host.fact(structure.assignment(row)) for row in drawn]
    known = facts[:measured] if with_times else [{**fact, BLOCK_TIMES: {}} for fact in facts[:measured]]
    models = models_of(spec_of(), of)
    models.fit(drawn[:measured], known)
    predicted = models.predict("decode_ms@256", drawn[measured:])
    assert predicted is not None
    real = np.array([fact[METRICS]["decode_ms@256"] for fact in facts[measured:]])
    left = np.abs(predicted[0] - real)
    return float(np.median(left / real)), float(np.mean(left <= 1.96 * predicted[1]))


@pytest.mark.parametrize("data", [FLAT, VARIED], ids=["flat", "varied"])
def test_six_rows_with_block_times_say_far_more_than_without(data: dict[str, Any]) -> None:
    of = space_from_data(data)
    found = {times: np.array([errors(of, seed, times) for seed in range(12)]) for times in (True, False)}
    assert found[True][:, 0].mean() < 0.25 * found[False][:, 0].mean()
    assert found[True][:, 0].mean() < 0.08
    assert 0.9 <= found[True][:, 1].mean() <= 1.0


def test_rows_without_times_count_beside_rows_with_them() -> None:
    of = space_from_data(FLAT)
    host, structure = Host(of, 3), structure_of(of)
    drawn = structure.random(60, np.random.default_rng(3))
    facts = [host.fact(structure.assignment(row)) for row in drawn]
    mixed = [fact if at % 2 else {**fact, BLOCK_TIMES: {}} for at, fact in enumerate(facts[:40])]
    models = models_of(spec_of(), of)
    models.fit(drawn[:40], mixed)
    predicted = models.predict("decode_ms@256", drawn[40:])
    assert predicted is not None
    real = np.array([fact[METRICS]["decode_ms@256"] for fact in facts[40:]])
    assert np.median(np.abs(predicted[0] / real - 1)) < 0.02


def test_a_block_that_was_never_timed_makes_a_prediction_doubtful() -> None:
    of = space_from_data(FLAT)
    host, structure = Host(of, 5), structure_of(of)
    common = {name: labels[0] for name, labels in of.parameters().items()}
    known = [common, {**common, "layer_00.ffn": "96"}, {**common, "layer_03.ffn": "96", "layer_04.ffn": "64"}] * 2
    models = models_of(spec_of(), of)
    models.fit(structure.rows(known), [host.fact(one) for one in known])
    new = structure.rows([{**common, "layer_05.ffn": "96"}, {**common, "layer_05.mixer": "gqa(2/2x32)"}])
    predicted = models.predict("decode_ms@256", new)
    assert predicted is not None and predicted[1][1] > 2 * predicted[1][0]


@pytest.mark.parametrize("metric", ["decode_tok_s@256", "prefill_tok_s@128", "ttft_ms@128"])
def test_speeds_are_sums_of_block_times_too(metric: str) -> None:
    of, name = space_from_data(FLAT), metric.partition("@")[0]
    host, structure = Host(of, 7), structure_of(of)
    drawn = structure.random(30, np.random.default_rng(7))
    phase = "decode@256" if name.startswith("decode") else "prefill@128"
    value = {"decode_tok_s": lambda ms: 1e3 / ms, "prefill_tok_s": lambda ms: 128e3 / ms}.get(name, lambda ms: ms)
    facts, values = [], []
    for row in drawn:
        assignment = structure.assignment(row)
        fact = host.fact(assignment)
        values.append(value(fact[METRICS]["decode_ms@256"]))
        kinds = {"mixer": "gqa", "ffn": "swiglu"}
        steps = {"{}.{}".format((s := key.split("."))[0], kinds[s[1]]): ms
                 for key, ms in fact[BLOCK_TIMES]["decode_ms@256"].items()}  # fmt: skip
        facts.append(user_attrs(trial_of(assignment, metric, values[-1], {phase: steps}), spec_of(metric)))
    models = models_of(spec_of(metric), of)
    models.fit(drawn[:8], facts[:8])
    predicted = models.predict(metric, drawn[8:])
    assert predicted is not None
    assert np.median(np.abs(predicted[0] / np.array(values[8:]) - 1)) < 0.08


def trial_of(assignment: dict[str, str], metric: str, value: float, block_ms: Any) -> TrialFacts:
    return TrialFacts(
        id="t", study_id="s", number=0, state=TrialState.MEASURED, assignment=assignment, arch_digest="0",
        measurements={"device-1": row_of(metric, value, block_ms)},
    )  # fmt: skip


def row_of(metric: str, value: float, block_ms: Any, **whose: Any) -> Any:
    estimate = {"median": value, "low": value, "high": value, "unit": "ms", "num_samples": 3}
    return {"plan_digest": "0", "protocol": "quick", "verdict": Verdict.VALID, "metrics": {metric: estimate},
            "block_ms": block_ms, **whose}  # fmt: skip


def test_the_row_that_counts_is_read_and_nonsense_left_out() -> None:
    steps = {"embedding": 1.0, "0.gqa": 2.0, "0.swiglu": 3.0, "head": 4.0}
    rows = {
        "a:1": row_of("decode_ms@256", 5.0, {"decode@256": steps}, device_id="1", target="a"),
        "b:2": row_of("decode_ms@256", 7.0, {"decode@256": {"0.gqa": 9.0, "x.gqa": 1.0, "1.skip": -1.0, "2.a.b": 1.0}},
                      device_id="2", target="b"),
        "c:3": row_of("decode_ms@256", 99.0, {"decode@256": steps}, target="c") | {"verdict": Verdict.NOISY},
    }  # fmt: skip
    trial = TrialFacts(id="t", study_id="s", number=0, state=TrialState.MEASURED, assignment={}, arch_digest="0",
                       measurements=rows)  # fmt: skip
    keys = ["decode_ms@256", "decode_ms@256:a", "decode_ms@512", "peak_rss_bytes", "params"]
    assert block_times(trial, keys) == {
        "decode_ms@256": {"0.mixer": 9.0}, "decode_ms@256:a": {"0.mixer": 2.0, "0.ffn": 3.0},
    }  # fmt: skip


def test_a_skip_takes_no_time_and_tied_layers_count_each() -> None:
    of = space_from_data({**VARIED, "d_model": 64, "depth": 3})
    structure = Structure(of)
    assignment = {"layer_00.mixer": "skip", "layer_01.mixer": "skip", "layer_02.mixer": "gated_short_conv(k3)",
                  "layer_00.ffn": "64", "layer_02.ffn": "0"}  # fmt: skip
    features, times = structure.timed(structure.rows([assignment]), [{"0.ffn": 2.0, "1.ffn": 4.0, "2.mixer": 5.0}])
    assert features.sum(axis=1).tolist() == [1, 1, 1, 1]
    assert sorted(times.tolist()) == [0.0, 0.0, 3.0, 5.0]
    assert structure.timed(structure.rows([assignment]), [{}])[0].shape == (0, structure.num_kinds)
