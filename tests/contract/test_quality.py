"""One contract over every quality estimator: seeded, in 0..1 inside its interval, keyed by all that changes it."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import Any

import pytest

from contracts.study import QualitySpec
from foundation.errors import InvalidConfig
from nas.quality.contract import Quality, estimator, judge_in_worker
from nas.quality.mechanistic import _half_width
from nas.quality.proxy import proxy_of
from nas.quality.tasks import TASKS, VOCAB_SIZE
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, Skip, SlidingWindow
from search_space.presets import PRESETS, preset

ARCH = ArchConfig(
    64, 256,
    (
        LayerConfig(GatedShortConv(3), SwiGLU(128)), LayerConfig(Gqa(4, 2, 16), SwiGLU(256)),
        LayerConfig(SlidingWindow(4, 2, 16, window=64), None), LayerConfig(Skip(), SwiGLU(128)),
    ),
)  # fmt: skip


class QualityContract:
    name: str
    tiny: dict[str, Any]
    changes: dict[str, Any]  # setting -> another value of it

    def estimator(self, **changes: Any) -> Quality:
        return estimator(QualitySpec.model_validate({"estimator": self.name, **self.tiny, **changes}))

    def test_the_same_twice(self) -> None:
        first, again = (self.estimator().judge(ARCH) for _ in range(2))
        assert (first.score, first.tasks) == (again.score, again.tasks)

    def test_the_same_in_a_worker(self) -> None:
        import torch

        threads = torch.get_num_threads()
        try:
            spec = QualitySpec.model_validate({"estimator": self.name, **self.tiny})
            found = judge_in_worker(spec.model_dump(), ARCH.to_dict())
        finally:
            torch.set_num_threads(threads)
        assert found["score"] == pytest.approx(self.estimator().judge(ARCH).score, abs=0.02)

    @pytest.mark.parametrize("seeds", [1, 2])
    def test_score_and_interval(self, seeds: int) -> None:
        found = self.estimator(seeds=seeds).judge(ARCH)
        assert 0 <= found.low <= found.score <= found.high <= 1
        assert found.low < found.high
        assert found.estimator == self.name
        assert len(found.seeds) == seeds
        assert found.score == pytest.approx(sum(found.tasks.values()) / len(found.tasks))
        assert all(0 <= accuracy <= 1 for accuracy in found.tasks.values())

    def test_the_key_changes_with_every_setting(self) -> None:
        assert set(self.changes) == set(QualitySpec.model_fields) - {"estimator"}
        keys = {self.estimator().key, *(self.estimator(**{k: v}).key for k, v in self.changes.items())}
        assert len(keys) == 1 + len(self.changes)
        assert self.estimator().key == self.estimator().key

    def test_judging_leaves_the_architecture_alone(self) -> None:
        before = ARCH.canonical_json()
        self.estimator().judge(ARCH)
        assert ARCH.canonical_json() == before


class TestMechanistic(QualityContract):
    name = "mechanistic"
    tiny = {"steps": 2, "width": 32, "tasks": ["in_context_recall", "compression"]}
    changes = {"steps": 3, "width": 64, "tasks": ["compression"], "seeds": 2}

    def test_no_tasks_means_all_of_them(self) -> None:
        assert self.estimator(tasks=[]).key == self.estimator(tasks=list(TASKS)).key

    def test_mistakes_are_answered_with_what_would_work(self) -> None:
        with pytest.raises(InvalidConfig, match="unknown task 'chess'; known tasks: in_context_recall"):
            self.estimator(tasks=["chess"])
        with pytest.raises(InvalidConfig, match="multiple of 32, got 40"):
            self.estimator(width=40)


def test_an_unknown_estimator_names_the_known_ones() -> None:
    with pytest.raises(InvalidConfig, match="unknown quality estimator 'oracle'; known: mechanistic"):
        estimator(QualitySpec(estimator="oracle"))


@pytest.mark.parametrize("width", [32, 64, 96])
@pytest.mark.parametrize("arch", [ARCH, *(preset(name) for name in PRESETS)], ids=lambda arch: arch.label)
def test_twins_keep_depth_and_operators(arch: ArchConfig, width: int) -> None:
    twin = proxy_of(arch, width)
    assert (twin.d_model, twin.vocab_size, twin.depth) == (width, VOCAB_SIZE, arch.depth)
    for small, large in zip(twin.layers, arch.layers, strict=True):
        assert small.mixer.kind == large.mixer.kind
        assert (small.ffn is None) == (large.ffn is None)
        if small.ffn and large.ffn:
            assert small.ffn.width / width == pytest.approx(large.ffn.width / arch.d_model, abs=8 / width)
            assert small.ffn.activation == large.ffn.activation
        if isinstance(small.mixer, Gqa) and isinstance(large.mixer, Gqa):
            assert small.mixer.qk_norm == large.mixer.qk_norm
            assert (
                small.mixer.num_heads // small.mixer.num_kv_heads <= large.mixer.num_heads // large.mixer.num_kv_heads
            )


def test_wider_feed_forwards_give_wider_twins() -> None:
    wide = replace(ARCH, layers=tuple(LayerConfig(layer.mixer, SwiGLU(512)) for layer in ARCH.layers))
    assert all(layer.ffn and layer.ffn.width == 256 for layer in proxy_of(wide, 32).layers)


@pytest.mark.parametrize(("seeds", "quantile"), [(2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262)])
def test_the_interval_between_seeds_takes_the_quantile_of_their_number(seeds: int, quantile: float) -> None:
    """Student's t at 97.5 % with ``seeds - 1`` degrees of freedom, from the printed tables."""
    means = [0.2 + 0.6 * seed / (seeds - 1) for seed in range(seeds)]
    expected = quantile * statistics.stdev(means) / math.sqrt(seeds)
    assert _half_width(means, num_rows=10**9) == pytest.approx(expected, rel=1e-3)
