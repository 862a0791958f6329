"""GGUF files in llama.cpp itself: logits and tokens equal ours, and those of the exported program."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from contracts.plan import Cache, Plan, Protocol
from contracts.runner_events import records
from device_agents.devices.host import HostDevice
from nas.export.compose import check_of
from nas.export.library import BlockLibrary
from nas.export.one_piece import export_checkpoint, one_piece_chain
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, SlidingWindow
from search_space.modeling.model import HilnasForCausalLM, build_model
from search_space.rope import Yarn
from trainer.data.token_dir import save_tokenizer
from trainer.results.gguf import write_gguf
from trainer.results.hugging_face import tokenizer_of

llama_cpp = pytest.importorskip("llama_cpp", reason="llama.cpp is not here: `make llama-cpp` builds it (minutes)")

# of the logits' root mean square; the largest seen over all layouts is 7.6e-6
FLOAT_TOLERANCE = 5e-5
CHUNKS = [21, 1, 1, 10]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXTS = (
    "The quick brown fox isn't 42 years old, born in 1984; it'll cost $3.14159.",
    "  leading and   inner spaces\n\n\ttabs \r\nand a trailing space ",
    "déjà vu, naïve façade, Ελληνικά, русский, 日本語 한국어 🦊🏽 ٣٤٥ ½",
    "<|im_start|>user\nWhat is 12+30?<|im_end|>\n<|im_start|>assistant\n",
    "def f(x):\n    return {'a': [x, 1e-9]}  # done!!!\n",
)


def layers(*mixers: Any, width: int = 96) -> tuple[LayerConfig, ...]:
    return tuple(LayerConfig(mixer, SwiGLU(width)) for mixer in mixers)


CONV, ATTENTION = GatedShortConv(3), Gqa(4, 2, 16)
LAYOUTS = {
    "lfm2": ArchConfig(64, 300, layers(CONV, CONV, ATTENTION, CONV, ATTENTION, CONV)),
    "key-value heads per layer, kernel 5": ArchConfig(
        64, 300, layers(GatedShortConv(5), Gqa(4, 1, 16), GatedShortConv(5), Gqa(4, 4, 16))
    ),
    "window": ArchConfig(64, 300, layers(SlidingWindow(4, 2, 16, window=7), CONV, SlidingWindow(4, 1, 16, window=7))),
    "own head, base and epsilon": ArchConfig(
        64, 300, layers(CONV, Gqa(2, 1, 32)), tie_embeddings=False, norm_eps=1e-3, rope_theta=10_000.0
    ),
    "yarn": ArchConfig(64, 300, layers(CONV, ATTENTION, ATTENTION), rope_theta=10_000.0, yarn=Yarn(8.0, 16)),
}

SMALL = ArchConfig(64, 300, layers(CONV, ATTENTION))


def tokenizer(digits: bool) -> Tokenizer:
    """Byte-level BPE of 300 tokens; ``digits`` cuts each alone, as SmolLM2's does."""
    made = Tokenizer(models.BPE())
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    cut = [pre_tokenizers.Digits(individual_digits=True), bytes_]
    made.pre_tokenizer = pre_tokenizers.Sequence(cut) if digits else bytes_  # type: ignore[assignment]
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([*TEXTS, "1984 1984 42 42  the  the and and"] * 4, trainer)
    return made


def saved(arch: ArchConfig, folder: Path, digits: bool = False, scale: float = 4.0) -> Path:
    """Random weights in which norms and kernels matter too; small errors grow with ``scale``."""
    model = build_model(arch, seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.uniform_(0.5, 1.5)
            elif "conv_weight" not in name:
                weight.mul_(scale)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer(digits), folder)
    return folder


def loaded(path: Path) -> Any:
    """Caches in float32 and plain attention: what is compared is the model, not its approximations."""
    return llama_cpp.Llama(
        str(path),
        n_ctx=64,
        n_batch=64,
        logits_all=True,
        verbose=False,
        type_k=0,
        type_v=0,
        flash_attn=False,
        n_threads=1,
    )


def llama_logits(path: Path, ids: list[int]) -> NDArray[np.float32]:
    """[T, V], read in CHUNKS so that both caches take over in between."""
    model, position = loaded(path), 0
    for size in CHUNKS:
        model.eval(ids[position : position + size])
        position += size
    logits = np.array(model.scores[: len(ids)])
    model.close()
    return logits


def our_logits(folder: Path, ids: list[int]) -> NDArray[np.float32]:
    with torch.no_grad():
        logits = HilnasForCausalLM.from_pretrained(folder).eval()(torch.tensor([ids]), use_cache=False).logits[0]
    return np.asarray(logits)


def some_ids() -> list[int]:
    return random.Random(0).choices(range(300), k=sum(CHUNKS))


def relative_error(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.abs(a - b).max() / np.sqrt((a**2).mean()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_equal_ours(layout: str, tmp_path: Path) -> None:
    folder = saved(LAYOUTS[layout], tmp_path / "model")
    theirs = llama_logits(write_gguf(folder, tmp_path / "model.gguf", "F32"), some_ids())
    error = relative_error(our_logits(folder, some_ids()), theirs)
    print(f"{layout}: {error:.2e}")
    assert error < FLOAT_TOLERANCE


@pytest.mark.parametrize(("kind", "sqnr_db"), [("F16", 60), ("Q8_0", 30), ("Q4_0", 14)])
def test_quantized_files_stay_near(kind: str, sqnr_db: float, tmp_path: Path) -> None:
    folder = saved(LAYOUTS["lfm2"], tmp_path / "model", scale=1.0)
    sizes = {name: write_gguf(folder, tmp_path / f"{name}.gguf", name).stat().st_size for name in ("F32", kind)}
    ours = our_logits(folder, some_ids())
    noise = ours - llama_logits(tmp_path / f"{kind}.gguf", some_ids())
    found = 10 * np.log10((ours**2).sum() / (noise**2).sum())
    print(f"{kind}: {found:.1f} dB, {sizes}")
    assert found > sqnr_db
    assert sizes[kind] < 0.75 * sizes["F32"]


def test_the_exported_program_gives_llama_cpp_s_logits(library: BlockLibrary, runner: Path, tmp_path: Path) -> None:
    """The parity gate of the runner with llama.cpp's logits as what is expected: 60 dB in floats."""
    arch = LAYOUTS["lfm2"]
    folder, ids, chunks = saved(arch, tmp_path / "model"), some_ids()[:23], [21, 1, 1]
    theirs = llama_logits(write_gguf(folder, tmp_path / "model.gguf", "F32"), some_ids())
    exported = export_checkpoint(str(library.root), str(folder), "fp32")
    last = torch.from_numpy(theirs[[20, 21, 22]])
    protocol = Protocol(threads=1, warmup=0, repetitions=1, prefill_lengths=[8], decode_contexts=[8], decode_tokens=1)
    plan = Plan(
        id="llama-cpp", chain=one_piece_chain(arch, exported["digest"]), cache=Cache(capacity=64),
        hidden_size=arch.d_model, vocab_size=arch.vocab_size, protocol=protocol, tokens=ids,
        check=check_of(last, ids, chunks, "fp32"),
    )  # fmt: skip
    events = records(HostDevice(library.blocks_dir, runner).run(plan, lambda: False))
    assert events[-1]["event"] == "end", events[-1]
    check = next(event for event in events if event["event"] == "check")
    assert check["sqnr_db"] > 60
    assert check["token_agreement"] == 1.0


@pytest.mark.parametrize("digits", [False, True], ids=["gpt-2", "smollm"])
def test_tokens_are_equal(digits: bool, tmp_path: Path) -> None:
    folder = saved(SMALL, tmp_path / "model", digits)
    model = loaded(write_gguf(folder, tmp_path / "model.gguf", "F16"))
    ours = tokenizer_of(folder)
    for text in TEXTS:
        ids = model.tokenize(text.encode(), add_bos=True, special=True)
        assert ids == ours.encode(text, add_special_tokens=False), text
        assert model.detokenize(ids, special=True).decode() == text
    assert model.token_eos() == ours.get_vocab()["<|im_end|>"]
    metadata = dict(model.metadata)
    model.close()
    assert metadata["tokenizer.ggml.pre"] == ("smollm" if digits else "gpt-2")
    assert "generation %}" not in metadata["tokenizer.chat_template"]


def test_chat_is_the_prompt_that_training_uses(tmp_path: Path) -> None:
    """llama.cpp's own rendering of the template in the file."""
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    from trainer.data.chat import prompt_of

    folder = saved(SMALL, tmp_path / "model")
    model = loaded(write_gguf(folder, tmp_path / "model.gguf", "F16"))
    template = model.metadata["tokenizer.chat_template"]
    model.close()
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "12+30?"}]
    made = Jinja2ChatFormatter(template=template, eos_token="", bos_token="")(messages=messages)
    assert made.prompt == prompt_of("12+30?", "Be brief.")


def test_ids_without_a_token_are_named(tmp_path: Path) -> None:
    """A model may have more logits than its tokenizer has tokens."""
    arch = ArchConfig(64, 320, SMALL.layers)
    model = loaded(write_gguf(saved(arch, tmp_path / "model"), tmp_path / "model.gguf", "F16"))
    assert model.n_vocab() == 320
    model.close()
    assert json.loads((tmp_path / "model" / "config.json").read_text())["vocab_size"] == 320
