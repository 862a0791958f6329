"""Prompts read through a tree of kept states: only what no earlier prompt began with is computed.

Shapes: B rows, T columns of the widest row, S new columns, M marks, V vocabulary.
"""

from __future__ import annotations

import time
import weakref
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from foundation.errors import InvalidConfig
from search_space.modeling.cache import HilnasCache, Reading
from search_space.modeling.model import HilnasForCausalLM
from trainer.rollout.prefix_cache.radix_tree import Node, RadixTree
from trainer.rollout.prefix_cache.snapshots import Span, cut, merged, restored

Path = list[Node[Span]]
ReadRows = tuple[Tensor, HilnasCache, Tensor]


@dataclass(frozen=True)
class PrefixStatistics:
    """Since the cache was made. ``seconds_saved`` is an estimate: tokens reused times the mean time of a token read."""

    rows: int = 0
    hits: int = 0  # rows of which a part was reused
    tokens_reused: int = 0
    tokens_read: int = 0
    seconds_reading: float = 0.0
    seconds_saved: float = 0.0
    bytes: int = 0
    entries: int = 0
    evicted: int = 0
    emptied: int = 0  # how often other weights made everything stale

    @property
    def hit_rate(self) -> float:
        return self.hits / self.rows if self.rows else 0.0

    @property
    def share_reused(self) -> float:
        return self.tokens_reused / max(1, self.tokens_reused + self.tokens_read)


class PrefixCache:
    """States at every ``block_tokens`` and at each prompt's end; with ``keep_completions`` also where a completion
    ended, for the next turn. Belongs to one set of weights: see ``read``."""

    def __init__(self, max_bytes: int, block_tokens: int = 64, keep_completions: bool = False) -> None:
        if max_bytes < 0 or block_tokens < 1:
            raise InvalidConfig(
                f"max_bytes {max_bytes} and block_tokens {block_tokens} were given; at least 0 and 1 work"
            )
        self.block_tokens, self.keep_completions = block_tokens, keep_completions
        self._tree: RadixTree[Span] = RadixTree(max_bytes)
        self._version: Hashable = None
        self._model: weakref.ref[HilnasForCausalLM] | None = None
        self._state_of_weights: Hashable = None
        self._rows = self._hits = self._reused = self._read = self._emptied = 0
        self._seconds = 0.0

    @property
    def statistics(self) -> PrefixStatistics:
        return PrefixStatistics(
            rows=self._rows, hits=self._hits, tokens_reused=self._reused, tokens_read=self._read,
            seconds_reading=self._seconds, seconds_saved=self._reused * self._seconds / max(1, self._read),
            bytes=self._tree.num_bytes, entries=len(self._tree), evicted=self._tree.num_evicted, emptied=self._emptied,
        )  # fmt: skip

    def clear(self) -> None:
        self._tree.clear()

    def of(self, weights_version: Hashable) -> PrefixCache:
        """This cache for these weights: emptied if it held another version's."""
        if weights_version != self._version:
            self._empty()
            self._version = weights_version
        return self

    def read(
        self, model: HilnasForCausalLM, rows: Sequence[Sequence[int]], weights_version: Hashable = None
    ) -> ReadRows:
        """Logits [B, V] behind every row, a cache that holds the rows left-padded, and the mask [B, T] of its padding.

        Another ``weights_version`` than the last one given, another model, or weights that an optimizer or
        ``load_state_dict`` changed empty the cache first. Writing through ``.data`` is seen by no counter of torch and
        a sharded model's parameters come and go: there the version must be given.
        """
        if any(not len(row) for row in rows) or not rows:
            raise InvalidConfig(f"{len(rows)} prompts, an empty one among them; give at least one token each")
        if weights_version is not None:
            self.of(weights_version)
        self._same_weights_or_empty(model)
        texts = list(dict.fromkeys(tuple(row) for row in rows))
        paths = [self._usable(text) for text in texts]
        with self._tree.held(path[-1] for path in paths if path):
            order, parts = self._parts(model, texts, paths)
        self._count(rows, texts, paths)
        places = {texts[index]: place for place, index in enumerate(order)}
        return _in_order(parts, [places[tuple(row)] for row in rows])

    def keep(self, text: Sequence[int], cache: HilnasCache, row: int) -> None:
        """Remembers the state behind ``text``, which is all that ``cache`` holds in ``row``."""
        path = self._tree.match(text)
        start = path[-1].end if path else 0
        if start < len(text):
            self._tree.add(path[-1] if path else self._tree.root, text[start:], cut(cache, row, len(text) - start, 0))

    def _empty(self) -> None:
        self._emptied += len(self._tree) > 0
        self._tree.clear()

    def _same_weights_or_empty(self, model: HilnasForCausalLM) -> None:
        """torch counts writes to a parameter: counters and addresses distinguish a changed model from the one read."""
        state: Hashable = None
        if not isinstance(model, FSDPModule):
            state = tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in model.parameters())
        elif self._version is None:
            raise InvalidConfig("the model is sharded, so changes of its weights cannot be seen; give weights_version")
        if (self._model is None or self._model() is not model) or state != self._state_of_weights:
            self._empty()
            self._model, self._state_of_weights = weakref.ref(model), state

    def _usable(self, text: tuple[int, ...]) -> Path:
        """The longest stored prefix; whole only if the logits behind it are kept too."""
        path = self._tree.match(text)
        if path and path[-1].end == len(text) and path[-1].payload.logits_V is None:
            path.pop()
        return path

    def _parts(
        self, model: HilnasForCausalLM, texts: list[tuple[int, ...]], paths: list[Path]
    ) -> tuple[list[int], list[ReadRows]]:
        """What is known whole at once; the rest by how much is new, so that padding is less than half of a call."""
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for index, (text, path) in enumerate(zip(texts, paths, strict=True)):
            groups[(len(text) - _covered(path)).bit_length() if len(text) > _covered(path) else 0].append(index)
        parts = []
        for size, members in groups.items():
            chosen = [texts[i] for i in members], [paths[i] for i in members]
            parts.append(self._read_new(model, *chosen) if size else _known(*chosen))
        return [index for members in groups.values() for index in members], parts

    def _read_new(self, model: HilnasForCausalLM, texts: list[tuple[int, ...]], paths: list[Path]) -> ReadRows:
        device = next(model.parameters()).device
        covered = [_covered(path) for path in paths]
        cache = restored([[node.payload for node in path] for path in paths], covered)
        news = [text[start:] for text, start in zip(texts, covered, strict=True)]
        width = max(map(len, news))
        ids_BS = torch.tensor([[0] * (width - len(new)) + list(new) for new in news], device=device)
        mask_BT = _mask(texts, cache.num_tokens + width, device)
        ends = [self._ends(start, len(text)) for text, start in zip(texts, covered, strict=True)]
        cache.reading = _reading(ends, [len(text) for text in texts], [len(new) for new in news], device)
        start_s = time.perf_counter()
        logits = model(ids_BS, attention_mask=mask_BT, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self._seconds += time.perf_counter() - start_s
        for row, text in enumerate(texts):
            self._store(text, ends[row], cache, row, logits[row, -1])
        cache.end_reading()
        return logits[:, -1], cache, mask_BT

    def _ends(self, start: int, length: int) -> list[int]:
        """Where states of the tokens from ``start`` on are kept."""
        block = self.block_tokens
        return [*range((start // block + 1) * block, length, block), length]

    def _store(self, text: tuple[int, ...], ends: list[int], cache: HilnasCache, row: int, logits_V: Tensor) -> None:
        path = self._tree.match(text)
        parent, length = path[-1] if path else self._tree.root, len(text)
        for mark, end in enumerate(ends):
            if end <= parent.end:
                continue
            span = cut(cache, row, length - parent.end, length - end, mark)
            span = span.with_logits(logits_V) if end == length else span
            node = self._tree.add(parent, text[parent.end : end], span)
            if node is None:
                return
            parent = node
        if parent.end == length and parent.payload.logits_V is None:
            self._tree.replace(parent, parent.payload.with_logits(logits_V))

    def _count(self, rows: Sequence[Sequence[int]], texts: list[tuple[int, ...]], paths: list[Path]) -> None:
        reused = {text: _covered(path) for text, path in zip(texts, paths, strict=True)}
        for row in rows:
            text = tuple(row)
            self._rows += 1
            self._hits += reused[text] > 0
            self._reused += reused[text]
            self._read += len(text) - reused[text]
            reused[text] = len(text)  # the same row again in this batch was not read again


def _covered(path: Path) -> int:
    return path[-1].end if path else 0


def _known(texts: list[tuple[int, ...]], paths: list[Path]) -> ReadRows:
    cache = restored([[node.payload for node in path] for path in paths], [len(text) for text in texts])
    logits_BV = torch.stack([path[-1].payload.logits_V for path in paths])  # type: ignore[misc]
    return logits_BV, cache, _mask(texts, cache.num_tokens, logits_BV.device)


def _mask(texts: list[tuple[int, ...]], width: int, device: torch.device) -> Tensor:
    return torch.tensor([[0] * (width - len(text)) + [1] * len(text) for text in texts], device=device)


def _reading(ends: list[list[int]], lengths: list[int], num_new: list[int], device: torch.device) -> Reading:
    """Marks count columns of the call, whose last one is every row's last token; rows with fewer repeat it."""
    width, most = max(num_new), max(map(len, ends))
    marks = [
        [*(width - (n - end) for end in row), *[width] * (most - len(row))]
        for row, n in zip(ends, lengths, strict=True)
    ]
    return Reading(torch.tensor([width - n for n in num_new], device=device), torch.tensor(marks, device=device))


def _in_order(parts: list[ReadRows], places: list[int]) -> ReadRows:
    if len(parts) > 1:
        width = max(mask_BT.shape[1] for _, _, mask_BT in parts)
        padded = [torch.nn.functional.pad(mask_BT, (width - mask_BT.shape[1], 0)) for _, _, mask_BT in parts]
        parts = [(torch.cat([p[0] for p in parts]), merged([p[1] for p in parts]), torch.cat(padded))]
    logits_BV, cache, mask_BT = parts[0]
    if places == list(range(len(logits_BV))):
        return logits_BV, cache, mask_BT
    kept = torch.tensor(places, device=mask_BT.device)
    cache.reorder_cache(kept)
    return logits_BV[kept], cache, mask_BT[kept]
