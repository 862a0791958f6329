"""Text to rows: the trimmed vocabulary refines the teacher's, packed rows keep documents apart, splits are stable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from foundation.errors import InvalidConfig
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa, SlidingWindow
from search_space.modeling.model import build_model
from trainer.data.corpus import build_corpus
from trainer.data.packing import IGNORE, PackedStream, order
from trainer.data.sources import open_source
from trainer.data.vocabulary import Vocabulary, trim
from trainer.losses.distillation import DistillationObjective
from trainer.teacher.model import MappedTeacher, answered

TEXTS = [
    "The gated short convolution multiplies, shifts and adds; attention remembers. Übung macht den Meister! 12 345\n",
    "def convolve(signal, kernel):\n    return [sum(kernel) for _ in signal]  # multiplications and additions\n",
    "A document about multiplication, addition, attention and remembering the shifts of a signal — 東京.\n",
] * 4


@pytest.fixture(scope="module")
def teacher() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>"]
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=360, special_tokens=special, initial_alphabet=alphabet)
    )
    return tokenizer


@pytest.fixture(scope="module")
def trimmed(teacher: Tokenizer) -> tuple[Tokenizer, Vocabulary]:
    return trim(teacher, 300)


def test_splitting_the_teachers_tokens_is_what_the_students_tokenizer_does(teacher, trimmed) -> None:
    student, vocabulary = trimmed
    assert vocabulary.size == student.get_vocab_size() == 300
    for text in TEXTS:
        tokens = np.array(teacher.encode(text).ids, np.int32)
        pieces = vocabulary.split(tokens)
        assert pieces.tolist() == student.encode(text).ids
        assert len(pieces) > len(tokens)
        assert vocabulary.num_bytes[pieces].sum() == len(text.encode())
        assert student.decode(pieces.tolist()) == text
    assert [teacher.id_to_token(int(t)) for t in vocabulary.teacher_ids] == [student.id_to_token(i) for i in range(300)]


def test_a_vocabulary_survives_the_disk(trimmed, tmp_path: Path) -> None:
    trimmed[1].save(tmp_path / "v.npz")
    loaded = Vocabulary.load(tmp_path / "v.npz")
    assert all(np.array_equal(value, getattr(loaded, name)) for name, value in vars(trimmed[1]).items())


@pytest.mark.parametrize("size", [100, 501])
def test_a_size_that_does_not_fit_is_answered_with_those_that_do(teacher, size: int) -> None:
    with pytest.raises(InvalidConfig, match=r"258 \(bytes\) to 360 work"):
        trim(teacher, size)


def test_a_teacher_with_another_kind_of_tokenizer_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(InvalidConfig, match="WordLevel, not byte-level BPE"):
        trim(words, 300)


class Uniformly(torch.nn.Module):
    """Favours the token after the last one by its id."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = torch.nn.Parameter(torch.tensor(float(size)))
        self.config = type("Config", (), {"vocab_size": size})

    def forward(self, ids: torch.Tensor, use_cache: bool) -> object:
        size = int(self.size)
        logits = torch.sin(torch.arange(size) * 0.7 + ids.unsqueeze(-1) * 0.3) * 3
        return type("Out", (), {"logits": logits})


def test_the_teachers_word_is_summed_over_what_begins_with_a_piece(teacher, trimmed) -> None:
    _, vocabulary = trimmed
    documents = [[*teacher.encode(text).ids, vocabulary.teacher_end] for text in TEXTS]
    tokens = np.array([t for document in documents for t in document], np.int32)
    model = Uniformly(360)
    mapped = MappedTeacher(model, vocabulary, tokens, k=300, window=16, batch=3)
    logprobs, ids = mapped(0, int(vocabulary.num_pieces[tokens].sum()))
    ends = vocabulary.num_pieces[tokens].cumsum()
    assert np.flatnonzero(answered(torch.from_numpy(logprobs))).tolist() == (ends - 1).tolist()
    expected = model(torch.tensor([int(tokens[5])])[None], use_cache=False).logits[0, 0].softmax(-1).detach().numpy()
    for piece, logprob in zip(ids[ends[5] - 1], logprobs[ends[5] - 1], strict=True):
        total = expected[vocabulary.first_pieces == piece].sum()
        assert np.isclose(np.exp(logprob), total, atol=1e-6)
    halves = [mapped(0, 40), mapped(40, 90)]
    assert np.array_equal(np.concatenate([ids_ for _, ids_ in halves])[:1], ids[:1])
    np.testing.assert_allclose(np.concatenate([values for values, _ in halves]), logprobs[:90], atol=1e-6)


MIXERS = {
    "conv": GatedShortConv(3), "wide conv": GatedShortConv(7), "gqa": Gqa(4, 2, 16),
    "sliding": SlidingWindow(4, 2, 16, window=5),
}  # fmt: skip


@pytest.mark.parametrize("name", [*MIXERS, "hybrid"])
@torch.no_grad()
def test_packed_rows_equal_separate_documents(name: str) -> None:
    mixers = [MIXERS[name]] * 3 if name in MIXERS else list(MIXERS.values())
    arch = ArchConfig(64, 50, tuple(LayerConfig(mixer, SwiGLU(96)) for mixer in mixers))
    model = build_model(arch, seed=1).eval()
    generator = np.random.default_rng(0)
    documents = [np.append(generator.integers(1, 50, size), 0).astype(np.int32) for size in (11, 1, 23, 9, 40)]
    stream = PackedStream(np.concatenate(documents), 30, end=0)
    rows = stream.rows(np.arange(stream.num_rows))
    together = model(rows.ids_BT, seq_idx=rows.segments_BT, position_ids=rows.positions_BT, use_cache=False).logits
    for row in range(len(rows.ids_BT)):
        for segment in rows.segments_BT[row].unique():
            inside = rows.segments_BT[row] == segment
            alone = model(rows.ids_BT[row][inside][None], use_cache=False).logits[0]
            torch.testing.assert_close(together[row][inside], alone, atol=1e-6, rtol=0)


def test_rows_number_documents_and_label_within_them() -> None:
    stream = PackedStream(np.array([5, 6, 0, 7, 0, 8, 9, 4, 3], np.int32), 4, end=0)
    rows = stream.rows(np.array([1, 0]))
    assert rows.ids_BT.tolist() == [[0, 8, 9, 4], [5, 6, 0, 7]]
    assert rows.labels_BT.tolist() == [[IGNORE, 9, 4, 3], [6, 0, IGNORE, 0]]
    assert rows.segments_BT.tolist() == [[0, 1, 1, 1], [0, 0, 0, 1]]
    assert rows.positions_BT.tolist() == [[0, 0, 1, 2], [0, 1, 2, 0]]
    assert rows.starts == (4, 0)
    with pytest.raises(InvalidConfig, match="3 tokens of text make no row of 4"):
        PackedStream(np.zeros(3, np.int32), 4, end=0)


def test_the_order_of_rows_is_a_function_of_place_and_seed() -> None:
    whole = order(7, 0, 21, seed=3)
    assert np.array_equal(np.concatenate([order(7, at, 3, seed=3) for at in range(0, 21, 3)]), whole)
    assert all(sorted(whole[at : at + 7]) == list(range(7)) for at in (0, 7, 14))
    assert not np.array_equal(whole[:7], whole[7:14])


def test_a_directory_becomes_streams_without_duplicates(teacher, trimmed, tmp_path: Path) -> None:
    texts = [f"{text} number {i}. " * 6 for i, text in enumerate(TEXTS)]
    for i, text in enumerate([*texts, texts[0]]):
        (tmp_path / f"{i}.txt").write_text(text)
    (tmp_path / "page.html").write_text(f"<head><title>gone</title></head><p>{'kept &amp; read. ' * 20}</p>")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a row of JSON lines. " * 12}))
    source = open_source(f"directory:{tmp_path}", tmp_path)
    streams, (count,) = build_corpus([source], teacher, trimmed[1], 10**6, 0.3)
    assert (count.documents, count.duplicates) == (14, 1)
    text = teacher.decode(np.concatenate(list(streams.values())).tolist())
    assert "kept & read." in text
    assert "gone" not in text
    again, _ = build_corpus([source], teacher, trimmed[1], 10**6, 0.3)
    assert all(np.array_equal(streams[split], again[split]) for split in streams)
    few, _ = build_corpus([source], teacher, trimmed[1], 800, 0.3)
    assert 800 <= sum(map(len, few.values())) < 1600


def test_an_unknown_kind_of_source_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="known: python, debian, npm, directory, datasets"):
        open_source("ftp:somewhere", tmp_path)


def test_an_objective_without_a_teacher_everywhere_still_counts_every_label() -> None:
    """What the loop relies on: a cross-entropy part and a distilled part add up over one total."""
    logits, labels = torch.randn(1, 4, 9, generator=torch.Generator().manual_seed(0)), torch.tensor([[1, 2, 3, 4]])
    plain = DistillationObjective(kd_weight=0.0)
    whole = plain(logits, logits, torch.arange(9).expand(1, 4, 9), labels, 4).loss
    halves = [labels.where(torch.tensor(mask).bool(), IGNORE) for mask in ([1, 1, 0, 0], [0, 0, 1, 1])]
    parts = [plain(logits, logits, torch.arange(9).expand(1, 4, 9), part, 4).loss for part in halves]
    torch.testing.assert_close(sum(parts), whole)
