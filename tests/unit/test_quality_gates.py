"""The gates before a score: no mixer reads ahead, chance is beaten, nothing is too good."""

from __future__ import annotations

import pytest
import torch

from nas.quality import gates
from nas.quality.gates import BelowFloor, LeakingMixer, TooGood, require_above_floor, require_causal, require_chance
from nas.quality.tasks import CHANCE, IGNORE, unannounced_recall
from nas.quality.text.fused import use_fused_parts
from nas.quality.text.training import TextRun, initialized
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import MIXERS, GatedShortConv, Gqa, MixerConfig, Skip, SlidingWindow
from tests.doubles.mixers import MeanOverTime, ShutGate

HONEST = (
    GatedShortConv(3), GatedShortConv(7), Gqa(4, 2, 16), Gqa(4, 4, 16, qk_norm=False, gate=True),
    SlidingWindow(4, 1, 16, window=8), Skip(),
)  # fmt: skip


def of(*mixers: MixerConfig) -> ArchConfig:
    return ArchConfig(64, 64, tuple(LayerConfig(mixer, SwiGLU(64)) for mixer in mixers))


@pytest.mark.parametrize("mixer", HONEST, ids=lambda mixer: mixer.label)
def test_our_mixers_pass(mixer: MixerConfig) -> None:
    require_causal(of(mixer))


@pytest.mark.parametrize("kind", [MeanOverTime, ShutGate])
def test_a_mixer_that_reads_ahead_is_named_with_the_position_that_moved(kind: type[MixerConfig]) -> None:
    sentence = rf"mixer '{kind.kind}' reads ahead: other tokens after the first 1 of 64 move the logits at position 0"
    with MIXERS.temporarily({kind.kind: kind}), pytest.raises(LeakingMixer, match=sentence):
        require_causal(of(GatedShortConv(3), kind()))


def test_a_mixer_is_tested_once_for_its_settings_and_width(monkeypatch: pytest.MonkeyPatch) -> None:
    tested: list[str] = []
    monkeypatch.setattr(gates, "_passed", set())
    monkeypatch.setattr(gates, "_require_causal", lambda mixer, d_model: tested.append(f"{mixer.label} {d_model}"))
    require_causal(of(Gqa(4, 2, 16), Gqa(4, 2, 16), GatedShortConv(3), Skip()))
    require_causal(of(Gqa(4, 2, 16), Gqa(4, 1, 16)))
    assert tested == ["gqa(4/2x16) 64", "gated_short_conv(k3) 64", "gqa(4/1x16) 64"]


def test_the_test_leaves_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    gates._require_causal(Gqa(4, 2, 16), 64)
    assert torch.equal(torch.rand(1), expected)


def test_the_whole_interval_lies_beyond_the_floor() -> None:
    require_above_floor(2.9, 0.09, 3.0, "min", "token frequencies give")
    require_above_floor(0.07, 0.005, CHANCE, "max", "guessing gives")
    for score, half, floor, direction in (
        (3.0, 0.0, 3.0, "min"), (0.05, 0.0, CHANCE, "max"), (2.9, 0.11, 3.0, "min"), (0.07, 0.01, CHANCE, "max"),
        (float("nan"), 0.1, 3.0, "min"), (2.0, float("nan"), 3.0, "min"),
    ):  # fmt: skip
        with pytest.raises(BelowFloor, match="the proxy scores .* ± .* and a guess gives .*: it learned nothing"):
            require_above_floor(score, half, floor, direction, "a guess gives")


def test_values_that_nothing_announces_are_met_by_chance_only() -> None:
    require_chance(80, 1000, CHANCE, "unannounced_recall")
    with pytest.raises(TooGood, match="400 of 1000 targets of unannounced_recall are right"):
        require_chance(400, 1000, CHANCE, "unannounced_recall")
    batch = unannounced_recall(64, torch.Generator().manual_seed(0))
    for tokens, targets in zip(batch.tokens, batch.targets, strict=True):
        for at in (targets != IGNORE).nonzero().flatten().tolist():
            assert tokens[at] not in tokens[2:at:2]
            assert targets[at] == tokens[at + 1]


@pytest.mark.parametrize("mixer", HONEST, ids=lambda mixer: mixer.label)
def test_fused_parts_compute_the_same(mixer: MixerConfig) -> None:
    model, ids = initialized(of(mixer, mixer), 0), torch.randint(0, 64, (2, 40))
    expected = model.model(ids)
    use_fused_parts(model)
    torch.testing.assert_close(model.model(ids), expected, rtol=1e-4, atol=1e-5)


def test_learning_rates_rise_and_fall() -> None:
    run = TextRun(tokens=100 * 32 * 512, learning_rate=1e-3)
    rates = [run.rate_at(step) for step in range(run.steps)]
    assert (run.steps, max(rates), rates.index(max(rates))) == (100, 1e-3, 4)
    assert rates[-1] == pytest.approx(1e-4, rel=0.02)
