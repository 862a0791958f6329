"""A winner as one program with the weights that it was judged with: held against the judged model on real text, and
judged again as it was quantized.

judged/<key>/          under the library: the winner as a Hugging Face directory
judged/<key>.tar       the same packed, as training takes it
pieces/judged-<key>-<form>.json
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import torch

from contracts.study import QualitySpec
from foundation.errors import InvalidConfig
from foundation.files import atomic_folder, atomic_path, write_atomically
from foundation.measurement_lock import MeasurementLock
from nas.export.backends import DEFAULT_BACKEND
from nas.export.blocks import FORMAT_VERSION, toolchain
from nas.export.compose import check_of
from nas.export.eager_program import EagerProgram
from nas.export.modules import deploy
from nas.export.one_piece import compile_model, exported
from nas.quality.base import CandidateEstimator
from nas.quality.contract import estimator
from search_space.arch import ArchConfig

CHUNKS = [256, 1, 1, 1]  # of the parity check: a prompt, then single tokens


def export_judged(
    root: str,
    quality: dict[str, Any],
    arch_fields: dict[str, Any],
    quantization: str,
    backend: str = DEFAULT_BACKEND,
    cache_dtype: str = "fp32",
) -> dict[str, Any]:
    """{digest, check, seconds, delegation, weights, quality}: ``weights`` is the path of the tar, ``quality`` that of
    the program. Runs in a worker process; what was exported before is returned again.

    Raises InvalidConfig for an estimator that judges a proxy: its winners have no weights.
    """
    torch.set_num_threads(1)
    arch, judge = ArchConfig.from_dict(arch_fields), estimator(QualitySpec(**quality))
    if not isinstance(judge, CandidateEstimator):
        raise InvalidConfig(f"estimator {judge.name!r} judges a proxy, so its winners have no weights to export")
    folder = saved(Path(root), judge, arch)
    record = Path(root) / "pieces" / f"judged-{folder.name}-{_form(quantization, backend, cache_dtype)}.json"
    if record.exists():
        return dict(json.loads(record.read_text()))
    found = _exported(root, judge, arch, folder, quantization, backend, cache_dtype)
    write_atomically(record, json.dumps(found))
    return found


def saved(root: Path, judge: CandidateEstimator, arch: ArchConfig) -> Path:
    """The winner's Hugging Face directory, written once, with its tar beside it."""
    key = hashlib.sha256(f"{arch.digest} {judge.key}".encode()).hexdigest()[:24]
    folder = root / "judged" / key
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as partial:
            judge.save(arch, partial)
    packed = packed_of(folder)
    if not packed.exists():
        with atomic_path(packed) as partial, tarfile.open(partial, "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.add(file, arcname=f"checkpoint/{file.name}", filter=_without_times)
    return folder


def packed_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.tar")


def _exported(
    root: str,
    judge: CandidateEstimator,
    arch: ArchConfig,
    folder: Path,
    quantization: str,
    backend: str,
    cache_dtype: str,
) -> dict[str, Any]:
    from search_space.modeling.model import HilnasForCausalLM

    tokens, begun = judge.real_tokens(arch, sum(CHUNKS)), time.monotonic()
    with MeasurementLock().shared():
        model = deploy(HilnasForCausalLM.from_pretrained(folder, dtype="float32"), quantization)
        program, edge = compile_model(model, arch, quantization, backend)
        seconds = time.monotonic() - begun
        eager = EagerProgram(model, arch, backend, cache_dtype)
        check = check_of(eager.last_logits(tokens, CHUNKS), tokens, CHUNKS, quantization, backend)
    quality = judge.judge_program(arch, eager.logits).model_dump()  # it makes way for measurements by itself
    told = exported(root, program, edge, check, seconds)
    return {**told, "weights": str(packed_of(folder)), "quality": quality}


def _form(quantization: str, backend: str, cache_dtype: str) -> str:
    text = json.dumps([quantization, backend, cache_dtype, FORMAT_VERSION, toolchain()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without_times(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Equal content makes an equal tar."""
    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
    return entry
