"""A teacher's top-K log-probabilities on disk: memory-mapped shards that are written whole or not at all, and an index
that knows their sums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foundation.errors import HilnasError, InvalidConfig
from foundation.files import file_digest, write_atomically
from trainer.pipeline.stage import StageDir

INDEX, MIN_LOGPROB = "index.json", -1e4
# [start, stop) -> log-probabilities and ids, each [stop - start, K]: arrays, or tensors on the CPU
Compute = Callable[[int, int], tuple[Any, Any]]


class CacheBroken(HilnasError):
    """A shard that is missing, cut or changed; filling the cache again computes that shard alone."""

    code = "teacher_cache_broken"


@dataclass(frozen=True)
class CacheSpec:
    """What makes two caches the same. ``source`` names teacher and token stream by content, e.g. two digests."""

    source: str
    num_tokens: int
    vocab_size: int
    k: int = 32
    shard_tokens: int = 65_536

    @property
    def num_shards(self) -> int:
        return -(-self.num_tokens // self.shard_tokens)

    def span(self, shard: int) -> tuple[int, int]:
        return shard * self.shard_tokens, min((shard + 1) * self.shard_tokens, self.num_tokens)

    @property
    def record(self) -> np.dtype[np.void]:
        """One position: 6 K bytes. Half precision is 0.004 nats off at log-probability -8."""
        return np.dtype([("logprobs", "<f2", (self.k,)), ("ids", "<i4", (self.k,))])


class TopKCache:
    """One process fills a folder; any number read it."""

    def __init__(self, folder: Path, spec: CacheSpec) -> None:
        if not 0 < spec.k <= spec.vocab_size:
            raise InvalidConfig(f"k {spec.k} is not between 1 and the {spec.vocab_size} entries of the vocabulary")
        self.folder, self.spec = folder, spec
        self._sums = self._read_index()
        self._maps: dict[int, NDArray[np.void]] = {}

    def fill(self, compute: Compute, progress: Callable[[float, str], None] = lambda *_: None) -> int:
        """Computes every shard that is missing or no longer what the index says; returns how many those were.

        May be killed at any moment: a shard appears under its name when it is whole, and counts once the index names
        it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = [shard for shard in range(self.spec.num_shards) if self._fault(shard, with_sum=True) is not None]
        for done, shard in enumerate(wanted):
            self._maps.pop(shard, None)
            content = self._encoded(*compute(*self.spec.span(shard)), shard)
            write_atomically(self.path(shard), content)
            self._sums[shard] = hashlib.sha256(content).hexdigest()
            self._save_index()
            progress((done + 1) / len(wanted), f"teacher shard {shard + 1} of {self.spec.num_shards}")
        return len(wanted)

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities (float32) and ids (int64) [stop - start, K] of positions of the stream."""
        if not 0 <= start <= stop <= self.spec.num_tokens:
            raise InvalidConfig(f"positions {start} to {stop} are not in a cache of {self.spec.num_tokens}")
        shards = range(start // self.spec.shard_tokens, -(-stop // self.spec.shard_tokens))
        parts = [self._part(shard, start, stop) for shard in shards] or [np.empty(0, self.spec.record)]
        rows = np.concatenate(parts)
        return torch.from_numpy(rows["logprobs"].astype(np.float32)), torch.from_numpy(rows["ids"].astype(np.int64))

    def read_padded(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """As ``read``; where the cache has ended, log-probabilities are MIN_LOGPROB: nothing was said there."""
        known = min(max(self.spec.num_tokens, start), stop)
        logprobs, ids = self.read(start, known) if known > start else self.read(0, 0)
        silence = torch.full((stop - known, self.spec.k), MIN_LOGPROB)
        return torch.cat((logprobs, silence)), torch.cat((ids, torch.zeros_like(silence, dtype=ids.dtype)))

    def check(self) -> None:
        """Raises CacheBroken with the first shard that is missing, cut or changed. Reads everything."""
        for shard in range(self.spec.num_shards):
            if fault := self._fault(shard, with_sum=True):
                raise CacheBroken(fault)

    def path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:05d}.bin"

    def _part(self, shard: int, start: int, stop: int) -> NDArray[np.void]:
        if shard not in self._maps:
            if fault := self._fault(shard, with_sum=False):
                raise CacheBroken(fault)
            self._maps[shard] = np.memmap(self.path(shard), self.spec.record, "r")
        first = self.spec.span(shard)[0]
        return self._maps[shard][max(0, start - first) : stop - first]

    def _fault(self, shard: int, with_sum: bool) -> str | None:
        """What is wrong with a shard, in a sentence."""
        first, last = self.spec.span(shard)
        path, expected = self.path(shard), (last - first) * self.spec.record.itemsize
        advice = "fill the cache again: only what is broken is computed"
        if shard not in self._sums or not path.exists():
            return f"{path} of the teacher cache is missing; {advice}"
        if (actual := path.stat().st_size) != expected:
            return f"{path} of the teacher cache has {actual} bytes instead of {expected}; {advice}"
        if with_sum and file_digest(path) != self._sums[shard]:
            return f"{path} of the teacher cache is not what was written; {advice}"
        return None

    def _encoded(self, logprobs: Any, ids: Any, shard: int) -> bytes:
        """Raises InvalidConfig when a teacher's answer cannot be one: wrong shape, NaN, ids outside the vocabulary."""
        first, last = self.spec.span(shard)
        logprobs, ids = (np.asarray(value) for value in (logprobs, ids))
        shape = (last - first, self.spec.k)
        if logprobs.shape != shape or ids.shape != shape:
            raise InvalidConfig(f"the teacher answered {logprobs.shape} and {ids.shape} for shard {shard}, not {shape}")
        if not np.isfinite(logprobs).all() or logprobs.max(initial=0) > 1e-3:
            raise InvalidConfig(f"the teacher's log-probabilities of shard {shard} are not all finite and at most 0")
        low, high = ids.min(initial=0), ids.max(initial=0)
        if low < 0 or high >= self.spec.vocab_size:
            raise InvalidConfig(
                f"the teacher's ids of shard {shard} run from {low} to {high}, the student's vocabulary has"
                f" {self.spec.vocab_size} entries; map them or give a teacher with its vocabulary"
            )
        rows = np.empty(last - first, self.spec.record)
        # half precision ends at -65504, and a weight of 0 times -inf would be NaN
        rows["logprobs"], rows["ids"] = np.maximum(logprobs, MIN_LOGPROB), ids
        return rows.tobytes()

    def _read_index(self) -> dict[int, str]:
        path = self.folder / INDEX
        if not path.exists():
            return {}
        try:
            index = json.loads(path.read_text())
            spec, sums = CacheSpec(**index["spec"]), {int(shard): str(s) for shard, s in index["sha256"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CacheBroken(f"{path} cannot be read ({error!r}); remove it to fill the cache anew") from None
        for name, value in asdict(self.spec).items():
            if getattr(spec, name) != value:
                raise InvalidConfig(
                    f"the teacher cache {self.folder} was made with {name} {getattr(spec, name)}, asked is {value};"
                    " give another folder"
                )
        return sums

    def _save_index(self) -> None:
        index = {"spec": asdict(self.spec), "sha256": self._sums}
        write_atomically(self.folder / INDEX, json.dumps(index, indent=1).encode())


@dataclass(frozen=True)
class LogprobsDir(StageDir):
    """What a teacher stage leaves."""

    what: ClassVar[str] = "a teacher's log-probabilities"

    @property
    def path(self) -> Path:
        return self.folder / "cache"

    def open(self) -> TopKCache:
        """By what its index says. Raises CacheBroken for one that cannot be read."""
        path = self.path / INDEX
        try:
            spec = CacheSpec(**json.loads(path.read_text())["spec"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CacheBroken(f"{path} of the teacher cache cannot be read ({type(error).__name__})") from None
        return TopKCache(self.path, spec)

    def check(self) -> None:
        """Raises CacheBroken; running the stage again then computes that shard alone."""
        self.open().check()
