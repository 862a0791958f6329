"""Examples for fine-tuning: every filter drops what it should and says so, rows hold whole examples, success is what
greedy decoding does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from foundation.errors import HilnasError, InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.model import build_model
from trainer.data.chat import START, STOP, encode, prompt_of
from trainer.data.packing import IGNORE, PackedStream
from trainer.examples.decontamination import Decontamination
from trainer.examples.duplicates import Exact, NearDuplicates, SemanticDuplicates
from trainer.examples.files import read_examples, write_examples
from trainer.examples.filters import Each, Judged, malformed, refusal, run_filters, style
from trainer.examples.stream import Draws, easiest_first, write_stream
from trainer.examples.success import success
from trainer.merging.methods import method_of
from trainer.merging.methods.linear import Linear
from trainer.merging.methods.ties import Ties
from trainer.rollout.generation import generate
from trainer.stages.integrate import IntegrateStage
from trainer.tasks.base import Example
from trainer.tasks.registry import task_named

CHAT = Example("chat", "What is a lamp used for?", "A lamp gives light in a dark room.", source="teacher")
END = 2


def said(answer: str, **changes: str) -> Example:
    return replace(CHAT, answer=answer, **changes)


@pytest.mark.parametrize(
    ("chosen", "example", "reason"),
    [
        (malformed, said(" "), "empty"),
        (malformed, said("a <|im_end|> b."), "special tokens"),
        (malformed, said("bell \x07."), "control"),
        (malformed, Example("reasoning:gcd", "no such", "x", {"index": 0, "split": "train", "question": "?"}), None),
        (malformed, replace(task_named("extraction").examples("train", 1)[0], answer="{}"), "refuses"),
        (refusal, said("I'm sorry, but I can not say."), "refusal"),
        (refusal, said("As an AI I have no lamp."), "refusal"),
        (style, said("Light light light light."), "four times"),
        (style, said("Sure, it gives light."), "opening"),
        (style, said("It gives light and it"), "cut off"),
    ],
)
def test_each_filter_names_its_reason(chosen, example: Example, reason: str | None) -> None:
    if reason is not None:
        assert reason in chosen(example)
    assert chosen(CHAT) is None


def test_a_template_is_not_judged_for_its_style() -> None:
    assert style(task_named("tool_calls").examples("train", 1)[0]) is None


def test_reports_count_and_show_what_went() -> None:
    examples = [CHAT, said("I cannot help."), said("As an AI, no."), said(""), CHAT]
    kept, reports = run_filters([Each("malformed", malformed), Each("refusals", refusal), Exact()], examples)
    assert kept == [CHAT]
    assert [(r.filter, r.seen, r.dropped) for r in reports] == [
        ("malformed", 5, 1), ("refusals", 4, 2), ("exact duplicates", 2, 1),
    ]  # fmt: skip
    assert reports[1].reasons == {"a refusal": 2} and reports[1].shown[0]["answer"] == "I cannot help."


def test_near_and_semantic_duplicates() -> None:
    text = "A lamp gives light in a dark room so that people can read there in the evening"
    near = [said(f"{text}."), said(f"{text}!"), said("A desk holds papers while somebody writes a long letter home.")]
    assert [why is not None for why in NearDuplicates().reasons(near)] == [False, True, False]
    vectors = np.array([[1, 0], [0.999, 0.04], [0, 1]], np.float32)
    template = task_named("extraction").examples("train", 1)[0]
    found = SemanticDuplicates(lambda texts: vectors[: len(texts)]).reasons([*near, template])
    assert [why is not None for why in found] == [False, True, False, False]


def test_a_judge_scores_only_what_a_teacher_wrote() -> None:
    judged = Judged(lambda examples: [-1.0 if "light" in e.answer else float("nan") for e in examples], least=-2.0)
    template = task_named("extraction").examples("train", 1)[0]
    assert [why is None for why in judged.reasons([CHAT, said("Xqz."), template])] == [True, False, True]


def test_decontamination_by_prompt_and_by_runs_of_words() -> None:
    question = "Please find the shortest way from the old mill to the red bridge at noon"
    written = Example("bfcl", question, "x", source="bfcl")
    template = task_named("reasoning:gcd").examples("test", 20)
    chosen = Decontamination([written, *template])
    reasons = chosen.reasons([
        CHAT, replace(CHAT, prompt="Tell me the shortest way from the old mill to the red bridge."), template[3],
        *task_named("reasoning:gcd").examples("train", 40),
    ])  # fmt: skip
    assert reasons[0] is None and "8 words" in str(reasons[1]) and "a prompt" in str(reasons[2])
    kept = sum(why is None for why in reasons[3:])
    assert kept >= 35, "what a template shares with its evaluation set is no contamination"


def test_files_of_examples(tmp_path: Path) -> None:
    write_examples(tmp_path / "a.jsonl", [CHAT])
    assert read_examples(tmp_path / "a.jsonl") == [CHAT]
    (tmp_path / "a.jsonl").write_text(json.dumps(CHAT.to_dict()) + "\n{torn")
    with pytest.raises(HilnasError, match="line 2"):
        read_examples(tmp_path / "a.jsonl")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([START, STOP, "<|endoftext|>", *characters])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens([START, STOP, "<|endoftext|>"])
    return made


def test_rows_hold_whole_examples_and_learn_answers_and_text(tmp_path: Path, tokenizer: Tokenizer) -> None:
    encoded = [encode(tokenizer, prompt_of("q" * n), "ab", END) for n in (3, 9, 200)]
    text = np.full(500, 77, np.int32)
    shares = write_stream(tmp_path / "s.bin", encoded, np.arange(3), Draws(), 20, 128, text)
    assert shares["left_out"] == 1 and 0 < shares["text_share"] < 1
    stream = PackedStream.open(tmp_path / "s.bin", 128, END)
    assert stream.num_rows == 20
    rows = stream.rows(np.arange(20))
    for ids, labels in zip(rows.ids_BT.tolist(), rows.labels_BT.tolist(), strict=True):
        first = ids.index(END)
        answer = encoded[0].ids[-4:-1] if first == len(encoded[0].ids) - 1 else encoded[1].ids[-4:-1]
        assert [label for label in labels[:first] if label != IGNORE] == answer
        assert ids[0] == tokenizer.token_to_id(START), "a row begins with an example"


def test_easy_examples_come_first() -> None:
    ease = np.array([[0.0, -3.0], [1.0, -0.1], [0.5, -1.0], [0.0, -2.0]])
    order = easiest_first(ease)
    assert order.tolist() == [1, 2, 3, 0]
    draws, generator = Draws(first_share=0.25, until=0.5), np.random.default_rng(0)
    assert {draws(order, 0.0, generator) for _ in range(20)} == {1}
    assert {draws(order, 0.9, generator) for _ in range(60)} == {0, 1, 2, 3}


def test_success_is_what_greedy_decoding_does(tokenizer: Tokenizer) -> None:
    from transformers import PreTrainedTokenizerFast

    layers = (LayerConfig(GatedShortConv(3), SwiGLU(64)), LayerConfig(Gqa(2, 1, 32), SwiGLU(64)))
    model = build_model(ArchConfig(64, tokenizer.get_vocab_size(), layers), seed=0).eval()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    prompts = ["one", "twenty two", "three"]
    answers = [row[0] for row in generate(model, wrapped, [prompt_of(p) for p in prompts], 4)]
    examples = [Example("chat", p, a) for p, a in zip(prompts, answers, strict=True)]
    changed = [replace(example, answer="zz" + example.answer) for example in examples]
    found = success(model, tokenizer, [*examples, *changed], END, batch=4)
    # four tokens were asked for, so the end of the turn, which is judged too, need not be the likeliest
    assert not found.right[3:].any() and (found.logprob < 0).all()
    alone = success(model, tokenizer, examples[1:2], END)
    assert alone.logprob[0] == pytest.approx(found.logprob[1], abs=1e-5)


def test_methods_as_recipes_write_them() -> None:
    assert method_of("ties density=0.5 scale=1.0") == Ties(density=0.5, scale=1.0)
    assert method_of("linear weights=0.3,0.7") == Linear(weights=(0.3, 0.7))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ties density", "'density' in merging method 'ties density' is not an option; write key=value"),
        ("ties density=much", "option density takes a number, e.g. density=0.5, not 'much'"),
        ("ties depth=1", "merging method 'ties' has no option 'depth'; known: seed, weights, scale"),
        ("ties density=0.5 density=0.6", "gives density twice"),
        ("glue", "unknown merging method 'glue'; known: linear, slerp"),
    ],
)
def test_wrong_methods_are_found_when_the_recipe_is_built(text: str, sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=sentence):
        IntegrateStage("sft", ("one", "two"), ("extraction",), candidates=(text,))


def test_a_method_is_checked_against_the_number_of_models() -> None:
    with pytest.raises(InvalidConfig, match="3 weights for 2 models"):
        IntegrateStage("sft", ("one", "two"), ("extraction",), candidates=("linear weights=1,1,1",))
