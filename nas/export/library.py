"""The block library: every distinct block is compiled once, in parallel, and stored under the sha256 of its program.

index/<key>.json      spec and toolchain -> digest, size, delegation report
blocks/<digest>.pte   the program itself; agents cache the same files
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foundation.cpus import usable_cpus
from foundation.files import write_atomically
from foundation.measurement_lock import MeasurementLock
from foundation.workers import Workers
from nas.export.blocks import BlockSpec, build_block, example_inputs
from nas.export.delegation import describe_delegation
from nas.export.stages import compile_program, staged

Told = Callable[[int, int, float | None], None]


@dataclass(frozen=True)
class BlockEntry:
    """One compiled block. ``delegation`` counts the delegated subgraphs and the operators left outside."""

    key: str
    digest: str
    num_bytes: int
    seconds: float
    spec: dict[str, Any]
    delegation: dict[str, Any]


class BlockLibrary:
    """Many processes may use one library folder: files appear by atomic rename and never change."""

    def __init__(self, root: Path, workers: int | None = None) -> None:
        self.root = root
        self.blocks_dir = root / "blocks"
        self._index = root / "index"
        self._workers = workers or min(8, usable_cpus())
        self._pool: Workers | None = None
        self._pending: dict[str, Future[dict[str, Any]]] = {}
        for folder in (self.blocks_dir, self._index):
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, spec: BlockSpec) -> BlockEntry | None:
        path = self._index / f"{spec.key}.json"
        if not path.exists():
            return None
        entry = BlockEntry(**json.loads(path.read_text()))
        return entry if self.path(entry.digest).exists() else None

    def path(self, digest: str) -> Path:
        return self.blocks_dir / f"{digest}.pte"

    def missing(self, specs: Iterable[BlockSpec]) -> list[BlockSpec]:
        return [spec for spec in dict.fromkeys(specs) if self.get(spec) is None]

    def start(self, specs: Iterable[BlockSpec]) -> list[BlockSpec]:
        """Queues missing blocks for compilation and returns them; does not wait."""
        missing = self.missing(specs)
        for spec in missing:
            if spec.key not in self._pending:
                self._pending[spec.key] = self._compilers().submit(compile_block, str(self.root), asdict(spec))
        return missing

    def ensure(self, specs: Iterable[BlockSpec], told: Told | None = None) -> dict[BlockSpec, BlockEntry]:
        """Compiles every missing block; raises the first ExportFailed. Finished blocks are kept in any case.

        ``told`` is called before the wait for each one with its number, how many are missing, and the seconds left once
        a block has shown how long one takes."""
        required = list(dict.fromkeys(specs))
        missing, begun = self.start(required), time.monotonic()
        for done, spec in enumerate(missing):
            if told is not None:
                spent = time.monotonic() - begun
                told(done + 1, len(missing), spent / done * (len(missing) - done) if done else None)
            try:
                self._pending[spec.key].result()
            finally:
                self._pending.pop(spec.key, None)
        entries = {spec: self.get(spec) for spec in required}
        return {spec: entry for spec, entry in entries.items() if entry is not None}

    def ready(self, specs: Iterable[BlockSpec]) -> bool:
        """True once nothing is missing. Raises the error of a failed compilation, once."""
        for spec in self.missing(specs):
            future = self._pending.get(spec.key)
            if future is not None and future.done():
                del self._pending[spec.key]
                future.result()
        return not self.missing(specs)

    def store(self, program: bytes) -> str:
        """Stores any program (a block or a one-piece file) under its digest."""
        digest = hashlib.sha256(program).hexdigest()
        if not self.path(digest).exists():
            write_atomically(self.path(digest), program)
        return digest

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _compilers(self) -> Workers:
        if self._pool is None:
            self._pool = Workers(self._workers)
        return self._pool


def compile_block(root: str, spec_fields: dict[str, Any]) -> dict[str, Any]:
    """Builds and compiles one block, writes its program, then its index entry. Runs in the library's workers."""
    import torch

    torch.set_num_threads(1)
    spec, library = BlockSpec(**spec_fields), BlockLibrary(Path(root))
    with MeasurementLock().shared():
        start = time.monotonic()
        block = staged("build", lambda: build_block(spec))
        program, edge = compile_program(
            block, example_inputs(spec), spec.quantization, spec.role != "head", spec.backend
        )
    digest = library.store(program)
    entry = BlockEntry(spec.key, digest, len(program), time.monotonic() - start, spec_fields, describe_delegation(edge))
    write_atomically(Path(root) / "index" / f"{spec.key}.json", json.dumps(asdict(entry), indent=1))
    return asdict(entry)
