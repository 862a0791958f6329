"""Evaluation: batched text is what each prompt gives alone, metrics find what was planted, the stage resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, SlidingWindow
from search_space.modeling.model import HilnasForCausalLM, build_model
from trainer.data.packing import PackedStream
from trainer.data.token_dir import TokenDir, save_tokenizer
from trainer.data.vocabulary import VOCABULARY, Vocabulary
from trainer.engine.evaluate import bits_per_byte as total_bits_per_byte
from trainer.engine.model_dir import ModelDir
from trainer.evaluation.files import EVALUATION, rows_of
from trainer.evaluation.language import bits_per_byte, buckets, loss_by_position
from trainer.evaluation.retrieval import DEPTHS, _haystacks, needles_of, retrieval
from trainer.evaluation.subject import Settings, Subject, open_subject
from trainer.evaluation.suites import SUITES, Suite, suite_of
from trainer.evaluation.task_scores import scored
from trainer.evaluation.values import Metric, difference, ratio, score, wilson
from trainer.pipeline.chain import run_stage
from trainer.pipeline.stage import Recipe, Stage, StageContext
from trainer.rollout.generation import batches, encoded, generate
from trainer.stages.evaluate import EvaluateStage
from trainer.tasks.base import Example

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


TEXT = "The fox saw the hen and the hen saw the fox in the barn. Nothing else was there but hay, and water. " * 12


@pytest.fixture(scope="module")
def folders(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data of four documents, one of them long, and a stage that left a small model."""
    root = tmp_path_factory.mktemp("evaluated")
    data, stage = root / "data", root / "pretrain"
    data.mkdir()
    long, short = encoded(tokenizer, [TEXT * 6, TEXT[:90]])
    np.array([*short, 0, *long, 0, *short, 0, *short, 0], np.int32).tofile(data / "held_out.bin")
    size = len(tokenizer)
    identity = np.arange(size, dtype=np.int32)
    num_bytes = np.array([0 if i < 3 else len(tokenizer.convert_ids_to_tokens(i)) for i in range(size)], np.int32)
    Vocabulary(identity, identity, np.arange(size + 1), num_bytes, 0, 0).save(data / VOCABULARY)
    lively(tokenizer).float().save_pretrained(stage / "model")
    tokenizer.save_pretrained(stage / "model")
    return {"data": data, "pretrain": stage}


@pytest.fixture
def subject(folders: dict[str, Path], tmp_path: Path) -> Subject:
    settings = Settings(count=6, length=64, max_new_tokens=8)
    return open_subject(ModelDir(folders["pretrain"]), TokenDir(folders["data"]), tmp_path, settings)


class Copying(torch.nn.Module):
    """Says what followed the last 12 tokens where they stood before, else token 5."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=vocab_size)
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, ids_BT: torch.Tensor, past_key_values: Any, use_cache: bool, logits_to_keep: int) -> Any:
        read = past_key_values.state(0, lambda: SimpleNamespace(ids=ids_BT[:, :0]))
        read.ids = torch.cat((read.ids, ids_BT), 1)
        logits = torch.zeros(*read.ids.shape, self.config.vocab_size)
        for row, ids in enumerate(read.ids.tolist()):
            for at in range(len(ids) - logits_to_keep, len(ids)):
                tail = ids[max(0, at - 11) : at + 1]
                found = [i for i in range(at - 11) if ids[i : i + 12] == tail]
                logits[row, at, ids[found[0] + 12] if found else 5] = 20
        return SimpleNamespace(logits=logits[:, -logits_to_keep:])


def test_wilson_is_the_closed_form() -> None:
    square = 1.959964**2
    assert wilson(0, 10) == pytest.approx((0, square / (10 + square)))
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(10, 10)[1] == pytest.approx(1)
    assert score("s", [1, 0, 1, 1]).value == 0.75


def test_a_bootstrap_interval_shrinks_with_rows_and_holds_the_value() -> None:
    random = np.random.default_rng(0)
    few, many = (ratio("r", random.normal(2, 1, n).tolist(), [1.0] * n, "low") for n in (10, 1000))
    assert few.low < few.value < few.high and few.high - few.low > 5 * (many.high - many.low)
    assert many.high - many.low == pytest.approx(2 * 1.96 / 1000**0.5, rel=0.15)


def test_few_rows_claim_little() -> None:
    """Of 400 samples of five normal rows, about 95 % of the intervals hold the mean."""
    random = np.random.default_rng(2)
    found = [ratio("r", random.normal(0, 1, 5).tolist(), [1.0] * 5, "low") for _ in range(400)]
    assert 0.92 < np.mean([metric.low < 0 < metric.high for metric in found]) <= 0.995
    one = ratio("r", [3.0], [1.0], "low")
    assert (one.low, one.high, one.note) == (3, 3, "one row: no interval")
    assert not difference(one, ratio("r", [5.0], [1.0], "low")).certain
    assert not difference(one, replace(found[0], value=90.0)).certain


def test_differences_are_paired_where_rows_are_equal() -> None:
    random = np.random.default_rng(1)
    hard = random.normal(5, 2, 40)
    before = ratio("r", hard.tolist(), [1.0] * 40, "low")
    after = ratio("r", (hard - 0.1 + random.normal(0, 0.05, 40)).tolist(), [1.0] * 40, "low")
    paired = difference(before, after)
    assert paired.paired and paired.certain and paired.value == pytest.approx(-0.1, abs=0.03)
    loose = difference(replace(before, rows=(), weights=()), after)
    assert not loose.paired and not loose.certain and loose.value == paired.value
    # Newcombe 1998, table II, 56/70 - 48/80 by method 10: 0.0524 to 0.3339
    told = difference(score("s", [1.0] * 48 + [0.0] * 32), score("s", [1.0] * 56 + [0.0] * 14))
    assert (told.low, told.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_bits_per_byte_equals_the_training_loops(subject: Subject) -> None:
    (found,) = bits_per_byte(replace(subject, settings=replace(subject.settings, count=1000)))
    stream = PackedStream(subject.held_out, 64, 0)
    assert found.value == pytest.approx(
        total_bits_per_byte(subject.model, stream, subject.vocabulary.num_bytes, max_rows=1000), rel=1e-5
    )
    assert found.low < found.value < found.high and found.n == stream.num_rows


def test_loss_by_position_covers_four_times_the_length(subject: Subject) -> None:
    assert buckets(64) == [(0, 8), (8, 16), (16, 32), (32, 64), (64, 128), (128, 256)]
    for parameter in subject.model.parameters():
        torch.nn.init.zeros_(parameter)
    found = list(loss_by_position(subject))
    assert [metric.name for metric in found][-1] == "loss_by_position/128-255"
    assert all(metric.value == pytest.approx(np.log(len(subject.tokenizer))) for metric in found)
    joined = replace(subject, held_out=np.tile(np.append(subject.held_out[:120], 0), 20))
    assert "joined" in next(loss_by_position(joined)).note
    short = list(loss_by_position(replace(subject, held_out=subject.held_out[:200])))
    assert [metric.name for metric in short][-1] == "loss_by_position/32-63"
    assert "too short for positions from 64" in short[0].note and short[0].n >= 2
    with pytest.raises(InvalidConfig, match="9 held-out tokens make no row of 8"):
        list(loss_by_position(replace(subject, held_out=np.zeros(9, np.int32))))


def test_a_model_that_copies_retrieves_and_a_random_one_does_not(subject: Subject) -> None:
    settings = replace(subject.settings, count=3, contexts=(160,))
    copying: Any = Copying(len(subject.tokenizer))
    found = {metric.name: metric for metric in retrieval(replace(subject, settings=settings, model=copying))}
    assert len(found) == 2 * len(DEPTHS)
    for depth in ("0", "0.25", "0.5", "0.75", "1"):
        assert found[f"retrieval/160/{depth}/accuracy"].value == 1
        assert found[f"retrieval/160/{depth}/gain_nats"].low > 5
    lost = {metric.name: metric for metric in retrieval(replace(subject, settings=settings))}
    assert lost["retrieval/160/0.5/accuracy"].value == 0
    with pytest.raises(InvalidConfig, match="a context of 99999 tokens does not fit"):
        list(retrieval(replace(subject, settings=replace(settings, contexts=(99_999,)))))


class Echo:
    name = "echo"

    def examples(self, split: str, count: int) -> list[Example]:
        assert split == "test"
        return [Example("echo", "word " * (400 if i == 1 else i + 1), "x", {"index": i}) for i in range(count)]

    def score(self, example: Example, answer: str) -> float:
        return float(example.entry["index"] % 2)


@torch.no_grad()
def test_retrieval_reads_with_its_cache_what_a_whole_reading_gives(subject: Subject) -> None:
    settings = replace(subject.settings, count=5, contexts=(160,))
    subject = replace(subject, model=subject.model.double(), settings=settings)
    found = {metric.name: metric for metric in retrieval(subject)}
    hay, needles = _haystacks(subject, 160), needles_of(subject, 5, 0)
    longest = max(len(n.question) + len(n.value) + max(len(n.sentence), len(n.other)) for n in needles)
    for depth in DEPTHS:
        at, gained = round(depth * (160 - longest)), []
        for row, needle in zip(hay, needles, strict=True):
            nats = []
            for sentence in (needle.sentence, needle.other):
                rest = row[at : 160 - len(sentence) - len(needle.question) - len(needle.value)]
                ids = torch.tensor([[*row[:at], *sentence, *rest, *needle.question, *needle.value]])
                assert ids.shape[1] == 160
                logprobs = subject.model(ids, use_cache=False).logits[0].log_softmax(-1)
                value = range(160 - len(needle.value), 160)
                nats.append(sum(float(logprobs[i - 1, ids[0, i]]) for i in value))
            gained.append(nats[0] - nats[1])
        assert found[f"retrieval/160/{depth:g}/gain_nats"].rows == pytest.approx(gained, abs=1e-4)


def test_a_task_is_scored_and_its_answers_are_kept(subject: Subject) -> None:
    short = replace(subject, settings=replace(subject.settings, max_prompt=200))
    found = scored(short, "task/echo", Echo())
    assert (found.value, found.n) == (2 / 5, 5) and (found.low, found.high) == wilson(2, 5)
    assert found.note == "1 of 6 prompts are longer than 200 tokens and left out"
    lines = (subject.folder / "answers" / "task-echo.jsonl").read_text().splitlines()
    assert [json.loads(line)["score"] for line in lines] == [0, 0, 1, 0, 1]


def counted(calls: list[str]) -> dict[str, Suite]:
    """Two suites that note their calls; ``b`` is broken at first."""

    def run(name: str) -> Any:
        def suite(subject: Subject, argument: str) -> Any:
            calls.append(f"{name}:{argument}:{subject.settings.count}")
            if calls == ["a::3", "b:x:9"]:
                raise InvalidConfig("b is broken")
            yield Metric(name, 1.0, 0.5, 1.5, 2, "low", rows=(1.0, 1.0), weights=(1.0, 1.0))

        return suite

    return {name: Suite(run(name), "a test") for name in "ab"}


def test_the_stage_goes_on_after_the_suites_it_finished(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    calls: list[str] = []
    with SUITES.temporarily(counted(calls)):
        resume_an_evaluation(folders, tmp_path, calls)


def resume_an_evaluation(folders: dict[str, Path], tmp_path: Path, calls: list[str]) -> None:
    stage = EvaluateStage("pretrain", suites=("a", "b:x count=9"), settings=Settings(count=3))
    folder = tmp_path / "stages" / "evaluate"
    with pytest.raises(Exception, match="b is broken"):
        run_stage(stage, folder, folders)
    told: list[str] = []
    record = run_stage(stage, folder, folders, lambda _, message: told.append(message))
    assert calls == ["a::3", "b:x:9", "b:x:9"] and told[0] == "b:x count=9"
    assert record["metrics"]["b"] == {"value": 1.0, "low": 0.5, "high": 1.5, "n": 2, "better": "low"}
    assert set(json.loads((folder / EVALUATION).read_text())["seconds"]) == {"a", "b:x count=9"}
    assert rows_of(folder)["a"] == {"rows": [1.0, 1.0], "weights": [1.0, 1.0]}
    (folder / EVALUATION).unlink()
    assert run_stage(stage, folder, folders)["metrics"] == record["metrics"] and len(calls) == 3


def test_a_whole_evaluation_of_a_small_model(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.results import program

    timed = {"value": 2.0, "low": 1.9, "high": 2.1, "n": 5, "unit": "ms"}
    monkeypatch.setattr(
        program,
        "measure_here",
        lambda *_: {
            "verdict": "valid",
            "reason": None,
            "metrics": dict.fromkeys(("decode_ms@64", "prefill_tok_s@64"), timed),
        },
    )
    suites_asked = ("bits_per_byte", "loss_by_position", "retrieval contexts=96", "task:tool_calls")
    stage = EvaluateStage("pretrain", suites=suites_asked, settings=Settings(4, 32, max_new_tokens=4), device=True)
    record = run_stage(stage, tmp_path / "stages" / "evaluate", folders)
    assert stage.name == "evaluate_pretrain" and stage.inputs == ("data", "pretrain")
    assert {name.split("/")[0] for name in record["metrics"]} == {
        "bits_per_byte", "loss_by_position", "retrieval", "task", "device",
    }  # fmt: skip
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in record["metrics"].values())
    assert record["metrics"]["device/decode_ms@64"]["verdict"] == "valid"
    said = json.loads((tmp_path / "stages" / "evaluate" / EVALUATION).read_text())["device"]
    assert said == {"verdict": "valid", "reason": None}
    assert [record["metrics"][f"device/{name}@64"]["better"] for name in ("decode_ms", "prefill_tok_s")] == [
        "low", "high",
    ]  # fmt: skip


def test_the_same_model_under_another_name_is_evaluated_once() -> None:
    class Made(Stage):
        kind = "made"

        def run(self, context: StageContext) -> dict[str, Any]: ...

        def cost(self, costing: object) -> None: ...

        def shortened(self, brief: object) -> Made: ...

    class MadeTokens(Made):
        kind, output = "tokens", TokenDir

    class MadeModel(Made):
        kind, output = "made", ModelDir

    def digest(name: str) -> str:
        stages = (MadeTokens(label="data"), MadeModel(label=name), EvaluateStage(name, suites=("bits_per_byte",)))
        return Recipe("r", stages).digests()[f"evaluate_{name}"]

    assert digest("one") == digest("two")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bits", "unknown suite 'bits'; known: bits_per_byte, "),
        ("retrieval deep=3", "suite 'retrieval' has no option 'deep'; known: count, "),
        ("retrieval count=many", "option count takes a whole number, e.g. count=16, not 'many'"),
        ("retrieval count=1,2", "option count takes a whole number, e.g. count=16, not '1,2'"),
        ("task:nothing", "unknown task 'nothing'"),
        ("bfcl:java", "unknown BFCL category 'java'"),
        ("", "unknown suite ''"),
    ],
)
def test_what_a_config_names_wrongly_is_told_at_once(text: str, reason: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        EvaluateStage("pretrain", suites=(text,))
    assert reason in str(caught.value)


def test_options_of_a_suite_win_over_the_stages_settings() -> None:
    named = suite_of("retrieval count=4 contexts=256,1024", Settings(count=9, length=128))
    assert named.settings == Settings(count=4, length=128, contexts=(256, 1024)) and named.suite is SUITES["retrieval"]


TASK = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.mark.filterwarnings("ignore")  # lm-eval's and its dependencies' own
def test_lm_eval_runs_a_task_with_its_data_beside_it(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval", reason="the extra `benchmarks` brings it", exc_type=ImportError)
    rows = [{"question": f"Colour {i}?", "choices": ["red", "blue"], "label": i % 2} for i in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "colours.yaml").write_text(TASK)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (found,) = suite_of(f"lm_eval:{tmp_path / 'colours.yaml'}", subject.settings).metrics(subject)
    assert found.name == "lm_eval/colours/acc" and found.n == 4 and found.value * 4 in range(5)
    assert (found.low, found.high) == pytest.approx(wilson(found.value * 4, 4))
    with pytest.raises(InvalidConfig, match="takes the yaml file of a task; 'none.yaml' does not exist"):
        suite_of("lm_eval:none.yaml", subject.settings)
