"""What a stage leaves for others: stock directory, GGUF (read by transformers), card, stage and its errors."""

from __future__ import annotations

import errno
import json
import math
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, Lfm2ForCausalLM
from typer.testing import CliRunner

from contracts.device import DeviceFacts
from contracts.http import RestClient
from contracts.measurement import Estimate, Measurement, Verdict
from foundation.errors import DeviceLost, HilnasError, InvalidConfig
from nas.export.library import BlockLibrary
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, Skip, SlidingWindow
from search_space.modeling.model import HilnasForCausalLM, build_model
from search_space.rope import Yarn
from trainer.command import app
from trainer.data.chat import prompt_of
from trainer.data.token_dir import save_tokenizer
from trainer.engine.model_dir import ModelDir
from trainer.pipeline.chain import run_recipe, stage_folders
from trainer.pipeline.stage import Recipe, Stage, StageContext, StageFailed
from trainer.results import budget as budget_of_results
from trainer.results import program, random_twin
from trainer.results.card import write_card
from trainer.results.gguf import loadable, pre_tokenizer_of, write_gguf
from trainer.results.hugging_face import write_hugging_face
from trainer.results.records import RunRecord, StageRecord, run_record
from trainer.results.write import Wanted, disk, write_result
from trainer.stages.result import ResultStage

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CONV, ATTENTION, FFN = GatedShortConv(3), Gqa(4, 2, 16), SwiGLU(96)
IDS = torch.randint(0, 300, (1, 21), generator=torch.Generator().manual_seed(0))


def arch(*mixers: Any, ffn: SwiGLU | None = FFN, **options: Any) -> ArchConfig:
    return ArchConfig(64, 300, tuple(LayerConfig(mixer, ffn) for mixer in mixers), **options)


LFM2 = arch(CONV, ATTENTION, CONV, ATTENTION)


def saved(layout: ArchConfig, folder: Path, special: list[str] = SPECIAL) -> Path:
    build_model(layout, seed=1).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["what a user says and what an assistant says"] * 9, trainer)
    save_tokenizer(tokenizer, folder)
    return folder


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(IDS, use_cache=False).logits


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(LFM2, tmp_path_factory.mktemp("made") / "model")


def test_a_uniform_layout_becomes_stock_lfm2_with_equal_logits(model: Path, tmp_path: Path) -> None:
    written = write_hugging_face(model, tmp_path / "out")
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert (written.architecture, written.note, type(stock)) == ("Lfm2ForCausalLM", "", Lfm2ForCausalLM)
    assert torch.allclose(logits(HilnasForCausalLM.from_pretrained(model)), logits(stock), atol=1e-5)
    assert stock.generation_config.eos_token_id == [0, 2]
    assert write_hugging_face(model, tmp_path / "out") == written  # over what is there


def test_the_chat_template_is_training_s_prompt_and_marks_what_the_model_says(model: Path, tmp_path: Path) -> None:
    write_hugging_face(model, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    asked = [{"role": "system", "content": "be what a user is"}, {"role": "user", "content": "what?"}]
    made = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert made == prompt_of("what?", "be what a user is")
    both = tokenizer.apply_chat_template(
        [*asked, {"role": "assistant", "content": "says"}], return_assistant_tokens_mask=True, return_dict=True
    )
    said = [i for i, mine in zip(both["input_ids"], both["assistant_masks"], strict=True) if mine]
    assert tokenizer.decode(said) == "says<|im_end|>"


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        (arch(CONV, SlidingWindow(4, 2, 16, window=8)), "Lfm2 has no operator sliding_window"),
        (arch(CONV, GatedShortConv(5), ATTENTION), "Lfm2 has one convolution kernel for all layers"),
    ],
)
def test_another_layout_stays_ours_and_says_why(layout: ArchConfig, sentence: str, tmp_path: Path) -> None:
    written = write_hugging_face(saved(layout, tmp_path / "model"), tmp_path / "out")
    assert written.architecture == "HilnasForCausalLM"
    assert sentence in written.note
    ours = HilnasForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(ours), logits(HilnasForCausalLM.from_pretrained(tmp_path / "model")))


def test_a_vocabulary_without_chatml_gets_no_template(tmp_path: Path) -> None:
    written = write_hugging_face(saved(LFM2, tmp_path / "model", ["<|endoftext|>"]), tmp_path / "out")
    assert not written.chat
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template is None


def test_gguf_is_what_transformers_reads_as_lfm2(model: Path, tmp_path: Path) -> None:
    """An independent reader of names, shapes and sizes; llama.cpp itself is in tests/parity."""
    path = write_gguf(model, tmp_path / "model.gguf", "F32")
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name)
    assert isinstance(read, Lfm2ForCausalLM)
    assert torch.allclose(logits(HilnasForCausalLM.from_pretrained(model)), logits(read), atol=1e-5)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        (arch(CONV, Skip(), ATTENTION), "it has no operator skip"),
        (arch(CONV, CONV), "it needs a layer of attention and one of convolution"),
        (arch(ATTENTION, ATTENTION), "it needs a layer of attention and one of convolution"),
        (arch(CONV, GatedShortConv(5), ATTENTION), "it has one convolution kernel for all layers"),
        (arch(CONV, ATTENTION, ffn=SwiGLU(96, "gelu_tanh")), "every layer needs a feed-forward with SiLU"),
        (arch(CONV, ATTENTION, ffn=None), "every layer needs a feed-forward"),
        (ArchConfig(64, 300, (LayerConfig(CONV, FFN), LayerConfig(ATTENTION, SwiGLU(64)))), "one feed-forward width"),
        (arch(CONV, ATTENTION, Gqa(2, 2, 32)), "one number of heads and one head size"),
        (arch(CONV, Gqa(2, 1, 16)), "its heads must fill d_model"),
        (arch(CONV, Gqa(4, 2, 16, gate=True)), "QK norm and no gate"),
        (arch(CONV, Gqa(4, 2, 16, qk_norm=False)), "QK norm and no gate"),
        (arch(CONV, ATTENTION, Gqa(4, 2, 16, rope_theta=5e3)), "one rotary base"),
        (arch(CONV, ATTENTION, SlidingWindow(4, 2, 16, window=8)), "in all attention layers or in none"),
        (arch(CONV, SlidingWindow(4, 2, 16, window=8), yarn=Yarn(2.0, 64)), "YaRN only without a sliding window"),
        (arch(CONV, ATTENTION, sandwich_norm=True), "no sandwich norms"),
        (arch(CONV, ATTENTION, embedding_multiplier=8.0), "does not scale embeddings"),
    ],
)
def test_what_llama_cpp_cannot_load_is_said(layout: ArchConfig, sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=f"llama.cpp cannot load this layout as lfm2: .*{sentence}"):
        loadable(layout)


def test_gguf_answers_types_and_tokenizers_it_does_not_know(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="unknown GGUF type 'Q5'; known: F32, F16, Q8_0, Q4_0"):
        write_gguf(model, tmp_path / "model.gguf", "Q5")
    metaspace = {"model": {"type": "BPE"}, "normalizer": None, "pre_tokenizer": {"type": "Metaspace"}}
    with pytest.raises(InvalidConfig, match="cuts text by Metaspace"):
        pre_tokenizer_of(metaspace)
    with pytest.raises(InvalidConfig, match="holds no model of ours"):
        write_gguf(tmp_path, tmp_path / "model.gguf")


def figure(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 7, "unit": "ms"}


def test_the_card_shows_records_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "DATA_CARD.md").write_text("# Data card\n\n| source | licence |\n| --- | --- |\n| docs | PSF-2.0 |\n")
    data = StageRecord("data", tmp_path, {"stage": "data", "teacher_identity": "a-teacher==1"}, {"tokens": 12345}, 2.0)
    tuned = StageRecord("tuned", tmp_path / "x", {"rate": 0.01}, {"maths": figure(0.5, 0.25, 0.75), "loss": 1.5}, 3.0)
    run = RunRecord("one", "small", "abc123", ("the rate is ours",), (data, tuned))
    device = {
        "device": {"name": "d", "model": "A phone", "os": "OS 1", "cores": 8}, "target": "host", "verdict": "noisy",
        "reason": "wide", "protocol": "quick", "quantization": "8da4w", "threads": 2, "bytes": 4321, "cold_repeats": 3,
        "metrics": {"decode_ms@256": figure(2.0, 1.5, 2.5), "peak_rss_bytes": figure(5e6, 5e6, 5e6)}, "parity": {},
    }  # fmt: skip
    write_card(tmp_path / "README.md", run, tuned, LFM2, [{"file": "a.gguf", "bytes": 9, "note": "F16"}], [device])
    text = (tmp_path / "README.md").read_text()
    for line in (
        "commit `abc123`", "Teacher: a-teacher==1.", "| maths | 0.5 | 0.25 to 0.75 | 7 |  |",
        "| `data` |  | tokens 12,345 | 2 |", "| `tuned` |  | loss 1.5 | 3 |", '"rate": 0.01',
        "| docs | PSF-2.0 |", "## On A phone", "Verdict: noisy (wide).", "| decode_ms@256 | 2 ms | 1.5 to 2.5 | 7 |",
        "| peak_rss_bytes | 5,000,000 ms |  | 7 |", "| a.gguf | 9 | F16 |", "- the rate is ours",
    ):  # fmt: skip
        assert line in text, line
    bare = RunRecord("one", "small", None, (), (tuned,))
    write_card(tmp_path / "README.md", bare, tuned, LFM2, [], [])
    text = (tmp_path / "README.md").read_text()
    assert not any(word in text for word in ("commit", "Teacher", "## Data", "## On", "## Constants", "None"))


@dataclass(frozen=True)
class Maker(Stage):
    """A stage that leaves ``source`` as its model, or none."""

    kind: ClassVar[str] = "maker"
    output: ClassVar[type[ModelDir]] = ModelDir
    source: str = ""

    def run(self, context: StageContext) -> dict[str, Any]:
        if self.source:
            folder = context.folder / "model"
            folder.mkdir(exist_ok=True)
            for file in Path(self.source).iterdir():
                (folder / file.name).write_bytes(file.read_bytes())
        return {"maths": figure(0.5, 0.4, 0.6)}

    def cost(self, costing: object) -> None: ...

    def shortened(self, brief: object) -> Maker:
        return self


def timed(median: float, half: float = 1.0) -> Estimate:
    return Estimate(median=median, low=median - half, high=median + half, unit="ms", num_samples=16)


class Fake:
    """A device that answers at once with ``verdict``."""

    facts = DeviceFacts(kind="host", name="d", model="A phone", arch="a", cores=2, memory_bytes=1, os="OS 1")

    def __init__(self, verdict: Verdict = Verdict.VALID, error: HilnasError | None = None) -> None:
        self.verdict, self.error, self.jobs = verdict, error, 0

    def measure(self, job: Any, programs: Any, beside: Any = None) -> Measurement:
        self.jobs += 1
        if self.error:
            raise self.error
        rate = Estimate(median=50.0, low=45.0, high=55.0, unit="tok/s", num_samples=16)
        events = [[{"event": "check", "sqnr_db": 40.0, "max_abs_error": 0.1, "token_agreement": 1.0}]]
        metrics = {"decode_tok_s@256": rate, "decode_ms@256": timed(20.0), "peak_rss_bytes": timed(5e6, 0)}
        return Measurement(
            plan_digest="p", protocol="quick", verdict=self.verdict, metrics=metrics, events=events,
            beside={"decode_ms@256": timed(16.0)} if beside else {},
        )  # fmt: skip


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Measured by a fake, exported by none: the real path is in test_a_real_measurement."""
    fake = Fake()

    @contextmanager
    def measurer(target: str, home: Path) -> Any:
        yield fake

    def export(model_dir: Path, cache: Path, quantization: str) -> dict[str, Any]:
        path = cache / "a.pte"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"program")
        digest = program.content_of(model_dir)
        return {"digest": digest, "program": str(path), "bytes": 7, "arch": LFM2.to_dict(), "check": {}}

    monkeypatch.setattr(program, "measurer", measurer)
    monkeypatch.setattr(program, "export", export)
    monkeypatch.setattr(program, "_measured", lambda exported, device, *more: device.measure(None, {}, more[-1]))
    return fake


def chain(source: Path | str, *more: Stage) -> Recipe:
    maker = Maker(source=str(source), label="maker")
    return Recipe("small", (maker, ResultStage("maker"), *more), ("a constant is ours",))


def test_the_stage_fills_its_folder(model: Path, tmp_path: Path, device: Fake) -> None:
    recipe = chain(model)
    done = run_recipe(recipe, tmp_path, "one", commit="abc123")["result"]["metrics"]
    folder = stage_folders(recipe, tmp_path)["result"]
    assert done["host/decode_tok_s@256"] == {
        "value": 50.0, "low": 45.0, "high": 55.0, "n": 16, "unit": "tok/s", "verdict": "valid"
    }  # fmt: skip
    assert done["architecture"] == "Lfm2ForCausalLM"
    for name in ("hugging_face/model.safetensors", "model.gguf", "programs/model-8da4w.pte"):
        assert done[name] == (folder / name).stat().st_size
    card = (folder / "README.md").read_text()
    assert all(text in card for text in ("commit `abc123`", "| maths | 0.5 | 0.4 to 0.6 | 7 |", "a constant is ours"))
    (folder / "model.gguf").unlink()
    run_recipe(recipe, tmp_path, "one")
    assert (folder / "model.gguf").exists()
    assert device.jobs == 1


def test_a_layout_that_llama_cpp_cannot_load_is_a_row(tmp_path: Path, device: Fake) -> None:
    folder = saved(arch(CONV, ATTENTION, sandwich_norm=True), tmp_path / "made")
    run_recipe(Recipe("small", (Maker(source=str(folder)),)), tmp_path, "one")
    run = run_record(tmp_path, "one")
    rows = write_result(run.stage(None), run, tmp_path / "out", tmp_path / "cache", Wanted())["files"]
    assert "not written: llama.cpp cannot load this layout" in rows[1]["note"]
    assert "no sandwich norms" in (tmp_path / "out" / "README.md").read_text()


def test_the_command_does_the_same_for_any_stage(model: Path, tmp_path: Path, device: Fake) -> None:
    run_recipe(Recipe("small", (Maker(source=str(model), label="tuned"), Maker(label="text"))), tmp_path, "one")
    given = ["result", "one", "--out", str(tmp_path / "out"), "--gguf", "Q8_0", "--gguf", "F16", "--json"]
    done = CliRunner().invoke(app, [*given, "--root", str(tmp_path)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["stage"] == "tuned"
    files = ["hugging_face/model.safetensors", "model.gguf", "model.F16.gguf", "programs/model-8da4w.pte"]
    assert [row["file"] for row in told["files"]] == files
    assert told == json.loads((tmp_path / "out" / "result.json").read_text())
    assert not [row for row in told["devices"] if "program" in row]  # a path of this machine


def test_a_spoiled_measurement_is_taken_again(model: Path, tmp_path: Path, device: Fake) -> None:
    device.verdict = Verdict.NOISY
    assert program.measure_here(model, tmp_path)["verdict"] == "noisy"
    device.verdict = Verdict.VALID
    assert [row["verdict"] for row in program.measure_on(model, tmp_path, ("host", "host"))] == ["valid", "valid"]
    assert device.jobs == 2


@pytest.mark.parametrize(
    ("budget", "met", "sentence"),
    [(5e6, True, "5,000,000 bytes keeps to the budget of 5,000,000 bytes"), (4e6, False, "is over the budget of 4,0")],
)
def test_memory_is_held_against_a_budget(
    budget: float, met: bool, sentence: str, model: Path, tmp_path: Path, device: Fake
) -> None:
    recipe = Recipe("small", (Maker(source=str(model), label="maker"), ResultStage("maker", budget_bytes=budget)))
    assert run_recipe(recipe, tmp_path, "one")["result"]["metrics"]["budget_met"] is met
    folder = stage_folders(recipe, tmp_path)["result"]
    told = json.loads((folder / "result.json").read_text())
    seen = {"value": 5e6, "low": 5e6, "high": 5e6, "n": 16}
    assert told["devices"][0]["budget"] == {"budget_bytes": budget, "met": met, "peak_rss_bytes": seen}
    assert (told["budget_met"], sentence in (folder / "README.md").read_text()) == (met, True)
    unmeasured = budget_of_results.judged({"metrics": {}}, budget)
    assert not budget_of_results.budget_met([{"budget": unmeasured}])
    assert "is not known" in budget_of_results.sentence(unmeasured)
    with pytest.raises(InvalidConfig, match="above 0 bytes, got -1"):
        Wanted(budget_bytes=-1)


def test_a_study_s_memory_budget_is_found() -> None:
    of_study = budget_of_results.of_study
    assert of_study({"peak_rss_bytes:s24": 3e8, "peak_rss_bytes": 4e8, "memory_bytes@512": 1e8}) == 3e8
    assert of_study({"memory_bytes@512": 2e8, "decode_ms@512": 9}) == 2e8
    with pytest.raises(InvalidConfig, match="no budget of peak_rss_bytes or memory_bytes; --budget-mb gives one"):
        of_study({"decode_ms@512": 9})


def test_random_weights_are_timed_beside_the_trained_ones(
    model: Path, tmp_path: Path, device: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_recipe(Recipe("small", (Maker(source=str(model), label="tuned"),)), tmp_path, "one")
    monkeypatch.setattr(
        RestClient, "get", lambda _, path: {"budgets": {"peak_rss_bytes": 6e6 if path == "/studies/s1" else 0}}
    )
    given = ["result", "one", "--out", str(tmp_path / "out"), "--root", str(tmp_path), "--against-random"]
    done = CliRunner().invoke(app, [*given, "--study", "s1", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    found = told["devices"][0]["random"]["ratios"]["decode_ms@256"]
    assert (found["ratio"], found["equal"], found["noise"], told["budget_met"]) == (1.25, False, 0.0, True)
    assert found["low"] == pytest.approx(1.25 / math.exp(math.hypot(math.log(20 / 19), math.log(17 / 16))))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Trained weights differ in speed from random ones of the same architecture in decode_ms@256." in card
    assert "| decode_ms@256 | 1.250 | 1.155 to 1.355 | 0.0% | no |" in card
    (other,) = (tmp_path / "cache" / "random").iterdir()
    assert HilnasForCausalLM.from_pretrained(other).config.to_arch() == LFM2
    assert not torch.equal(*(logits(HilnasForCausalLM.from_pretrained(folder)) for folder in (other, model)))


def runs_of(*medians: float) -> list[list[dict[str, Any]]]:
    """Cold runs of that many milliseconds a token; one of 9 met somebody, which its canary shows."""
    return [
        [
            {"event": "repetition", "phase": "decode", "context": 256, "token_ns": [9], "warmup": True},
            {"event": "repetition", "phase": "decode", "context": 256, "token_ns": [ms * 1e6] * 3,
             "canary_ns": 200 if ms == 9 else 100},
        ]
        for ms in medians
    ]  # fmt: skip


def test_equal_is_what_the_same_program_differs_by_from_run_to_run() -> None:
    assert random_twin.run_noise(runs_of(2.0, 2.1, 2.2, 9), "decode_ms@256") == pytest.approx(0.1 / 2.1)
    assert random_twin.run_noise(runs_of(2.0), "decode_ms@256") == 0
    for above, half, noise, equal in ((103, 0.1, 0.0, False), (103, 0.1, 0.05, True), (103, 4.0, 0.0, True)):
        found = random_twin.ratio(timed(above, half), timed(100, half))
        assert random_twin.equal_within_noise({**found, "noise": noise}) is equal
    assert random_twin.ratio(timed(1, 1), timed(1, 1))["high"] < math.inf


def test_a_device_that_did_not_hold_still_says_nothing_of_training(model: Path, tmp_path: Path, device: Fake) -> None:
    device.verdict = Verdict.DRIFTED
    found = program.measure_here(model, tmp_path, against_random=True)["random"]["ratios"]
    assert found["decode_ms@256"]["equal"] is None
    assert "is not known: the device did not hold still" in random_twin.sentence(found)
    assert "nothing could be timed" in random_twin.sentence({})
    assert "as fast as random ones" in random_twin.sentence({"decode_ms@256": {"equal": True}})


def test_defaults_of_before_keep_their_digest() -> None:
    assert not {"budget_bytes", "against_random"} & ResultStage("maker").resolved().keys()
    asked = ResultStage("maker", budget_bytes=1e6, against_random=True).resolved()
    assert (asked["budget_bytes"], asked["against_random"]) == (1e6, True)


def test_errors_are_one_sentence(model: Path, tmp_path: Path, device: Fake) -> None:
    with pytest.raises(StageFailed, match="no stage of run 'none' has left a model yet"):
        run_recipe(chain(""), tmp_path, "none")
    run_recipe(Recipe("small", (Maker(label="text"), Maker(source=str(model), label="tuned"))), tmp_path, "two")
    run = run_record(tmp_path, "two")
    with pytest.raises(InvalidConfig, match="stage 'text' of run 'two' has left no model; with a model: tuned"):
        run.stage("text")
    with pytest.raises(InvalidConfig, match="stage 'other' of run 'two' is not one that is done"):
        run.stage("other")
    with pytest.raises(InvalidConfig, match="no run 'three' under .*; there: none, two"):
        run_record(tmp_path, "three")
    with pytest.raises(InvalidConfig, match="has no model.safetensors; give a Hugging Face directory"):
        program.exported_before(tmp_path, tmp_path, "8da4w")
    device.error = DeviceLost("phone 1 went away")
    with pytest.raises(StageFailed, match="stage result stopped: phone 1 went away; the same command goes on"):
        run_recipe(chain(model), tmp_path, "lost")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("65536 requested and 64448 written"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_sentence(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(HilnasError, match="the disk of .* is full; make room"), disk(tmp_path):
        raise error
    with pytest.raises(OSError, match="not permitted"), disk(tmp_path):
        raise OSError(errno.EPERM, "not permitted")


@pytest.mark.alone  # its sessions would be repeated again and again beside other work
@pytest.mark.slow
def test_a_real_measurement_is_kept(
    library: BlockLibrary, runner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exported, checked against eager torch and timed here; what the machine's load says of it is not ours to test."""
    model, cache = saved(arch(CONV, ATTENTION), tmp_path / "model"), tmp_path / "cache"
    cache.mkdir()
    (cache / "library").symlink_to(library.root)  # the canary's blocks are compiled once per checkout
    row = program.measure_here(model, cache, threads=1)
    assert row["verdict"] in {"valid", "noisy", "drifted"}, row["reason"]
    assert row["parity"]["sqnr_db"] > 18
    assert row["bytes"] == Path(row["program"]).stat().st_size
    monkeypatch.setattr(program, "_measured", None)  # once is enough, if the machine let it
    if row["verdict"] == "valid":
        assert program.measure_here(model, cache, threads=1) == row
    assert program.export(model, cache, "8da4w")["digest"] == row["digest"]
