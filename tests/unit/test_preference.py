"""Preference: losses in closed form, juries, endpoints that fail, pairs, training that prefers and resumes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.model import HilnasForCausalLM, build_model
from trainer.engine.config import LoopConfig
from trainer.losses.preference import PREFERENCE_LOSSES
from trainer.preference.axes import axis_of, jury_of
from trainer.preference.axes.endpoint import MAX_FAILURES, Endpoint, parse_scores
from trainer.preference.axes.rules import Correct, Finished, NoLoop
from trainer.preference.candidates import Candidate, Question, Rollouts, rolled_out, written
from trainer.preference.jury import Jury, JuryFailed, Verdict
from trainer.preference.pairs import Pair, pair_of
from trainer.preference.train import read, train_on_pairs
from trainer.tasks.registry import task_named

pytestmark = pytest.mark.usefixtures("one_thread")
ASKED = task_named("tool_calls").examples("train", 1)[0]
QUESTION = Question("hello", [5, 6], "hi", ASKED)
OPENING = Question("hello", [5, 6], "")


@pytest.fixture
def tokenizer(byte_tokenizer: Any) -> Any:
    return byte_tokenizer


def student(size: int = 300) -> HilnasForCausalLM:
    mixers = (GatedShortConv(3), Gqa(4, 2, 16))
    return build_model(ArchConfig(64, size, tuple(LayerConfig(m, SwiGLU(96)) for m in mixers)), seed=3)


def said(text: str, origin: Any = "sampled", finished: bool = True, ids: Sequence[int] = (1, 2, 3)) -> Candidate:
    return Candidate(list(ids), text, origin, finished)


def test_losses_in_closed_form() -> None:
    chosen, rejected, beta = torch.tensor([0.3, -0.2]), torch.tensor([-0.1, 0.4]), 2.0
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    pairs = list(zip(chosen.tolist(), rejected.tolist(), strict=True))
    dpo = [-math.log(sigmoid(beta * (c - r))) for c, r in pairs]
    apo = [-(sigmoid(beta * c) - sigmoid(beta * r)) for c, r in pairs]
    joint = [
        -math.log(sigmoid(beta * (c - r) - 0.1)) - 0.2 * (sigmoid(beta * c) - sigmoid(beta * r)) for c, r in pairs
    ]
    for name, expected in (("ln_dpo", dpo), ("ln_apo_zero", apo), ("joint", joint)):
        assert PREFERENCE_LOSSES[name](chosen, rejected, beta).tolist() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InvalidConfig, match="unknown preference loss 'dpo'; known: ln_dpo"):
        PREFERENCE_LOSSES.get_or_raise("dpo")


def test_rules() -> None:
    right, wrong = said(ASKED.answer), said("no")
    assert Correct().scores(QUESTION, [right, wrong, said(ASKED.answer, finished=False)]) == [1.0, 0.0, 0.0]
    assert Correct().scores(OPENING, [right]) == [None]
    looping = said("", ids=[1, 2] * 40, finished=False)
    assert NoLoop().scores(OPENING, [looping, said("", ids=range(9))]) == [0.0, 1.0]
    assert Finished().scores(QUESTION, [right, looping]) == [1.0, 0.0]


def test_a_jury_weighs_those_who_speak() -> None:
    jury = jury_of(("correct weight=3", "finished"), lambda: Path("none"))
    verdict = jury.verdict(QUESTION, [said(ASKED.answer), said("no"), said("no", finished=False)])
    assert verdict.totals == [1.0, 0.25, 0.0]
    silent = jury.verdict(OPENING, [said("a"), said("b")])
    assert silent.totals == [None, None] and silent.abstained == {"correct": 2, "finished": 2}


def test_an_axis_whose_scores_are_none_stops() -> None:
    class Broken:
        name = "broken"

        def scores(self, question: Question, candidates: Sequence[Candidate]) -> list[float | None]:
            return [math.nan, 0.0]

    with pytest.raises(JuryFailed, match="axis broken gave the score nan to 2 candidates"):
        Jury(((Broken(), 1.0),)).verdict(QUESTION, [said("a"), said("b")])


@pytest.mark.parametrize(
    "text", ["kindness", "correct weight=much", "correct url=x", "endpoint", "endpoint url=x model=y"]
)
def test_what_is_no_axis_is_told(text: str) -> None:
    with pytest.raises(InvalidConfig):
        jury_of((text,), lambda: Path("none"))
    assert axis_of("no_loop weight=0.5").weight == 0.5


def endpoint(monkeypatch: pytest.MonkeyPatch, handler: Callable[[httpx.Request], httpx.Response]) -> Endpoint:
    monkeypatch.setattr(Endpoint, "transport", httpx.MockTransport(handler))
    return Endpoint("http://jury/v1", "judge", "tone")


def answer(content: str) -> httpx.Response:
    return httpx.Response(200, json={"choices": [{"message": {"content": content}}]})


def test_an_endpoint_is_asked_once_per_question(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer("Here: [10, 2.5]")

    monkeypatch.setenv("HILNAS_JURY_KEY", "secret")
    assert endpoint(monkeypatch, handler).scores(QUESTION, [said("a"), said("b")]) == [1.0, 0.25]
    (request,) = asked
    sent = json.loads(request.content)
    assert request.url == "http://jury/v1/chat/completions" and request.headers["authorization"] == "Bearer secret"
    assert sent["model"] == "judge" and "tone" in sent["messages"][0]["content"]


@pytest.mark.parametrize("reply", ["nonsense", "[1]", "[1, 11]", '["a", "b"]', "[true, 3]", "[[1, 2"])
def test_nonsense_abstains_and_in_a_row_stops(monkeypatch: pytest.MonkeyPatch, reply: str) -> None:
    axis = endpoint(monkeypatch, lambda _: answer(reply))
    for _ in range(MAX_FAILURES - 1):
        assert axis.scores(QUESTION, [said("a"), said("b")]) == [None, None]
    with pytest.raises(JuryFailed, match="no usable answer 5 times in a row"):
        axis.scores(QUESTION, [said("a"), said("b")])


def test_a_timeout_abstains_and_an_answer_forgives(monkeypatch: pytest.MonkeyPatch) -> None:
    replies: Iterator[Any] = iter([httpx.ReadTimeout("slow"), httpx.Response(500), answer("[1, 1]")])

    def handler(_: httpx.Request) -> httpx.Response:
        reply = next(replies)
        if isinstance(reply, Exception):
            raise reply
        return reply

    axis = endpoint(monkeypatch, handler)
    assert [axis.scores(QUESTION, [said("a"), said("b")])[0] for _ in range(3)] == [None, None, 0.1]
    assert axis.failures == 0
    assert parse_scores("first [0, 0], then [1, 2]", 2) == [0.1, 0.2]


def test_best_against_worst() -> None:
    def pair(totals: list[float | None], *origins: str) -> tuple[Pair | None, str]:
        candidates = [said(str(i), origin, ids=[i]) for i, origin in enumerate(origins)]
        return pair_of(QUESTION, candidates, Verdict(totals, {}), least_margin=0.1)

    found, _ = pair([0.2, 0.9, 0.5], "sampled", "teacher", "greedy")
    assert found is not None and (found.chosen, found.rejected, found.chosen_origin) == ([1], [0], "teacher")
    tied, _ = pair([0.9, 0.9, 0.1], "given", "sampled", "greedy")
    assert tied is not None and tied.chosen_origin == "sampled"
    assert pair([0.5, 0.55], "sampled", "greedy") == (None, "all alike")
    assert pair([0.1, 0.9], "teacher", "greedy") == (None, "the worst is not the student's")
    assert pair([None, 0.9], "sampled", "greedy") == (None, "not judged")


def test_rollouts_are_five_and_one(tokenizer: Any) -> None:
    model, spec = student(len(tokenizer)), Rollouts(max_new_tokens=6)
    ids = [list(tokenizer(text)["input_ids"]) for text in ("one", "another", "third")]
    questions = [Question(str(i), row, "") for i, row in enumerate(ids)]
    found = rolled_out(model, tokenizer, questions, spec)
    assert [[c.origin for c in row] for row in found] == [["sampled"] * 5 + ["greedy"]] * 3
    assert found == rolled_out(model, tokenizer, questions, spec)
    given = written(tokenizer, "ab", "given", QUESTION, 8)
    assert given is not None and given.finished and len(given.ids) == 3
    assert written(tokenizer, "too long a text", "given", QUESTION, 8) is None
    opened = written(tokenizer, "too long a text", "teacher", OPENING, 8)
    assert opened is not None and len(opened.ids) == 8 and not opened.finished


def some_pairs() -> list[Pair]:
    draw = torch.Generator().manual_seed(0)
    ids = lambda n: torch.randint(3, 300, (n,), generator=draw).tolist()  # noqa: E731
    return [Pair(ids(4), ids(3 + i % 3), ids(2 + i % 4)) for i in range(12)]


def test_training_prefers_the_chosen_and_resumes_bit_by_bit(tmp_path: Path) -> None:
    pairs = some_pairs()
    config = LoopConfig(steps=8, batch=6, micro_batch=4, kd_weight=0.0, learning_rate=1e-3, warmup=1, save_every=3)

    def run(folder: str, until: int | None = None) -> HilnasForCausalLM:
        model, told = student(), []

        def progress(share: float, message: str) -> None:
            told.append(share)
            if len(told) == until:
                raise KeyboardInterrupt

        train_on_pairs(model, pairs, PREFERENCE_LOSSES["joint"], 5.0, config, tmp_path / folder, progress)
        return model

    before = [side.detach() for side in read(student(), pairs)]
    whole = run("whole")
    after = [side.detach() for side in read(whole, pairs)]
    assert ((after[0] - before[0]) > (after[1] - before[1])).float().mean() > 0.9
    with pytest.raises(KeyboardInterrupt):
        run("cut", until=5)
    resumed = run("cut")
    for one, two in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    curves = [(tmp_path / name / "curve.jsonl").read_text() for name in ("whole", "cut")]
    assert curves[0] == curves[1]
