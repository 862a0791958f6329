"""Five rollouts of one 512-token prompt with and without the prefix cache; then the first token on the device, with a
prefix restored from a file and without.

Arms run in turn, forwards and backwards; a speedup is the median of each repetition's own ratio, so that a machine that
changes its speed meets both arms. A cached arm starts from an empty cache.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import publish
from contracts.plan import Plan, Prefix, Protocol
from contracts.runner_events import records
from foundation.measurement_lock import MeasurementLock
from hilnas.local import LocalMeasurer
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.model import HilnasForCausalLM, build_model
from search_space.presets import preset
from trainer.rollout.decoding import Completion, Decoding, complete
from trainer.rollout.generation import few_threads
from trainer.rollout.prefix_cache.cache import PrefixCache, PrefixStatistics

AFTER = ("recipe_tiny",)  # whose student it takes where there is one
STUDENT, TINY = Path("var/train/searched_winner.json"), Path("var/train/stages")
NUM_ROLLOUTS, PROMPT_TOKENS, NEW_TOKENS, CACHE_BYTES = 5, 512, (1, 16, 64), 1 << 28
HEADLINE = 16  # new tokens: what answers of our reinforcement-learning tasks take
NUM_TURNS, ANSWER_TOKENS = 5, 64
REPETITIONS, BAR, MAX_DIFFERENCE, SEED = 15, 2.5, 1e-5, 17
DEVICE_MODEL, SUFFIX, DEVICE_REPETITIONS = "lfm2_350m", 16, 5
Rollouts = list[Completion]


def main() -> None:
    measured = measure()
    summary = {
        **judge(measured),
        "speedup_is": f"five rollouts of {HEADLINE} tokens in one call, each reading the prompt, against the same call"
        " with an empty prefix cache; the median of the repetitions' ratios",
        "model": measured.source, "parameters": measured.num_parameters, "threads": measured.threads,
        "repetitions": REPETITIONS, "conversation": measured.conversation, "device": measured.device,
    }  # fmt: skip
    seconds = {str(count): measured.timed[count]["seconds"] for count in NEW_TOKENS}
    publish("prefix_cache", summary, measured.rows, seconds)


@dataclass(frozen=True)
class Measured:
    """``timed`` are ``timings`` by number of new tokens, ``difference`` that of logits, ``device`` the first token on
    it; ``source`` says what model it was."""

    timed: dict[int, dict[str, Any]]
    difference: float
    conversation: dict[str, Any]
    device: dict[str, Any]
    source: str
    num_parameters: int
    threads: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for count in NEW_TOKENS for row in comparisons(count, self.timed[count])]


def measure() -> Measured:
    model, source = student()
    prompt = prompt_of(model.config.vocab_size)
    with torch.inference_mode(), few_threads(model, NUM_ROLLOUTS):
        threads = torch.get_num_threads()
        timed = {count: timings(model, prompt, count) for count in NEW_TOKENS}
        difference = logit_difference(model, prompt)
        conversation = turns(model, prompt)
    return Measured(timed, difference, conversation, on_device(), source, model.num_parameters(), threads)


def judge(measured: Measured) -> dict[str, Any]:
    rows = measured.rows
    headline = next(row for row in rows if row["rollouts"] == "in one call" and row["new_tokens"] == HEADLINE)
    cache: PrefixStatistics = measured.timed[HEADLINE]["statistics"]
    same_tokens = all(timed["tokens_equal"] for timed in measured.timed.values())
    return {
        "speedup": headline["speedup"], "speedup_bar": BAR,
        "outputs_equal": same_tokens and measured.difference <= MAX_DIFFERENCE,
        "max_logit_difference": measured.difference, "hit_rate": cache.hit_rate, "tokens_reused": cache.tokens_reused,
        "tokens_read": cache.tokens_read, "seconds_saved_estimate": cache.seconds_saved, "cache_bytes": cache.bytes,
        "speedup_quartiles": [headline["quartile_1"], headline["quartile_3"]],
        "speedups": {f"{row['rollouts']}, {row['new_tokens']} tokens": row["speedup"] for row in rows},
    }  # fmt: skip


def student() -> tuple[HilnasForCausalLM, str]:
    """The trained student of the tiny recipe, else its architecture with random weights."""
    trained = sorted(TINY.glob("merge_2-*/model"))
    if trained:
        return HilnasForCausalLM.from_pretrained(trained[0]).eval(), "trained student of the tiny recipe"
    if STUDENT.exists():
        return build_model(
            ArchConfig.from_dict(json.loads(STUDENT.read_text())), SEED
        ).eval(), "searched student, random weights"
    layers = [LayerConfig(GatedShortConv(3), SwiGLU(1024))] * 5 + [LayerConfig(Gqa(8, 2, 32), SwiGLU(1024))]
    return build_model(ArchConfig(256, 4096, tuple(layers)), SEED).eval(), "tiny architecture, random weights"


def prompt_of(vocab_size: int) -> list[int]:
    """Held-out text where there is some."""
    texts = sorted(TINY.glob("data-*/held_out.bin"))
    if texts:
        return [int(token) for token in np.fromfile(texts[0], np.int32, PROMPT_TOKENS) % vocab_size]
    return np.random.default_rng(SEED).integers(0, vocab_size, PROMPT_TOKENS).tolist()


def timings(model: HilnasForCausalLM, prompt: list[int], count: int) -> dict[str, Any]:
    """Seconds of every arm in every repetition, whether all drew the same tokens, the cache's own statistics."""
    decoding = Decoding(count, 1.0, frozenset())
    uniform = np.random.default_rng(SEED).random((NUM_ROLLOUTS, count))
    warm = PrefixCache(CACHE_BYTES)

    def five_calls(cache: PrefixCache | None) -> Rollouts:
        return [complete(model, [prompt], row[None], decoding, cache)[0] for row in uniform]

    def one_call(cache: PrefixCache | None) -> Rollouts:
        return complete(model, [prompt] * NUM_ROLLOUTS, uniform, decoding, cache)

    arms: dict[str, Callable[[], Rollouts]] = {
        "one call": lambda: one_call(None),
        "one call, cache": lambda: one_call(fresh()),
        "five calls": lambda: five_calls(None),
        "five calls, cache": lambda: five_calls(fresh()),
        "one prompt repeated": lambda: complete(model, [prompt], uniform, decoding),
        "one call, prompt known": lambda: one_call(warm),
    }
    made: list[PrefixCache] = []

    def fresh() -> PrefixCache:
        made.append(PrefixCache(CACHE_BYTES))
        return made[-1]

    wanted = [completion.ids for completion in arms["five calls"]()]
    one_call(warm)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    equal = True
    for repetition in range(REPETITIONS):
        for name in in_turn(list(arms), repetition):
            with MeasurementLock().exclusive():
                start = time.perf_counter()
                found = arms[name]()
                seconds[name].append(time.perf_counter() - start)
            equal = equal and [completion.ids for completion in found] == wanted
    return {"seconds": seconds, "tokens_equal": equal, "statistics": made[-1].statistics}


def in_turn(names: list[str], repetition: int) -> list[str]:
    return names if repetition % 2 == 0 else names[::-1]


def speedup(without: list[float], cached: list[float]) -> tuple[float, float, float]:
    """Median and quartiles of the repetitions' ratios."""
    ratios = [a / b for a, b in zip(without, cached, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return statistics.median(ratios), low, high


def comparisons(count: int, timed: dict[str, Any]) -> list[dict[str, Any]]:
    """Which calls are compared with which; the last two show what a cold cache costs and what a warm one gives."""
    pairs = (
        ("in one call", "one call", "one call, cache"),
        ("in five calls", "five calls", "five calls, cache"),
        ("five calls against one", "five calls", "one call, cache"),
        ("prompt repeated in the call", "one prompt repeated", "one call, cache"),
        ("prompt read in an earlier call", "one prompt repeated", "one call, prompt known"),
    )
    rows = []
    for label, without, cached in pairs:
        arms = timed["seconds"][without], timed["seconds"][cached]
        row: dict[str, Any] = {"rollouts": label, "new_tokens": count}
        row |= dict(zip(("seconds_without", "seconds_with"), map(statistics.median, arms), strict=True))
        rows.append(row | dict(zip(("speedup", "quartile_1", "quartile_3"), speedup(*arms), strict=True)))
    return rows


def logit_difference(model: HilnasForCausalLM, prompt: list[int]) -> float:
    """The largest over the prompt's end and every drawn token of five rollouts, in one call and in five, between
    reading through the cache and one pass without any."""
    uniform = np.random.default_rng(SEED).random((NUM_ROLLOUTS, max(NEW_TOKENS)))
    drawn = [c.ids for c in complete(model, [prompt], uniform, Decoding(max(NEW_TOKENS), 1.0, frozenset()))]
    ids_BT = torch.tensor([prompt + ids for ids in drawn])
    wanted_BTV = model(ids_BT, use_cache=False).logits[:, PROMPT_TOKENS - 1 :]
    together, single = PrefixCache(CACHE_BYTES), PrefixCache(CACHE_BYTES)
    parts = [forced(model, together, [prompt] * NUM_ROLLOUTS, drawn)]
    parts += [torch.cat([forced(model, single, [prompt], [ids]) for ids in drawn])]
    return max(float((part - wanted_BTV).abs().max()) for part in parts)


def forced(
    model: HilnasForCausalLM, cache: PrefixCache, prompts: list[list[int]], drawn: list[list[int]]
) -> torch.Tensor:
    logits_BV, states, mask_BT = cache.read(model, prompts)
    found = [logits_BV]
    for step in range(len(drawn[0])):
        mask_BT = torch.nn.functional.pad(mask_BT, (0, 1), value=1)
        ids_B1 = torch.tensor([[ids[step]] for ids in drawn])
        found.append(model(ids_B1, attention_mask=mask_BT, past_key_values=states).logits[:, -1])
    return torch.stack(found, 1)


def turns(model: HilnasForCausalLM, prompt: list[int]) -> dict[str, Any]:
    """A conversation of tool calls: each turn reads the answer to the last one and writes 16 tokens. One row a call, as
    environments step one by one; medians over the repetitions of the whole conversation."""
    decoding, results = Decoding(HEADLINE, 1.0, frozenset()), np.random.default_rng(SEED + 1)
    answers = results.integers(0, model.config.vocab_size, (NUM_TURNS, ANSWER_TOKENS)).tolist()
    uniform = np.random.default_rng(SEED).random((NUM_TURNS, 1, HEADLINE))

    def conversation(cache: PrefixCache | None) -> list[int]:
        text = list(prompt)
        for answer, numbers in zip(answers, uniform, strict=True):
            text += complete(model, [text], numbers, decoding, cache)[0].ids + answer
        return text

    seconds: dict[str, list[float]] = {"without": [], "with": []}
    texts, last = [], PrefixStatistics()
    for repetition in range(REPETITIONS):
        for name in in_turn(list(seconds), repetition):
            cache = PrefixCache(CACHE_BYTES, keep_completions=True) if name == "with" else None
            with MeasurementLock().exclusive():
                start = time.perf_counter()
                texts.append(conversation(cache))
                seconds[name].append(time.perf_counter() - start)
            last = cache.statistics if cache is not None else last
    return {
        "turns": NUM_TURNS, "answer_tokens": ANSWER_TOKENS, "seconds_without": statistics.median(seconds["without"]),
        "seconds_with": statistics.median(seconds["with"]),
        "speedup": speedup(seconds["without"], seconds["with"])[0],
        "outputs_equal": all(text == texts[0] for text in texts),
        "tokens_reused": last.tokens_reused, "tokens_read": last.tokens_read,
    }  # fmt: skip


def on_device() -> dict[str, Any]:
    """Saved by one process, restored by another; cold and restored in turn within that one."""
    protocol = Protocol(
        name="prefix", threads=2, warmup=1, repetitions=DEVICE_REPETITIONS, prefill_lengths=[PROMPT_TOKENS + SUFFIX],
        decode_contexts=[],
    )  # fmt: skip
    with workbench() as bench:
        whole = bench.plan(preset(DEVICE_MODEL), protocol, canary=False)
        plan = whole.model_copy(update={"protocol": protocol.model_copy(update={"prefill_lengths": []})})
        name = f"benchmark-{os.getpid()}.prefix"  # beside the blocks: plans name no paths
        try:
            saved = events(bench, plan, Prefix(save=name, length=PROMPT_TOKENS))
            restored = events(bench, plan, Prefix(restore=name, suffix=SUFFIX))
        finally:
            (bench.library_dir / "blocks" / name).unlink(missing_ok=True)
    written = next(event for event in saved if event["event"] == "prefix_saved")
    found = next(event for event in restored if event["event"] == "prefix_restored")
    timed = [event for event in restored if event["event"] == "repetition" and not event["warmup"]]
    cold = [event["duration_ns"] / 1e6 for event in timed if not event["restored"]]
    warm = [event["duration_ns"] / 1e6 for event in timed if event["restored"]]
    return {
        "model": f"{DEVICE_MODEL}, 8da4w, fp32 cache, random weights", "tokens": PROMPT_TOKENS, "suffix": SUFFIX,
        "first_token_ms_cold": statistics.median(cold), "first_token_ms_restored": statistics.median(warm),
        "ratio": statistics.median(cold) / statistics.median(warm),
        "restore_ms": statistics.median(event["restore_ns"] / 1e6 for event in timed if event["restored"]),
        "save_ms": written["save_ns"] / 1e6, "file_bytes": found["file_bytes"], "logits_equal": found["logits_equal"],
        "max_abs_difference": found["max_abs_difference"], "logits_rms": found["logits_rms"],
        "samples_ms": {"cold": cold, "restored": warm},
    }  # fmt: skip


@contextmanager
def workbench() -> Iterator[LocalMeasurer]:
    bench = LocalMeasurer()
    try:
        bench.compile([preset(DEVICE_MODEL)])
        yield bench
    finally:
        bench.close()


def events(bench: LocalMeasurer, plan: Plan, prefix: Prefix) -> list[dict[str, Any]]:
    found = records(bench.device.run(plan.model_copy(update={"prefix": prefix}), lambda: False))
    assert found[-1]["event"] == "end", found[-1]
    return found


if __name__ == "__main__":
    main()
