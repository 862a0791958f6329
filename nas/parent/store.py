"""A parent on disk: weights, the text that its blocks learn from and that candidates read, and its learnt blocks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.errors import InvalidConfig
from foundation.files import new_folder, take_name
from nas.parent.activations import Activations, collect, parent_digest
from nas.parent.alternatives import Alternative
from nas.parent.judge import HeldOut
from nas.parent.learn import BlockStore, LearntBlock, given_key
from search_space.modeling.model import HilnasForCausalLM
from search_space.parents import RECORD, TEXT, parent_folder

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
                   "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")  # fmt: skip


@dataclass(frozen=True)
class ParentText:
    """Streams of the parent's tokens, and the bytes that each id stands for."""

    train: NDArray[Any]
    held_out: NDArray[Any]
    num_bytes: NDArray[Any]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in vars(self).items():
            np.save(folder / f"{name}.npy", values.astype(np.int32))

    def unigram_bits(self, rows: NDArray[Any]) -> float:
        """Bits per byte on ``rows`` of a model that knows only how frequent each token is in the training text."""
        counts = np.bincount(self.train, minlength=len(self.num_bytes)) + 1.0
        nats = -np.log(counts / counts.sum())[rows[:, 1:]].sum()
        return float(nats / math.log(2) / self.num_bytes[rows[:, 1:]].sum())

    @classmethod
    def load(cls, folder: Path) -> ParentText:
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("train", "held_out", "num_bytes")))


@dataclass(frozen=True)
class ParentRecord:
    """``digest`` covers the architecture and every weight. ``texts`` are sources as ``trainer.data.sources`` names
    them. ``given`` is a digest of the blocks that came with the parent, empty without any."""

    name: str
    origin: str
    family: str
    digest: str
    texts: list[str]
    tokens: dict[str, int]
    given: str = ""


class Parent:
    """One imported parent. Raises InvalidConfig when no parent has this name."""

    def __init__(self, name: str) -> None:
        self.name, self.folder = name, parent_folder(name)
        self.record = ParentRecord(**json.loads((self.folder / RECORD).read_text()))

    @property
    def tokenizer_files(self) -> list[Path]:
        return [path for name in TOKENIZER_FILES if (path := self.folder / name).exists()]

    def model(self) -> HilnasForCausalLM:
        return HilnasForCausalLM.from_pretrained(self.folder, dtype="float32").eval()

    @property
    def text(self) -> ParentText:
        if not (self.folder / TEXT / "train.npy").exists():
            raise InvalidConfig(f"parent {self.name!r} was imported without text; import it again with --text SOURCE")
        return ParentText.load(self.folder / TEXT)

    @property
    def blocks(self) -> BlockStore:
        return BlockStore(self.folder / "blocks")

    def given(self, alternatives: Iterable[Alternative]) -> dict[Alternative, LearntBlock]:
        """Those that came with the parent and need not be learned here."""
        found = {one: self.blocks.get(given_key(self.record.digest, one)) for one in alternatives if not one.absent}
        return {one: block for one, block in found.items() if block is not None}

    def calibration(self, length: int, count: int, seed: int = 0) -> NDArray[Any]:
        """``count`` rows of training text. Raises InvalidConfig when there is less."""
        stream = self.text.train
        if len(stream) <= length:
            raise InvalidConfig(f"calibration rows of {length} tokens need more text than {len(stream)} tokens")
        firsts = np.random.default_rng(seed).integers(len(stream) - length, size=count)
        return np.stack([stream[first : first + length] for first in firsts]).astype(np.int64)

    def activations(self, model: HilnasForCausalLM, length: int, count: int) -> Activations:
        """Made once for each length and number of rows."""
        return collect(model, self.calibration(length, count), self.folder / f"activations-{count}x{length}", at_once=2)

    def held_out(self, length: int, count: int) -> HeldOut:
        text = self.text
        return HeldOut.cut(np.asarray(text.held_out), np.asarray(text.num_bytes), length, count)


@contextmanager
def new_parent(
    parents: Path, name: str, model: HilnasForCausalLM, origin: str, family: str, text: ParentText | None,
    texts: list[str], given: str = "",
) -> Iterator[Path]:  # fmt: skip
    """A folder with weights, record and text, which takes its name when the block ends well; the caller adds the
    tokenizer, and blocks where there are any.

    Raises InvalidConfig when another parent has the name.
    """
    if (parents / name).exists():
        raise InvalidConfig(f"a parent {name!r} is already there; give another name, or remove {parents / name}")
    with new_folder(parents, name) as partial:
        model.save_pretrained(partial)
        tokens = {"train": len(text.train), "held_out": len(text.held_out)} if text else {}
        record = ParentRecord(name, origin, family, parent_digest(model), texts, tokens, given)
        (partial / RECORD).write_text(json.dumps(asdict(record), indent=1))
        if text is not None:
            text.save(partial / TEXT)
        yield partial
        take_name(partial, parents / name)
