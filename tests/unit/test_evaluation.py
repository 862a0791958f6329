"""Evaluation: batched text is what each prompt gives alone, metrics find what was planted, the stage resumes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from nas.contracts.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, SlidingWindow
from search_space.modeling.model import HilnasForCausalLM, build_model
from trainer.generation import batches, encoded, generate
from trainer.stages.data import save_tokenizer

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PROMPTS = ["Once", "A longer prompt of some words", "x", "The fox and the hen were", "12 + 30 =", "The end"]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Bytes, a few merges, ChatML's special tokens."""
    from transformers import AutoTokenizer

    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "Ġth", "in", "er"]
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *words])}
    merges: list[tuple[str, str]] = [("t", "h"), ("Ġ", "th"), ("i", "n"), ("e", "r")]
    plain = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))  # type: ignore[arg-type]
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    plain.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    plain.add_special_tokens(list(SPECIAL))
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(plain, folder)
    return AutoTokenizer.from_pretrained(folder)


def lively(tokenizer: Any) -> HilnasForCausalLM:
    """Random weights large enough that answers differ and some end early, in float64."""
    mixers = (GatedShortConv(3), Gqa(4, 2, 16), SlidingWindow(4, 2, 16, window=5))
    layers = tuple(LayerConfig(mixer, SwiGLU(96)) for mixer in mixers)
    model = build_model(ArchConfig(64, len(tokenizer), layers), seed=1, dtype=torch.float64).eval()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=2 * parameter.shape[1] ** -0.5)
    return model


def greedy_alone(model: HilnasForCausalLM, tokenizer: Any, prompt: str, count: int) -> str:
    """Without batch and without cache."""
    ids = torch.tensor(encoded(tokenizer, [prompt]))
    start = ids.shape[1]
    for _ in range(count):
        token = model(ids, use_cache=False).logits[0, -1].argmax()
        if int(token) in (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")):
            break
        ids = torch.cat((ids, token[None, None]), 1)
    return str(tokenizer.decode(ids[0, start:], skip_special_tokens=True))


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 2, 32])
def test_batched_text_is_what_each_prompt_gives_alone(tokenizer: Any, batch: int) -> None:
    model = lively(tokenizer)
    with torch.no_grad():  # the stop token is likely enough to end some rows early
        model.lm_head.weight[2] = model.lm_head.weight[7:40].mean(0) * 4
    alone = [greedy_alone(model, tokenizer, prompt, 24) for prompt in PROMPTS]
    lengths = {len(encoded(tokenizer, [text])[0]) for text in alone}
    assert len(lengths) > 2 and len(set(alone)) == len(alone)
    assert generate(model, tokenizer, PROMPTS, 24, batch=batch) == [[text] for text in alone]


def test_samples_depend_on_the_seed_and_not_on_the_batch(tokenizer: Any) -> None:
    model = lively(tokenizer)
    drawn = generate(model, tokenizer, PROMPTS, 12, temperature=1.0, num_samples=3, seed=5)
    assert drawn == generate(model, tokenizer, PROMPTS, 12, temperature=1.0, num_samples=3, seed=5, batch=4)
    assert drawn != generate(model, tokenizer, PROMPTS, 12, temperature=1.0, num_samples=3, seed=6)
    assert all(len(set(answers)) > 1 for answers in drawn)
    cold = generate(model, tokenizer, PROMPTS, 12, temperature=1e-4, num_samples=2)
    assert cold == generate(model, tokenizer, PROMPTS, 12, num_samples=2)


def test_prompts_and_stops_that_cannot_work_are_told(tokenizer: Any) -> None:
    model = lively(tokenizer)
    with pytest.raises(InvalidConfig, match="prompt 1 has 5 tokens; 1 to max_prompt 4 work"):
        generate(model, tokenizer, ["ab", "abcde"], 4, max_prompt=4)
    with pytest.raises(InvalidConfig, match="prompt 0 has 0 tokens"):
        generate(model, tokenizer, [""], 4)
    with pytest.raises(InvalidConfig, match="stop 'abc' is 3 tokens"):
        generate(model, tokenizer, ["ab"], 4, stop="abc")
    assert generate(model, tokenizer, [], 4) == []


def test_batches_take_the_longest_first() -> None:
    assert list(batches([3, 9, 1, 9], 3)) == [[1, 3, 0], [2]]
