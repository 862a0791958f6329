"""Reinforcement learning: advantages, the surrogate in closed form, filter and refill, the curriculum, a run that
learns and resumes bit by bit, rewards that are no numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.model import HilnasForCausalLM, build_model
from trainer.engine.config import LoopConfig
from trainer.pipeline.records import Records
from trainer.rl import curriculum as curricula
from trainer.rl import groups as grouping
from trainer.rl.config import RlConfig
from trainer.rl.curriculum import WINDOW, Curriculum
from trainer.rl.groups import Group, Sampling, gather
from trainer.rl.objective import batch_of, surrogate
from trainer.rl.rewards import RewardFailed, reward_of
from trainer.rl.train import reinforce
from trainer.rollout.decoding import Completion
from trainer.rollout.episodes import Episode, RolloutConfig, play
from trainer.rollout.logprobs import logprobs_of, padded
from trainer.tasks.base import Example
from trainer.tasks.registry import TASKS

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


class FirstLetter:
    """Say a word that begins with the letter that is asked for: a random model learns it in a few rounds."""

    def __init__(self, level: int = 0, value: float | None = None) -> None:
        self.level, self.value, self.name = level, value, "letter"

    def examples(self, split: str, count: int) -> list[Example]:
        return [Example(self.name, "x", "a", {}) for _ in range(count)]

    def score(self, example: Example, answer: str) -> float:
        return float(answer.startswith("a")) if self.value is None else self.value


@pytest.fixture
def letter() -> Iterator[None]:
    grouping._pool.cache_clear()
    tasks = {
        "letter": lambda _, level: FirstLetter(level), "never": lambda _, level: FirstLetter(level, 0.0),
        "broken": lambda _, level: FirstLetter(level, math.nan),
    }  # fmt: skip
    with TASKS.temporarily(tasks):
        yield


@pytest.fixture
def tokenizer(byte_tokenizer: Any) -> Any:
    return byte_tokenizer


def student(tokenizer: Any) -> HilnasForCausalLM:
    mixers = (GatedShortConv(3), Gqa(4, 2, 16))
    return build_model(ArchConfig(64, len(tokenizer), tuple(LayerConfig(m, SwiGLU(96)) for m in mixers)), seed=3)


def group(rewards: list[float], finished: bool = True) -> Group:
    episodes = [Episode([5, 6, 7], [False, True, True], [-1.0, -2.0], "a", finished) for _ in rewards]
    return Group("letter", episodes, rewards)


def config(steps: int, **more: Any) -> LoopConfig:
    settings = {"learning_rate": 1e-3, "warmup": 1, "save_every": 2, "weight_decay": 0.0, "micro_batch": 16, **more}
    return LoopConfig(steps=steps, batch=32, kd_weight=0.0, **settings)


def test_advantages_are_centred_and_not_normalized() -> None:
    assert group([1.0, 0.0, 0.0, 0.0]).advantages(False) == [0.75, -0.25, -0.25, -0.25]
    assert np.std(group([1.0, 0.0]).advantages(True)) == pytest.approx(1, abs=1e-4)
    assert not group([0.5, 0.5]).teaches


def test_the_surrogate_in_closed_form() -> None:
    levers = RlConfig(clip_low=0.2, clip_high=0.3, importance_cap=2.0)
    batch = batch_of([group([1.0, 0.0])], levers, CPU)
    old = torch.tensor([-1.0, -2.0, -1.0, -2.0])
    new = old + torch.tensor([1.0, -1.0, 1.0, -1.0])
    loss = surrogate(new, old, batch, levers).loss_N
    # advantage +0.5: up is clipped at 1.3, down is not; advantage -0.5: up is not, down is clipped at 0.8
    assert loss.tolist() == pytest.approx([-0.65, -0.5 / math.e, 0.5 * math.e, 0.4])
    sampled = batch_of([group([1.0, 0.0])], levers, CPU).sampled_N - torch.tensor([3.0, 0.0, 0.0, 0.0])
    weighted = surrogate(old, old, type(batch)(batch.rows, sampled, batch.advantage_N, batch.counts_N), levers)
    assert weighted.loss_N.tolist() == pytest.approx([-1.0, -0.5, 0.5, 0.5])  # the first is cut at 2


def test_answers_without_an_end_do_not_count() -> None:
    masked = batch_of([group([1.0, 0.0], finished=False)], RlConfig(), CPU)
    kept = batch_of([group([1.0, 0.0], finished=False)], RlConfig(mask_overlong=False), CPU)
    assert masked.num_tokens == 0 and kept.num_tokens == 4


def test_saying_it_again_costs() -> None:
    levers = RlConfig(ngram=2, repetition_threshold=0.3, repetition_penalty=0.5)
    loop, plain = ([1, *said] for said in ([2, 3] * 5, list(range(10))))
    marks = [False] + [True] * 10
    assert reward_of(1.0, Episode(loop, marks), levers) == 0.5
    assert reward_of(1.0, Episode(plain, marks), levers) == 1.0


def test_logprobs_of_the_sampler_are_those_of_the_trainer(tokenizer: Any, letter: None) -> None:
    model = student(tokenizer)
    task = FirstLetter()
    asked = [(task, task.examples("train", 1)[0])]
    (episodes,) = play(model, tokenizer, asked, RolloutConfig(12), num_samples=4, seed=5)
    rows = padded([e.ids for e in episodes], [e.generated for e in episodes], CPU)
    read = logprobs_of(model, rows)
    assert read.tolist() == pytest.approx([value for e in episodes for value in e.logprobs], abs=1e-4)


def test_zero_variance_groups_are_filtered_and_refilled(tokenizer: Any, letter: None) -> None:
    sampling, model = Sampling(4, 4, RolloutConfig(6)), student(tokenizer)
    never = Curriculum(("never",), 0)
    found = gather(model, tokenizer, never, sampling, RlConfig(refills=2), (0, 0))
    assert (found.drawn, found.filtered, found.refilled, len(found.kept)) == (12, 12, 8, 0)
    off = gather(model, tokenizer, never, sampling, RlConfig(dynamic_filter=False), (0, 0))
    assert (off.drawn, off.filtered, len(off.kept)) == (4, 0, 4)


def test_a_reward_that_is_no_number_stops_with_a_count(
    tokenizer: Any, letter: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "success_of", lambda task, example, episode: task.score(example, episode.answer))
    sampling, model = Sampling(4, 2, RolloutConfig(4)), student(tokenizer)
    with pytest.raises(RewardFailed, match="all 12 groups of a round had a reward that is no number"):
        gather(model, tokenizer, Curriculum(("broken",), 0), sampling, RlConfig(), (0, 0))
    found = gather(model, tokenizer, Curriculum(("broken", "letter"), 0), sampling, RlConfig(), (1, 0))
    assert found.spoiled and found.drawn > found.spoiled


def test_a_prompt_without_room_is_left_out(tokenizer: Any, letter: None) -> None:
    with pytest.raises(RewardFailed, match="no prompt leaves room"):
        sampling = Sampling(2, 2, RolloutConfig(8, max_length=9))
        gather(student(tokenizer), tokenizer, Curriculum(("letter",), 0), sampling, RlConfig(), (0, 0))


def test_the_curriculum_moves_with_success() -> None:
    course = Curriculum(("letter",), most=1)
    course.learn({"letter": [1.0] * WINDOW})
    assert course.tasks["letter"].level == 1
    course.learn({"letter@1": [1.0] * WINDOW})
    assert course.tasks["letter"].level == 1  # there is none above
    course.learn({"letter@1": [0.0] * WINDOW})
    assert course.tasks["letter"].level == 0
    again = Curriculum(("letter",), most=1, state=json.loads(json.dumps(course.to_dict())))
    assert again.to_dict() == course.to_dict()
    still = Curriculum(("letter",), most=1, moves=False)
    still.learn({"letter": [1.0] * WINDOW})
    assert still.tasks["letter"].level == 0


def test_a_task_that_never_rises_lacks_examples() -> None:
    course = Curriculum(("letter", "never"), most=0)
    for index in range(9):
        course.learn({"never": [0.0] * 4, "letter": [index / 9] * 4})
    assert course.stuck() == ["never"]
    with pytest.raises(InvalidConfig, match="without levels"):
        Curriculum(("letter@1",), 1)


def test_tasks_with_most_to_learn_are_drawn_most() -> None:
    course = Curriculum(("always", "half"), most=0)
    course.tasks["always"].recent, course.tasks["half"].recent = [1.0] * 8, [0.0, 1.0] * 4
    names = course.draw(np.random.default_rng(0), 400)
    assert names.count("half") > 4 * names.count("always") > 0
    assert curricula.named("gcd", 2) == "gcd@2"


def test_a_model_learns_and_a_resumed_one_is_the_same(tokenizer: Any, letter: None, tmp_path: Path) -> None:
    sampling = Sampling(2, 8, RolloutConfig(3))

    def run(folder: str, steps: int, until: int | None = None) -> HilnasForCausalLM:
        model, seen = student(tokenizer), []

        def stop(share: float, message: str) -> None:
            seen.append(share)
            if until is not None and len(seen) == until:
                raise KeyboardInterrupt

        reinforce(model, tokenizer, ("letter",), 0, sampling, RlConfig(mask_overlong=False), config(steps), 2,
                  tmp_path / folder, stop)  # fmt: skip
        return model

    whole = run("whole", 6)
    with pytest.raises(KeyboardInterrupt):
        run("cut", 6, until=3)
    resumed = run("cut", 6)
    for one, two in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    curves = [Records(tmp_path / folder / "curve.jsonl").read() for folder in ("whole", "cut")]
    for row in (*curves[0], *curves[1]):
        del row["prefix_reused"], row["prefix_seconds_saved"]  # of one process
    assert curves[0] == curves[1]


def test_success_rises(
    tokenizer: Any, letter: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Short(FirstLetter):
        def score(self, example: Example, answer: str) -> float:
            return float(answer[:1].islower())

    TASKS._parts["letter"] = lambda _, level: Short(level)  # until the fixture ends
    model, levers = student(tokenizer), RlConfig(mask_overlong=False, repetition_penalty=0.0, curriculum=False)
    monkeypatch.setattr(grouping, "success_of", lambda task, example, episode: task.score(example, episode.answer))
    settings = config(16, learning_rate=3e-3)
    reinforce(model, tokenizer, ("letter",), 0, Sampling(4, 16, RolloutConfig(2)), levers, settings, 2, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert rows[-1]["success"] > rows[0]["success"] + 0.2


def test_a_tool_answers_between_turns(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Talk:
        def reply(self, said: str) -> str | None:
            return "heard" if said == "call" else None

    class WithTool(FirstLetter):
        def converse(self, example: Example) -> Talk:
            return Talk()

    said = iter(["call", "call", "done"])
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")

    def scripted(model: Any, rows: Any, *_: Any, **__: Any) -> list[list[Completion]]:
        ids = tokenizer(next(said), add_special_tokens=False)["input_ids"]
        return [[Completion([*ids, stop], [-1.0] * (len(ids) + 1), True)] for _ in rows]

    monkeypatch.setattr("trainer.rollout.episodes.sample", scripted)
    task = WithTool()
    ((episode,),) = play(student(tokenizer), tokenizer, [(task, task.examples("train", 1)[0])], RolloutConfig(8))
    assert (episode.answer, episode.turns, episode.calls, episode.finished) == ("done", 3, 2, True)
    text = tokenizer.decode(episode.ids)
    assert text.endswith(
        "assistant\ncall<|im_end|>\n<|im_start|>tool\nheard<|im_end|>\n<|im_start|>assistant\ndone<|im_end|>"
    )
    own = tokenizer.decode([i for i, mine in zip(episode.ids, episode.generated, strict=True) if mine])
    assert own == "call<|im_end|>call<|im_end|>done<|im_end|>"
    assert len(episode.logprobs) == sum(episode.generated)
