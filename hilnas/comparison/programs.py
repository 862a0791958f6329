"""From models to plans: composed of compiled blocks, or one program with a directory's own weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from contracts.plan import Check, Plan, Protocol
from foundation.errors import InvalidConfig
from foundation.files import atomic_folder, file_digest, write_atomically
from foundation.measurement_lock import MeasurementLock
from hilnas.comparison.models import OWN, RANDOM, NamedModel
from hilnas.local import LocalMeasurer


def protocol_of(prompts: list[int], contexts: list[int], threads: int) -> Protocol:
    """Few repetitions in many processes: the process is the unit of repetition."""
    return Protocol(
        name="comparison", threads=threads, repetitions=2, prefill_lengths=prompts, decode_contexts=contexts,
        decode_repetitions=1, decode_warmup_tokens=2, block_times=False,
    )  # fmt: skip


def planned(local: LocalMeasurer, model: NamedModel, protocol: Protocol) -> tuple[Plan, str]:
    """(plan, which weights). Weights that cannot be used after all are replaced by random ones, with the reason."""
    if model.folder is None:
        return local.plan(model.arch, protocol), model.weights
    try:
        exported = exported_directory(local, model.folder)
    except InvalidConfig as error:
        return local.plan(model.arch, protocol), f"{RANDOM}: {error}"
    return one_program(local, model, protocol, exported), OWN


def one_program(local: LocalMeasurer, model: NamedModel, protocol: Protocol, exported: dict[str, Any]) -> Plan:
    from nas.export.compose import build_plan, canary_of
    from nas.export.one_piece import one_piece_chain

    canary = canary_of(model.arch.d_model, local.quantization, local.library, local.backend)
    return build_plan(
        model.arch, one_piece_chain(model.arch, exported["digest"]), protocol, cache_dtype=local.cache_dtype,
        check=Check(**exported["check"]), canary=canary, name=f"own-{exported['digest'][:12]}", backend=local.backend,
    )  # fmt: skip


def exported_directory(local: LocalMeasurer, folder: Path) -> dict[str, Any]:
    """{digest, check, ...}: compiled once per content, quantization and toolchain."""
    from nas.export.blocks import FORMAT_VERSION, toolchain
    from nas.export.one_piece import export_checkpoint

    content = content_of(folder)
    text = json.dumps([content, local.quantization, FORMAT_VERSION, toolchain()])
    record = local.library.root / "pieces" / f"directory-{hashlib.sha256(text.encode()).hexdigest()}.json"
    if record.exists():
        known = dict(json.loads(record.read_text()))
        if local.library.path(known["digest"]).exists():
            return known
    with MeasurementLock().shared():
        ours = as_ours(folder, local.library.root / "imported" / content)
        done = export_checkpoint(str(local.library.root), str(ours), local.quantization, local.backend)
    write_atomically(record, json.dumps(done))
    return done


def as_ours(folder: Path, target: Path) -> Path:
    """The directory, imported once per content. Raises InvalidConfig for whatever would be lost."""
    from search_space.modeling.families import load_directory

    if json.loads((folder / "config.json").read_text())["model_type"] == "hilnas":
        return folder
    if not target.exists():
        with atomic_folder(target) as partial:
            load_directory(folder).save_pretrained(partial)
    return target


def content_of(folder: Path) -> str:
    """sha256 over configuration and weights."""
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors")), *sorted(folder.glob("pytorch_model*.bin"))]
    sums = [[path.name, file_digest(path)] for path in files]
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()
