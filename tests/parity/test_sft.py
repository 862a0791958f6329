"""Fine-tuning in our loop against transformers and TRL: the same labels, the same loss, packed or one at a time."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from search_space.modeling.model import HilnasForCausalLM, build_model
from tests.unit.conftest import small_teacher, small_text  # noqa: F401  fixtures
from trainer.data.chat import Encoded, encode, prompt_of
from trainer.data.packing import IGNORE, PackedStream
from trainer.engine.config import LoopConfig
from trainer.engine.train import TrainingData, _losses
from trainer.examples.stream import Draws, write_stream
from trainer.tasks.base import Example
from trainer.tasks.registry import task_named

ARCH = ArchConfig(
    64, 320, tuple(LayerConfig(Gqa(2, 1, 32) if i == 1 else GatedShortConv(3), SwiGLU(96)) for i in range(3))
)
END, LENGTH = 0, 700
# as transformers marks what an assistant says
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>\\n' }}{% endif %}{% endfor %}{{ '<|endoftext|>' }}"
)


@pytest.fixture(scope="module")
def tokenizer(small_teacher: str) -> Tokenizer:  # noqa: F811
    return Tokenizer.from_file(str(Path(small_teacher) / "tokenizer.json"))


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return [example for name in ("extraction", "tool_calls") for example in task_named(name).examples("train", 4)]


@pytest.fixture(scope="module")
def encoded(tokenizer: Tokenizer, examples: list[Example]) -> list[Encoded]:
    return [encode(tokenizer, prompt_of(e.prompt, e.system), e.answer, END) for e in examples]


@pytest.fixture(scope="module")
def model() -> HilnasForCausalLM:
    return build_model(ARCH, seed=3).eval()


def ours(model: HilnasForCausalLM, stream: PackedStream) -> tuple[float, int]:
    """The loop's loss over all rows, and of how many labels it is the mean."""
    rows = stream.rows(np.arange(stream.num_rows))
    labels = int((rows.labels_BT != IGNORE).sum())
    config = LoopConfig(kd_weight=0.0, length=stream.length)
    return float(_losses(model, TrainingData(stream), rows, config, labels, torch.device("cpu"))[0]), labels


def theirs(model: HilnasForCausalLM, ids: list[int], learned: list[bool]) -> tuple[float, int]:
    """transformers' loss of one example, its prompt masked."""
    labels = [token if said else -100 for token, said in zip(ids, learned, strict=True)]
    given = torch.tensor([ids]), torch.tensor([labels])
    loss = model(given[0], labels=given[1], use_cache=False).loss
    return float(loss), sum(label != -100 for label in labels[1:])


@torch.no_grad()
def test_the_loss_of_an_example_is_that_of_transformers(model: HilnasForCausalLM, encoded: list[Encoded]) -> None:
    for example in encoded:
        ids, learned = np.array([*example.ids, END], np.int32), np.array([*example.learned, False])
        loss, labels = ours(model, PackedStream(ids, len(example.ids), END, learned))
        expected, expected_labels = theirs(model, example.ids, example.learned)
        assert labels == expected_labels > 0
        assert loss == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_packed_examples_weigh_as_separate_ones(model, encoded: list[Encoded], tmp_path: Path) -> None:
    text = np.random.default_rng(0).integers(1, 320, 5000).astype(np.int32)
    text[::90] = END
    write_stream(tmp_path / "s.bin", encoded, np.arange(len(encoded)), Draws(seed=1), 4, LENGTH, text)
    stream = PackedStream.open(tmp_path / "s.bin", LENGTH, END)
    nats = labels = documents = 0.0
    for row in range(4):
        ids = stream.tokens[row * LENGTH : (row + 1) * LENGTH].tolist()
        learned = np.asarray(stream.learned)[row * LENGTH : (row + 1) * LENGTH].tolist()
        ends = [at + 1 for at, token in enumerate(ids) if token == END]
        for begin, end in zip([0, *ends], [*ends, LENGTH], strict=True):
            if end - begin > 1 and any(learned[begin + 1 : end]):
                loss, count = theirs(model, ids[begin:end], learned[begin:end])
                nats, labels, documents = nats + loss * count, labels + count, documents + 1
    together, count = ours(model, stream)
    assert documents > 8 and count == labels
    assert together == pytest.approx(nats / labels, abs=1e-6)


def test_trl_labels_the_same_tokens(encoded, examples, small_teacher: str, tmp_path: Path) -> None:  # noqa: F811
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
        from transformers import AutoModelForCausalLM, AutoTokenizer

        wrapped = AutoTokenizer.from_pretrained(small_teacher)
        wrapped.chat_template = TEMPLATE
        turns = [[("system", e.system), ("user", e.prompt), ("assistant", e.answer)] for e in examples]
        rows = [{"messages": [{"role": role, "content": text} for role, text in said if text]} for said in turns]
        settings = trl.SFTConfig(
            str(tmp_path), use_cpu=True, bf16=False, report_to=[], assistant_only_loss=True, max_length=None
        )
        trainer = trl.SFTTrainer(
            AutoModelForCausalLM.from_pretrained(small_teacher), settings,
            train_dataset=datasets.Dataset.from_list(rows), processing_class=wrapped,
        )  # fmt: skip
        prepared = list(trainer.train_dataset)
    assert len(prepared) == len(encoded)
    for row, example in zip(prepared, encoded, strict=True):
        assert row["input_ids"] == example.ids
        assert [label != -100 for label in row["labels"]] == example.learned
