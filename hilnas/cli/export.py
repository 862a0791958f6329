"""``hilnas export``: an architecture or a trained checkpoint as one ExecuTorch program or as ONNX."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from foundation.errors import InvalidConfig
from foundation.files import is_file, read_text
from foundation.json_text import read_json
from hilnas.cli.checks import require_writable_file, require_writable_folder
from hilnas.cli.progress import LOG, working
from nas.export.backends import BACKENDS, DEFAULT_BACKEND
from search_space.arch import ArchConfig
from search_space.cost import QUANTIZATIONS
from search_space.presets import architecture
from search_space.quantizable import require_quantizable

app = typer.Typer(help="Export an architecture.")


@app.command()
def export(
    target: Annotated[
        str, typer.Argument(help="Preset name, architecture file (JSON) or Hugging Face directory of ours.")
    ],
    out: Annotated[Path, typer.Option(help="File to write: .pte or .onnx.")] = Path("model.pte"),
    quantization: Annotated[str, typer.Option(help=f"One of: {', '.join(QUANTIZATIONS)} (.pte only).")] = "8da4w",
    backend: Annotated[str, typer.Option(help=f"One of: {BACKENDS.known}.")] = DEFAULT_BACKEND,
    context: Annotated[int, typer.Option(min=1, max=10**9, help="Context of the delegation report.")] = 4096,
    library: Annotated[
        Path, typer.Option(help=f"Where programs are kept; what torch and its exporter print goes to {LOG} in it.")
    ] = Path("var/library"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write one program and say what share of its work XNNPACK does not take."""
    if out.suffix not in (".pte", ".onnx"):
        raise InvalidConfig(f"--out must end in .pte or .onnx, got {out.name!r}")
    BACKENDS.get_or_raise(backend).check(quantization)
    require_writable_file(out, "--out")
    arch = _arch(target)
    if out.suffix == ".pte":
        require_quantizable(arch, quantization)
    require_writable_folder(library, "--library")
    with working(library / LOG) as say:
        say(f"exporting {arch.label}; a large one takes minutes")
        if out.suffix == ".onnx":
            report = _onnx(arch, target, out)
        else:
            report = _pte(arch, target, out, quantization, backend, library, context)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        typer.echo("\n".join(f"{key}: {value}" for key, value in report.items()))


def _pte(
    arch: ArchConfig, target: str, out: Path, quantization: str, backend: str, library: Path, context: int
) -> dict[str, Any]:
    from nas.export.delegation import macs_outside_xnnpack
    from nas.export.library import BlockLibrary
    from nas.export.one_piece import export_candidate, export_checkpoint

    store = BlockLibrary(library)
    if _is_checkpoint(target):
        done = export_checkpoint(str(store.root), target, quantization, backend)
    else:
        done = export_candidate(str(store.root), arch.to_dict(), quantization, backend=backend)
    shutil.copyfile(store.path(done["digest"]), out)
    outside = macs_outside_xnnpack(arch, context)
    return {
        "file": str(out), "sha256": done["digest"], "bytes": out.stat().st_size, "seconds": round(done["seconds"], 1),
        "architecture": arch.label, f"macs_outside_xnnpack@{context}": round(outside["share"], 4),
        "left_to_other_kernels": done["delegation"]["left"],
    }  # fmt: skip


def _onnx(arch: ArchConfig, target: str, out: Path) -> dict[str, Any]:
    from nas.export.onnx import export_onnx
    from search_space.modeling.model import HilnasForCausalLM, build_model

    if _is_checkpoint(target):
        model = HilnasForCausalLM.from_pretrained(target)
    else:
        model = build_model(arch, seed=0)
    export_onnx(model, out)
    return {"file": str(out), "bytes": out.stat().st_size, "architecture": model.config.to_arch().label}


def _is_checkpoint(target: str) -> bool:
    return is_file(f"{target}/config.json")


def arch_of_config(folder: Path) -> ArchConfig:
    """That of a Hugging Face directory of ours. Raises InvalidConfig for any other."""
    try:
        config = read_json(read_text(folder / "config.json"))
    except ValueError as error:
        raise InvalidConfig(f"{folder}/config.json is not JSON: {error}") from None
    if not isinstance(config, dict) or "arch" not in config:
        raise InvalidConfig(f"{folder} is a Hugging Face directory, but not one of ours: `arch` is missing")
    return ArchConfig.from_dict(config["arch"])


def _arch(target: str) -> ArchConfig:
    """Read before torch is imported, so that a mistyped name fails at once."""
    if _is_checkpoint(target):
        return arch_of_config(Path(target))
    return architecture(target)
