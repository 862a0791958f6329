"""One contract over every quality estimator: seeded, inside its interval, keyed by all that changes it, gated."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from contracts.metrics import METRICS
from contracts.study import QualityResult, QualitySpec, StudySpec
from foundation.errors import InvalidConfig
from nas.quality import intervals
from nas.quality.contract import ESTIMATORS, Estimator, check_quality, estimator, judge_in_worker
from nas.quality.estimators import TASK_NAMES
from nas.quality.gates import BelowFloor, LeakingMixer, TooGood
from nas.quality.intervals import half_width
from nas.quality.proxy import proxy_of
from nas.quality.tasks import LENGTH, TASKS, VOCAB_SIZE
from nas.quality.text.data import TextData
from nas.quality.texts import TEXTS
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.cost import effective_params
from search_space.mixers import MIXERS, GatedShortConv, Gqa, Skip, SlidingWindow
from search_space.presets import PRESETS, preset
from tests.doubles.mixers import MeanOverTime

ARCH = ArchConfig(
    64, 256,
    (
        LayerConfig(GatedShortConv(3), SwiGLU(128)), LayerConfig(Gqa(4, 2, 16), SwiGLU(256)),
        LayerConfig(SlidingWindow(4, 2, 16, window=64), None), LayerConfig(Skip(), SwiGLU(128)),
    ),
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in a worker; several threads wait for each other on models this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class QualityContract:
    name: str
    tiny: dict[str, Any]
    changes: dict[str, Any]  # option -> another value of it

    def estimator(self, **changes: Any) -> Estimator:
        return estimator(QualitySpec(estimator=self.name, options={**self.tiny, **changes}))

    def test_the_same_twice(self) -> None:
        first, again = (self.estimator().judge(ARCH).model_copy(update={"seconds": 0.0}) for _ in range(2))
        assert first == again

    def test_the_same_in_a_worker(self) -> None:
        spec = QualitySpec(estimator=self.name, options=self.tiny)
        found = judge_in_worker(spec.model_dump(), ARCH.to_dict())
        assert found["score"] == pytest.approx(self.estimator().judge(ARCH).score, abs=0.02)

    def test_a_result_says_what_it_is(self) -> None:
        found = self.estimator().judge(ARCH)
        assert (found.estimator, found.metric) == (self.name, ESTIMATORS[self.name].metric)
        assert METRICS[found.metric].source == "quality"
        assert found.low <= found.score <= found.high
        assert found.fidelity and found.seconds > 0
        assert ESTIMATORS[self.name].title

    def test_the_key_changes_with_every_option(self) -> None:
        assert set(self.changes) == set(ESTIMATORS[self.name].Options.model_fields)
        keys = {self.estimator().key, *(self.estimator(**{k: v}).key for k, v in self.changes.items())}
        assert len(keys) == 1 + len(self.changes)
        assert self.estimator().key == self.estimator().key

    def test_judging_leaves_the_architecture_alone(self) -> None:
        before = ARCH.canonical_json()
        self.estimator().judge(ARCH)
        assert ARCH.canonical_json() == before

    def test_an_unknown_option_is_answered_with_the_known_ones(self) -> None:
        with pytest.raises(InvalidConfig, match=f"'{self.name}' has no option 'chess'; known options: "):
            self.estimator(chess=1)


class TrainedContract(QualityContract):
    """Of estimators that train a proxy."""

    def test_several_seeds_widen_what_is_known(self) -> None:
        found = self.estimator(seeds=2).judge(ARCH)
        assert len(found.seeds) == 2
        assert found.low < found.score < found.high

    def test_the_better_rate_counts(self) -> None:
        found = self.estimator(learning_rates=[1e-6, *self.tiny["learning_rates"]]).judge(ARCH)
        assert found.details["learning_rate"] == self.tiny["learning_rates"][0]

    def test_a_proxy_that_learned_nothing_has_no_score(self) -> None:
        with pytest.raises(BelowFloor, match="it learned nothing that counts; give the estimator more"):
            self.estimator(learning_rates=[1e-9]).judge(ARCH)

    def test_a_score_whose_interval_reaches_the_floor_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same training with fewer doubts about it passes, with more it does not."""
        found = self.estimator().judge(ARCH)
        assert found.low < found.score < found.high
        monkeypatch.setattr(intervals, "ONE_SEED", 1000.0)
        with pytest.raises(BelowFloor, match="it learned nothing that counts"):
            self.estimator().judge(ARCH)

    def test_a_mixer_that_reads_ahead_is_refused_by_name(self) -> None:
        with MIXERS.temporarily({"mean_over_time": MeanOverTime}), pytest.raises(LeakingMixer, match="mean_over_time"):
            self.estimator().judge(replace(ARCH, layers=(*ARCH.layers, LayerConfig(MeanOverTime(), None))))

    def test_options_are_bounded(self) -> None:
        with pytest.raises(InvalidConfig, match="option width: .*multiple of 32, got '40'"):
            self.estimator(width=40)
        with pytest.raises(InvalidConfig, match=r"option learning_rates.0: input should be less than or equal to 1"):
            self.estimator(learning_rates=[3])


class TestParams(QualityContract):
    name = "params"
    tiny: dict[str, Any] = {}
    changes: dict[str, Any] = {}

    def test_it_is_the_logarithm_of_effective_parameters(self) -> None:
        assert self.estimator().judge(ARCH).score == pytest.approx(math.log(effective_params(ARCH)))


class TestMechanistic(TrainedContract):
    name = "mechanistic"
    tiny = {"steps": 60, "width": 32, "tasks": ["memorization", "selective_copying"], "learning_rates": [1e-2]}
    changes = {"steps": 61, "width": 64, "tasks": ["memorization"], "seeds": 2, "learning_rates": []}

    def test_no_tasks_means_all_of_them(self) -> None:
        assert self.estimator(tasks=[]).key == self.estimator(tasks=list(TASKS)).key
        assert list(TASKS) == list(TASK_NAMES)

    def test_the_score_is_the_mean_over_tasks(self) -> None:
        found = self.estimator().judge(ARCH)
        assert found.score == pytest.approx(sum(found.tasks.values()) / len(found.tasks))
        assert all(0 <= accuracy <= 1 for accuracy in found.tasks.values())

    def test_an_unknown_task_names_the_known_ones(self) -> None:
        with pytest.raises(InvalidConfig, match="unknown task 'chess'; known tasks: in_context_recall"):
            self.estimator(tasks=["chess"])


class TestText(TrainedContract):
    name = "text"
    tiny = {"tokens": 24_000, "width": 32, "length": 32, "rows": 4, "evaluation_rows": 128, "learning_rates": [1e-2]}
    changes = {
        "tokens": 16_001, "width": 64, "length": 33, "rows": 5, "evaluation_rows": 17, "seeds": 2, "context": 512,
        "audition": 0.5, "learning_rates": [], "text": "other",
    }  # fmt: skip

    @pytest.fixture(autouse=True)
    def other_text(self) -> Iterator[None]:
        with TEXTS.temporarily({"other": lambda: SENTENCES}):
            yield

    def test_an_unknown_text_names_the_known_ones(self) -> None:
        with pytest.raises(InvalidConfig, match="unknown judging text 'novels'; known: python, other"):
            self.estimator(text="novels")

    def test_bits_are_told_by_position(self) -> None:
        found = self.estimator(length=128, tokens=40_000).judge(ARCH)
        assert list(found.tasks) == ["positions 0-32", "positions 32-64", "positions 64-128"]
        assert min(found.tasks.values()) <= found.score <= max(found.tasks.values())

    def test_held_out_text_that_was_trained_on_raises_the_alarm(self) -> None:
        """A text that repeats one sentence holds nothing that is unseen."""
        with pytest.raises(TooGood, match="bits per byte on unseen text is below 0.4"):
            self.estimator(text="other", tokens=60_000).judge(ARCH)


SENTENCES = TextData(
    np.tile(np.arange(20, dtype=np.uint16), 300), np.tile(np.arange(20, dtype=np.uint16), 60), np.full(20, 3, np.int32)
)


def test_an_unknown_estimator_names_the_known_ones() -> None:
    with pytest.raises(InvalidConfig, match="unknown quality estimator 'oracle'; known: mechanistic, params, text"):
        estimator(QualitySpec(estimator="oracle"))


def study(**changes: Any) -> StudySpec:
    return StudySpec.model_validate({"name": "s", "objectives": [{"metric": "quality"}], **changes})


def test_an_objective_that_the_estimator_does_not_estimate() -> None:
    check_quality(study())
    check_quality(study(quality={"estimator": "text"}, objectives=[{"metric": "bits_per_byte"}]))
    check_quality(study(quality={"estimator": "text"}, objectives=[{"metric": "params"}]))
    with pytest.raises(InvalidConfig, match="'text' estimates bits_per_byte, not quality: give the objective bits_per"):
        check_quality(study(quality={"estimator": "text"}))
    with pytest.raises(InvalidConfig, match=r"or an estimator of log_params \(params\)"):
        check_quality(study(budgets={"log_params": 12.0}))


def test_bodies_of_older_versions_are_read() -> None:
    old = {"estimator": "mechanistic", "tasks": [], "steps": 200, "width": 64, "seeds": 1}
    assert QualitySpec.model_validate(old) == QualitySpec()
    assert QualitySpec.model_validate({**old, "steps": 300}).options == {"steps": 300}
    assert estimator(QualitySpec.model_validate({"steps": 150, "width": 64})).key == estimator(
        QualitySpec(options={"steps": 150})
    ).key
    stored = {"estimator": "mechanistic", "score": 0.5, "low": 0.4, "high": 0.6, "tasks": {}, "seeds": [0]}
    assert QualityResult.model_validate(stored).metric == "quality"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"metric": "decode_ms"}, "no metric of quality; known: quality, bits_per_byte, log_params"),
     ({"high": 0.4}, "the score 0.5 lies outside its interval 0.4 to 0.4")],
)  # fmt: skip
def test_results_that_mean_nothing_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        QualityResult.model_validate({"estimator": "x", "score": 0.5, "low": 0.4, "high": 0.6, **changes})


@pytest.mark.parametrize("width", [32, 64, 96])
@pytest.mark.parametrize("arch", [ARCH, *(preset(name) for name in PRESETS)], ids=lambda arch: arch.label)
def test_twins_keep_depth_and_operators(arch: ArchConfig, width: int) -> None:
    twin = proxy_of(arch, width, VOCAB_SIZE, LENGTH)
    assert (twin.d_model, twin.vocab_size, twin.depth) == (width, VOCAB_SIZE, arch.depth)
    for small, large in zip(twin.layers, arch.layers, strict=True):
        assert small.mixer.kind == large.mixer.kind
        assert (small.ffn is None) == (large.ffn is None)
        if small.ffn and large.ffn:
            assert small.ffn.width / width == pytest.approx(large.ffn.width / arch.d_model, abs=8 / width)
            assert small.ffn.activation == large.ffn.activation
        if isinstance(small.mixer, Gqa) and isinstance(large.mixer, Gqa):
            assert small.mixer.qk_norm == large.mixer.qk_norm
            for narrow, wide in zip(small.mixer.linears(width)[:2], large.mixer.linears(arch.d_model)[:2], strict=True):
                assert narrow.out_features / width == pytest.approx(wide.out_features / arch.d_model, rel=0.5)


def test_kv_heads_head_size_and_windows_reach_the_proxy() -> None:
    mixers = [
        Gqa(16, 8, 64), Gqa(16, 4, 64), Gqa(16, 16, 64), Gqa(8, 8, 64), Gqa(8, 4, 128),
        SlidingWindow(16, 8, 64, window=512), SlidingWindow(16, 8, 64, window=1024),
    ]  # fmt: skip
    arch = ArchConfig(1024, 256, tuple(LayerConfig(mixer, SwiGLU(2048)) for mixer in mixers))
    assert len({layer.mixer for layer in proxy_of(arch, 64, VOCAB_SIZE, LENGTH).layers}) == len(mixers)


def test_wider_feed_forwards_give_wider_twins() -> None:
    wide = replace(ARCH, layers=tuple(LayerConfig(layer.mixer, SwiGLU(512)) for layer in ARCH.layers))
    assert all(layer.ffn and layer.ffn.width == 256 for layer in proxy_of(wide, 32, VOCAB_SIZE, LENGTH).layers)


@pytest.mark.parametrize(("seeds", "quantile"), [(2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262)])
def test_the_interval_between_seeds_takes_the_quantile_of_their_number(seeds: int, quantile: float) -> None:
    """Student's t at 97.5 % with ``seeds - 1`` degrees of freedom, from the printed tables."""
    means = [0.2 + 0.6 * seed / (seeds - 1) for seed in range(seeds)]
    expected = quantile * statistics.stdev(means) / math.sqrt(seeds)
    assert half_width(means, 1e-9) == pytest.approx(expected, rel=1e-3)


def test_one_seed_states_more_than_its_own_rows_show() -> None:
    assert half_width([0.5], 0.01) > 1.96 * 0.01
    assert half_width([0.5, 0.5], 0.01) == pytest.approx(1.96 * 0.01)


@pytest.mark.parametrize(
    "mixer", [Gqa(4, 2, 16), Gqa(4, 4, 16, qk_norm=False, gate=True), SlidingWindow(4, 1, 16, window=5)]
)
def test_fused_parts_change_no_logits(mixer: Gqa) -> None:
    from nas.quality.text.fused import use_fused_parts
    from search_space.modeling.model import build_model

    model = build_model(ArchConfig(64, 40, (LayerConfig(mixer, SwiGLU(32)),) * 2), seed=1).eval()
    ids = torch.randint(0, 40, (2, 33), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = model.lm_head(model.model(ids))
        use_fused_parts(model)
        torch.testing.assert_close(model.lm_head(model.model(ids)), plain, atol=1e-5, rtol=1e-5)
