"""Prompts read through kept states answer as if each had been read alone, and never from other weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, SlidingWindow
from search_space.mixers.skip.config import Skip
from search_space.modeling.cache import HilnasCache
from search_space.modeling.model import HilnasForCausalLM, build_model
from search_space.rope import Yarn
from trainer.rollout.decoding import Decoding, complete
from trainer.rollout.prefix_cache.cache import PrefixCache

pytestmark = pytest.mark.usefixtures("one_thread")
VOCABULARY, BLOCK = 300, 8
FFN = SwiGLU(64)
CONV, WIDE_CONV = GatedShortConv(3), GatedShortConv(7)
WINDOW, SHORT_WINDOW, GLOBAL = SlidingWindow(4, 2, 16, window=12), SlidingWindow(4, 2, 16, window=5), Gqa(4, 2, 16)


def arch_of(*mixers) -> ArchConfig:
    return ArchConfig(64, VOCABULARY, tuple(LayerConfig(mixer, FFN) for mixer in mixers))


ARCHS = {
    "conv": arch_of(CONV, WIDE_CONV, CONV),
    "hybrid": arch_of(CONV, GLOBAL, WIDE_CONV, Gqa(4, 1, 16, gate=True)),
    "window": arch_of(WINDOW, CONV, SHORT_WINDOW, GLOBAL),
    "skip": arch_of(Skip(), GLOBAL, Skip(), CONV),
    "yarn": replace(arch_of(CONV, GLOBAL, WINDOW), rope_theta=10_000.0, yarn=Yarn(factor=4.0, original_length=32)),
}
DECODING = Decoding(max_new_tokens=6, temperature=1.0, ends=frozenset({7}))


@pytest.fixture(params=ARCHS)
def model(request: pytest.FixtureRequest) -> HilnasForCausalLM:
    return lively(build_model(ARCHS[request.param], seed=3))


def lively(model: HilnasForCausalLM) -> HilnasForCausalLM:
    """Weights large enough that every layer moves the logits, in float64, where an error of ours stands out from
    rounding."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model.double().eval()


def prompt(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(8, VOCABULARY, length).tolist()


@torch.inference_mode()
def alone(model: HilnasForCausalLM, row: list[int], then: list[int]) -> torch.Tensor:
    """Logits behind the row and behind each of the tokens that follow, without any cache."""
    return model(torch.tensor([[*row, *then]]), use_cache=False).logits[0, len(row) - 1 :]


@torch.inference_mode()
def through(cache: PrefixCache, model: HilnasForCausalLM, rows: list[list[int]], then: list[int]) -> torch.Tensor:
    """The same of every row [B, 1 + then, V], with the read states decoded on token by token."""
    logits_BV, states, mask_BT = cache.read(model, rows)
    found = [logits_BV]
    for token in then:
        mask_BT = torch.nn.functional.pad(mask_BT, (0, 1), value=1)
        ids_B1 = torch.full((len(rows), 1), token)
        found.append(model(ids_B1, attention_mask=mask_BT, past_key_values=states).logits[:, -1])
    return torch.stack(found, 1)


def assert_as_alone(cache: PrefixCache, model: HilnasForCausalLM, rows: list[list[int]]) -> None:
    then, tolerance = prompt(3, seed=99), 1e-11 if model.dtype == torch.float64 else 1e-5
    for got, row in zip(through(cache, model, rows, then), rows, strict=True):
        assert (got - alone(model, row, then)).abs().max() <= tolerance


def test_a_second_read_computes_nothing_and_equals_the_first(model: HilnasForCausalLM) -> None:
    cache, row = PrefixCache(1 << 24, BLOCK), prompt(37)
    assert_as_alone(cache, model, [row])
    assert_as_alone(cache, model, [row])
    statistics = cache.statistics
    assert (statistics.rows, statistics.hits) == (2, 1)
    assert (statistics.tokens_reused, statistics.tokens_read) == (37, 37)
    assert statistics.hit_rate == 0.5
    assert statistics.seconds_saved == pytest.approx(statistics.seconds_reading)


def test_hits_misses_and_repeats_in_one_batch(model: HilnasForCausalLM) -> None:
    """Whole hits, hits at a block's end and at a prompt's end, misses short and long, one row twice."""
    cache, base = PrefixCache(1 << 24, BLOCK), prompt(29)
    assert_as_alone(cache, model, [base, base[:11]])
    rows = [
        base, [*base[:20], *prompt(30, 1)], [*base, *prompt(2, 2)], [*base[:11], *prompt(1, 3)], prompt(3, 4),
        prompt(26, 5), base[:16], [*base[:20], *prompt(30, 1)], [*base, *prompt(3, 6)], base[:1],
    ]  # fmt: skip
    assert_as_alone(cache, model, rows)
    # 29 + 16 + 29 + 11 + 0 + 0 + 8 + 50 + 29 + 0: a block's end knows no logits
    assert cache.statistics.tokens_reused == 172
    assert_as_alone(cache, model, rows)
    assert cache.statistics.tokens_reused == 172 + sum(map(len, rows))


@pytest.mark.parametrize("arch", ARCHS)
def test_single_precision(arch: str) -> None:
    model, cache, base = build_model(ARCHS[arch], seed=3).eval(), PrefixCache(1 << 24, BLOCK), prompt(45)
    for rows in ([base], [base, [*base, 9], [*base[:20], *prompt(30, 1)], prompt(26, 5)]):
        assert_as_alone(cache, model, rows)


def test_many_lengths_against_one_shared_beginning(model: HilnasForCausalLM) -> None:
    cache, shared = PrefixCache(1 << 24, BLOCK), prompt(18)
    for first in range(4):
        rows = [[*shared, *prompt(1 + 3 * (5 * first + i), 10 + 5 * first + i)] for i in range(5)]
        assert_as_alone(cache, model, rows)


def test_completions_equal_those_without_and_are_kept(model: HilnasForCausalLM) -> None:
    cache, rows = PrefixCache(1 << 24, BLOCK, keep_completions=True), [prompt(21), prompt(9, 1), prompt(33, 2)]
    uniform = np.random.default_rng(5).random((6, DECODING.max_new_tokens))
    with torch.inference_mode():
        plain = complete(model, rows, uniform, DECODING)
        for _ in range(2):
            cached = complete(model, rows, uniform, DECODING, cache)
            assert [c.ids for c in cached] == [c.ids for c in plain]
            assert np.allclose(sum((c.logprobs for c in cached), []), sum((c.logprobs for c in plain), []), atol=1e-10)
    before = cache.statistics
    next_turn = [[*rows[i // 2], *completion.ids, *prompt(4, 50 + i)] for i, completion in enumerate(plain)]
    assert_as_alone(cache, model, next_turn)
    assert cache.statistics.tokens_read - before.tokens_read == 6 * 5  # the new text and each completion's last token


def test_completions_are_not_kept_unless_asked() -> None:
    cache, model, row = PrefixCache(1 << 24, BLOCK), lively(build_model(ARCHS["hybrid"], seed=3)), prompt(16)
    with torch.inference_mode():
        (found,) = complete(model, [row], np.full((1, 6), 0.5), DECODING, cache)
        cache.read(model, [[*row, *found.ids]])
    assert cache.statistics.tokens_reused == 16


def test_half_precision_states_stay_in_half_precision() -> None:
    model = build_model(ARCHS["window"], seed=3, dtype=torch.bfloat16).eval()
    cache, row = PrefixCache(1 << 24, BLOCK), prompt(40)
    with torch.inference_mode():
        first = cache.read(model, [row])[0]
        assert torch.equal(cache.read(model, [row])[0], first)
    assert first.dtype == torch.bfloat16


def test_bytes_are_bounded_and_answers_stay_right(model: HilnasForCausalLM) -> None:
    unbounded = PrefixCache(1 << 24, BLOCK)
    assert_as_alone(unbounded, model, [prompt(40)])
    cache = PrefixCache(unbounded.statistics.bytes * 3 // 2, BLOCK)
    for turn in range(6):
        assert_as_alone(cache, model, [prompt(40, turn % 3), [*prompt(24, turn % 3), *prompt(9, turn)]])
        assert cache.statistics.bytes <= unbounded.statistics.bytes * 3 // 2
    assert cache.statistics.evicted > 0


def test_no_room_means_no_reuse_and_no_fault(model: HilnasForCausalLM) -> None:
    cache = PrefixCache(0, BLOCK)
    for _ in range(2):
        assert_as_alone(cache, model, [prompt(20), prompt(5, 1)])
    assert (cache.statistics.hits, cache.statistics.bytes) == (0, 0)


def test_changed_weights_are_never_answered_from_old_states() -> None:
    model = lively(build_model(ARCHS["hybrid"], seed=3))
    cache, row = PrefixCache(1 << 24, BLOCK), prompt(30)
    assert_as_alone(cache, model, [row])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.tensor([row]), labels=torch.tensor([row]), use_cache=False).loss.backward()
    optimizer.step()
    assert_as_alone(cache, model, [row])
    model.load_state_dict(build_model(ARCHS["hybrid"], seed=4).state_dict())
    assert_as_alone(cache, model, [row])
    assert_as_alone(cache, lively(build_model(ARCHS["hybrid"], seed=5)), [row])
    assert (cache.statistics.hits, cache.statistics.emptied) == (0, 3)


def test_a_named_version_empties_the_cache() -> None:
    model, cache, row = lively(build_model(ARCHS["hybrid"], seed=3)), PrefixCache(1 << 24, BLOCK), prompt(30)
    with torch.inference_mode():
        cache.read(model, [row], weights_version=1)
        cache.read(model, [row])
        assert cache.of(1).statistics.hits == 1
        for parameter in model.parameters():
            parameter.data.mul_(1.5)
        cache.read(model, [row], weights_version=2)
    assert (cache.statistics.hits, cache.statistics.emptied) == (1, 1)


def test_a_sharded_model_needs_a_named_version() -> None:
    cache, row = PrefixCache(1 << 24, BLOCK), prompt(30)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        model = fully_shard(build_model(ARCHS["hybrid"], seed=3).eval(), mesh=init_device_mesh("cpu", (1,)))
        with torch.no_grad():
            with pytest.raises(InvalidConfig, match="give weights_version"):
                cache.read(model, [row])
            first, again = (cache.read(model, [row], weights_version=1)[0] for _ in range(2))
    finally:
        torch.distributed.destroy_process_group()
    assert torch.equal(first, again)
    assert cache.statistics.hits == 1


def test_a_restored_cache_shares_no_memory_with_what_is_kept() -> None:
    model, cache, row = lively(build_model(ARCHS["window"], seed=3)), PrefixCache(1 << 24, BLOCK), prompt(30)
    with torch.inference_mode():
        cache.read(model, [row])
        states: HilnasCache = cache.read(model, [row])[1]
        for state in states.states.values():
            for value in vars(state).values():
                if isinstance(value, torch.Tensor):
                    value.zero_()
    assert_as_alone(cache, model, [row])


@pytest.mark.parametrize(("max_bytes", "block"), [(-1, 8), (100, 0)])
def test_senseless_sizes_are_refused(max_bytes: int, block: int) -> None:
    with pytest.raises(InvalidConfig, match="at least 0 and 1 work"):
        PrefixCache(max_bytes, block)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="at least one token"):
        PrefixCache(100).read(build_model(ARCHS["conv"], seed=3), [[1], []])
