"""The whole result of one stage in one folder: hugging_face/, GGUF, programs, figures and the card."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import HilnasError, InvalidConfig
from foundation.files import write_atomically
from search_space.arch import ArchConfig
from trainer.results.budget import budget_met, judged
from trainer.results.card import write_card
from trainer.results.program import HOST, measure_on
from trainer.results.records import RunRecord, StageRecord

RESULT, CARD, STOCK, PROGRAMS = "result.json", "README.md", "hugging_face", "programs"


@dataclass(frozen=True)
class Wanted:
    """``targets`` are ``host`` or addresses of phones; ``gguf`` the types to write, the first as ``model.gguf``.

    ``budget_bytes`` is what peak memory is held against on every target; ``against_random`` also times the architecture
    with random weights.
    """

    quantization: str = "8da4w"
    targets: tuple[str, ...] = (HOST,)
    gguf: tuple[str, ...] = ("F16",)
    budget_bytes: float | None = None
    against_random: bool = False

    def __post_init__(self) -> None:
        if self.budget_bytes is not None and self.budget_bytes <= 0:
            raise InvalidConfig(f"a memory budget is above 0 bytes, got {self.budget_bytes:g}")


def write_result(
    subject: StageRecord, run: RunRecord, out: Path, cache: Path, wanted: Wanted,
    progress: Callable[[float, str], None] = lambda *_: None,
) -> dict[str, Any]:  # fmt: skip
    """Fills ``out``; what is measured stays measured when it is called again. Returns what result.json says."""
    from trainer.results.hugging_face import directory, write_hugging_face

    model = directory(subject.model)
    arch = ArchConfig.from_dict(json.loads((model / "config.json").read_text())["arch"])
    with disk(out):
        out.mkdir(parents=True, exist_ok=True)
        progress(0.1, "writing a Hugging Face directory")
        stock = write_hugging_face(model, out / STOCK)
        notes = [stock.architecture, "ChatML template" if stock.chat else "no chat template", stock.note]
        files = [_row(out, out / STOCK / "model.safetensors", ", ".join(filter(None, notes)))]
        progress(0.2, "writing GGUF")
        files += _gguf_files(model, out, wanted.gguf, f"{run.run}-{subject.name}")
        progress(0.3, "exporting and measuring")
        devices = _devices(model, cache, wanted)
        files += _programs(out, devices)
        write_card(out / CARD, run, subject, arch, files, devices)
        result: dict[str, Any] = {
            "run": run.run, "stage": subject.name, "folder": subject.folder.name, "architecture": stock.architecture,
            "files": files, "devices": [{k: v for k, v in row.items() if k != "program"} for row in devices],
        }  # fmt: skip
        if wanted.budget_bytes is not None:
            result["budget_met"] = budget_met(devices)
        write_atomically(out / RESULT, json.dumps(result, indent=1))
    return result


def _devices(model: Path, cache: Path, wanted: Wanted) -> list[dict[str, Any]]:
    rows = measure_on(model, cache, wanted.targets, wanted.quantization, wanted.against_random)
    if wanted.budget_bytes is None:
        return rows
    return [{**row, "budget": judged(row, wanted.budget_bytes)} for row in rows]


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """A full disk in one sentence, whichever library met it."""
    try:
        yield
    except Exception as error:
        if _full(error):
            raise HilnasError(f"the disk of {folder} is full; make room and give the same command again") from error
        raise


def _full(error: Exception) -> bool:
    """safetensors says it in words, numpy's tofile by an OSError without a number."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, None)
    return "No space left" in str(error) or "StorageFull" in str(error)


def _gguf_files(model: Path, out: Path, kinds: Sequence[str], name: str) -> list[dict[str, Any]]:
    """A layout that llama.cpp cannot load is a row that says why."""
    try:
        from trainer.results.gguf import TYPES, write_gguf
    except ModuleNotFoundError:
        return [{"file": "model.gguf", "bytes": 0, "note": "not written: the package gguf is not installed"}]
    if unknown := [kind for kind in kinds if kind not in TYPES]:
        raise InvalidConfig(f"unknown GGUF type {unknown[0]!r}; known: {', '.join(TYPES)}")
    rows = []
    for index, kind in enumerate(kinds):
        path = out / (f"model.{kind}.gguf" if index else "model.gguf")
        try:
            rows.append(_row(out, write_gguf(model, path, kind, name), f"{kind}, for llama.cpp"))
        except InvalidConfig as error:
            return [{"file": path.name, "bytes": 0, "note": f"not written: {error}"}]
    return rows


def _programs(out: Path, devices: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each program once: targets of one quantization share it."""
    rows = {}
    for device in devices:
        path = out / PROGRAMS / f"model-{device['quantization']}.pte"
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(device["program"], path)
        rows[path] = _row(out, path, f"ExecuTorch, sha256 {device['digest'][:16]}")
    return list(rows.values())


def _row(out: Path, path: Path, note: str) -> dict[str, Any]:
    return {"file": str(path.relative_to(out)), "bytes": path.stat().st_size, "note": note}
