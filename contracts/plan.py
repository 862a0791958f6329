"""The runner's plan: which blocks, in which order, and how they are measured. Documented in docs/runner.md and parsed
by the C++ runner."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from contracts.values import Digest, FileName

MAX_VOCABULARY = 1 << 24
MAX_CHECKED = 4096  # entries of a parity check
CacheDtype = Literal["fp32", "fp16"]
DEFAULT_BACKEND = "xnnpack"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Protocol(_Record):
    """How a measurement is taken. Two protocols are never mixed in one front."""

    name: str = "screening"
    threads: int = Field(default=2, ge=1, le=256)
    affinity: list[int] | None = Field(default=None, max_length=1024)
    warmup: int = Field(default=1, ge=0)
    repetitions: int = Field(default=3, ge=1)
    prefill_lengths: list[int] = [512]
    decode_contexts: list[int] = [512, 4096]
    decode_tokens: int = Field(default=16, ge=1)
    decode_repetitions: int | None = Field(default=None, ge=1)  # None: as many as ``repetitions``
    decode_warmup_tokens: int | None = Field(default=None, ge=0)  # untimed, before the timed ones; None: by repetition
    enter_context: Literal["noise", "prefill"] = "noise"
    block_times: bool = True
    memory: bool = False
    memory_limit_bytes: int = 0
    seed: int = 7

    @property
    def capacity(self) -> int:
        """Tokens of context that the caches must hold."""
        extra = self.decode_tokens + (self.decode_warmup_tokens or 0)
        decoded = [context + extra for context in self.decode_contexts]
        return max([*self.prefill_lengths, *decoded]) + 1


def screening(threads: int = 2) -> Protocol:
    """Seconds per candidate: ranks. Contexts are entered by position over a noise-filled cache."""
    return Protocol(threads=threads, decode_repetitions=1, decode_warmup_tokens=2)


def quick(threads: int = 2) -> Protocol:
    """The demo's protocol: like screening at small contexts, for models of a few million parameters."""
    return Protocol(
        name="quick", threads=threads, repetitions=5, prefill_lengths=[256], decode_contexts=[256, 1024],
        memory=True,
    )  # fmt: skip


def full(threads: int = 2) -> Protocol:
    """What is published: 4K and 32K, real prefill to first token, p95 over 100 tokens, memory after every phase."""
    return Protocol(
        name="full", threads=threads, prefill_lengths=[1024, 4096], decode_contexts=[4096, 32768], decode_tokens=100,
        memory=True,
    )  # fmt: skip


PROTOCOLS = {"screening": screening, "quick": quick, "full": full}
# Per protocol: the widest interval (half width over median) that is still valid, and the cold runs spent to get there.
PRECISION = {"screening": (0.10, 4), "quick": (0.10, 8), "full": (0.05, 5)}


class State(BaseModel):
    """One state of a step: its kind and that kind's sizes. Kinds are open (search_space.states); the runner refuses
    unknown ones."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Annotated[int, Field(ge=0, le=1 << 40)]]
    kind: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")


class Step(_Record):
    block: Digest
    role: Literal["embedding", "mixer", "ffn", "head", "model"]
    name: str = Field(max_length=200)
    states: list[State] = []


class Cache(_Record):
    dtype: CacheDtype = "fp32"
    capacity: int


class Check(_Record):
    """Expected logits at probe ids for the last token of each chunk: the parity gate that precedes any timing."""

    tokens: list[int] = Field(max_length=MAX_CHECKED)
    chunks: list[int] = Field(max_length=MAX_CHECKED)
    probe_ids: list[int] = Field(max_length=MAX_CHECKED)
    expected: list[list[FiniteFloat]] = Field(max_length=MAX_CHECKED)
    expected_argmax: list[int] = Field(max_length=MAX_CHECKED)
    max_abs_error: FiniteFloat
    min_sqnr_db: FiniteFloat = 20.0
    min_token_agreement: FiniteFloat = 0.9


class Canary(_Record):
    chain: list[Step]
    hidden_size: int
    length: int = 128
    cache: Cache


class Prefix(_Record):
    """The first tokens of the prompt as a file of states on the device: saved, or restored and followed by ``suffix``
    tokens. The file lies beside the blocks and is given by name, never by path."""

    save: FileName | None = None
    restore: FileName | None = None
    length: int | None = Field(default=None, ge=1)  # for save; a restored file has its own
    suffix: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.save) == bool(self.restore) or (self.save and self.length is None):
            raise ValueError("give save with length, or restore")
        return self


class Plan(_Record):
    """``blocks_dir`` is set by the device that runs the plan, and only that device may skip the verification of blocks
    that it already verified; neither is accepted from outside."""

    version: Literal[1] = 1
    id: str = Field(max_length=200)
    blocks_dir: str = ""
    verify_digests: bool = True
    chain: list[Step]
    cache: Cache
    hidden_size: int
    vocab_size: int = Field(ge=1, le=MAX_VOCABULARY)
    max_chunk: int = 512
    protocol: Protocol
    tokens: list[int]
    check: Check | None = None
    canary: Canary | None = None
    prefix: Prefix | None = None
    backend: str = DEFAULT_BACKEND  # that its programs were compiled for

    @field_validator("blocks_dir")
    @classmethod
    def _no_folder(cls, blocks_dir: str) -> str:
        if blocks_dir:
            raise ValueError("a plan must not set blocks_dir: the device that runs it knows where its blocks are")
        return blocks_dir

    @field_validator("verify_digests")
    @classmethod
    def _verified(cls, verify_digests: bool) -> bool:
        if not verify_digests:
            raise ValueError("a plan's blocks are always verified")
        return verify_digests

    @property
    def blocks(self) -> list[str]:
        """Digests this plan needs, each once, in first-use order (canary included)."""
        steps = [*self.chain, *(self.canary.chain if self.canary else [])]
        return list(dict.fromkeys(step.block for step in steps))

    @property
    def digest(self) -> str:
        """What is measured and how, without names, paths and the parity check: the first half of the measurement
        key."""
        unkeyed = {"id", "blocks_dir", "verify_digests", "check"}
        if self.backend == DEFAULT_BACKEND:  # as before plans had a backend, so that stored rows are still found
            unkeyed.add("backend")
        text = self.model_dump_json(exclude=unkeyed, exclude_none=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def canary_key(self) -> str:
        """Canary times are comparable when this is equal: chain, threads and cores. Empty without a canary."""
        if self.canary is None:
            return ""
        text = f"{self.canary.model_dump_json()}|{self.protocol.threads}|{self.protocol.affinity}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def to_runner(self, blocks_dir: str) -> dict[str, Any]:
        """The JSON object the runner reads on the device that keeps its blocks in ``blocks_dir``."""
        return self.model_copy(update={"blocks_dir": blocks_dir}).model_dump(mode="json", exclude_none=True)
