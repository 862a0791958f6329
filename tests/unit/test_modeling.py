"""One set of numbers: full forward = chunked prefill = step by step, for every mixer and option."""

from __future__ import annotations

import pytest
import torch

from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, Skip, SlidingWindow
from search_space.modeling.model import HilnasForCausalLM, build_model
from search_space.presets import PRESETS, debug_size, preset

MIXERS = {
    "conv3": GatedShortConv(3), "conv7": GatedShortConv(7), "gqa": Gqa(4, 2, 16), "mqa": Gqa(4, 1, 16, qk_norm=False),
    "gate": Gqa(4, 4, 16, gate=True), "window": SlidingWindow(4, 2, 16, window=5), "skip": Skip(),
}  # fmt: skip
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5}


def model_of(mixer, dtype: torch.dtype, sandwich: bool = False) -> HilnasForCausalLM:
    arch = ArchConfig(64, 97, (LayerConfig(mixer, SwiGLU(96)),) * 3, sandwich_norm=sandwich)
    model = build_model(arch, seed=1, dtype=dtype).eval()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return model


def logits_in_chunks(model: HilnasForCausalLM, ids: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    cache, rows = None, []
    for chunk in ids.split(sizes, dim=1):
        out = model(chunk, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        rows.append(out.logits)
    return torch.cat(rows, 1)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", MIXERS)
@torch.no_grad()
def test_chunked_and_stepwise_decoding_equal_the_full_forward(name: str, dtype: torch.dtype) -> None:
    model = model_of(MIXERS[name], dtype, sandwich=name in ("gate", "conv7"))
    ids = torch.randint(0, 97, (2, 29), generator=torch.Generator().manual_seed(0))
    full = model(ids, use_cache=False).logits
    for sizes in ([1] * 29, [11, 1, 17], [28, 1], [3, 4, 22]):
        torch.testing.assert_close(logits_in_chunks(model, ids, sizes), full, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize("name", MIXERS)
@torch.no_grad()
def test_packed_documents_do_not_see_each_other(name: str) -> None:
    model = model_of(MIXERS[name], torch.float64)
    a, b = (torch.randint(0, 97, (1, n), generator=torch.Generator().manual_seed(n)) for n in (9, 14))
    packed, segments = torch.cat((a, b), 1), torch.tensor([[0] * 9 + [1] * 14])
    positions = torch.cat((torch.arange(9), torch.arange(14)))[None]
    together = model(packed, seq_idx=segments, position_ids=positions).logits
    apart = torch.cat((model(a).logits, model(b).logits), 1)
    torch.testing.assert_close(together, apart, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", MIXERS)
@torch.no_grad()
def test_left_padding_changes_nothing(name: str) -> None:
    model = model_of(MIXERS[name], torch.float64)
    ids = torch.randint(1, 97, (1, 12), generator=torch.Generator().manual_seed(3))
    padded = torch.cat((torch.zeros(1, 5, dtype=torch.long), ids), 1)
    mask = torch.tensor([[0] * 5 + [1] * 12])
    out = model(padded, attention_mask=mask, use_cache=False).logits[:, 5:]
    torch.testing.assert_close(out, model(ids).logits, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["conv3", "gqa", "window"])
def test_generation_with_and_without_cache_agree_also_without_attention(name: str) -> None:
    model = model_of(MIXERS[name], torch.float64)
    ids = torch.randint(1, 97, (2, 6), generator=torch.Generator().manual_seed(4))
    settings = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(ids), "pad_token_id": 0}
    assert torch.equal(model.generate(ids, **settings), model.generate(ids, use_cache=False, **settings))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_train_a_step(name: str) -> None:
    model = build_model(debug_size(preset(name)), seed=0).train()
    ids = torch.randint(0, 512, (2, 16), generator=torch.Generator().manual_seed(5))
    loss = model(ids, labels=ids).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_saved_model_loads_through_transformers(tmp_path) -> None:
    from transformers import AutoModelForCausalLM

    model = build_model(debug_size(preset("gemma3_1b")), seed=0).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(20)[None]
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded.config.to_arch() == model.config.to_arch()


def test_the_same_seed_builds_the_same_model() -> None:
    arch = debug_size(preset("lfm2_350m"))
    a, b = build_model(arch, seed=7), build_model(arch, seed=7)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
