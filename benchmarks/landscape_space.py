"""The landscape as a search space of its judged candidates, each with its bits per byte and its costs."""

from __future__ import annotations

import gzip
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS
from search_space.arch import ArchConfig
from search_space.cost import closed_form
from search_space.mixers import GatedShortConv, Gqa, Skip, SlidingWindow
from search_space.space import SearchSpace, uniform_space
from search_space.space.core import key_of

LANDSCAPE, BLOCK_COSTS = RESULTS / "landscape.json.gz", RESULTS / "landscape_costs.json"
QUANTIZATION, CACHE_DTYPE = "8da4w", "fp32"
DECODE = "decode_ms@1024"


class Landscape:
    """``space`` is limited to the candidates that were judged, in the order of the file; ``metrics`` follow it."""

    def __init__(self, landscape: Path = LANDSCAPE, block_costs: Path = BLOCK_COSTS) -> None:
        data = json.loads(gzip.decompress(landscape.read_bytes()))
        names = list(data["parameters"])
        rows = [dict(zip(names, map(int, one[1]), strict=True)) for one in data["list"]]
        self.space = around(data).limited_to(
            {name: data["parameters"][name][at] for name, at in row.items()} for row in rows
        )
        column = data["columns"].index("bits_per_byte@2048")
        self.bits_per_byte = [float(one[column]) for one in data["list"]]
        self.block_ms: dict[str, float] = json.loads(block_costs.read_text())["summary"]["block_ms"][DECODE]

    @cached_property
    def assignments(self) -> list[dict[str, str]]:
        return list(self.space.listed or ())

    @cached_property
    def metrics(self) -> list[dict[str, float]]:
        assert self.space.listing is not None
        return [
            {"bits_per_byte": bits, DECODE: sum_of_blocks(arch, self.block_ms),
             "weight_bytes": closed_form(arch, "weight_bytes", None, QUANTIZATION, CACHE_DTYPE)}
            for bits, arch in zip(self.bits_per_byte, self.space.listing.archs, strict=True)
        ]  # fmt: skip

    def at(self, assignment: dict[str, str]) -> int:
        assert self.space.listing is not None
        return self.space.listing.keys[key_of(assignment)]


def around(data: dict[str, Any]) -> SearchSpace:
    """The space that the landscape was drawn from, its choices in the order of the file."""
    heads = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 32}
    mixers = (Gqa(**heads), Gqa(4, 1, 32), SlidingWindow(**heads, window=64), SlidingWindow(**heads, window=256),
              GatedShortConv(3), GatedShortConv(7), Skip())  # fmt: skip
    found = uniform_space("landscape", 128, 2048, 10, mixers, (384, 192, 96, 0), rope_theta=10_000.0)
    assert {name: tuple(labels) for name, labels in data["parameters"].items()} == found.parameters()
    return found


def sum_of_blocks(arch: ArchConfig, block_ms: dict[str, float]) -> float:
    """The blocks of a candidate, embedding and head included."""
    return sum(block_ms[label] for label in block_labels(arch).values())


def block_labels(arch: ArchConfig) -> dict[str, str]:
    """Step of the chain -> the label of its block."""
    found = {"embedding": "embedding", "head": "head"}
    for index, layer in enumerate(arch.layers):
        if not layer.mixer.identity:
            found[f"{index}.{layer.mixer.kind}"] = layer.mixer.label
        if layer.ffn:
            found[f"{index}.swiglu"] = layer.ffn.label
    return found
