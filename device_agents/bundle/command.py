"""``hilnas bundle``: builds what an agent pushes to a phone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from device_agents.bundle.build import build_bundle, run_tests
from device_agents.bundle.copy import copy_bundle
from device_agents.bundle.manifest import Bundle
from device_agents.bundle.ndk import build_with_ndk
from device_agents.bundle.toolchain import DEFAULT_COMPILER

app = typer.Typer(help="Build the phone bundle.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """A bundle holds the runner with all its libraries; an agent pushes it once per phone."""


@app.command("android-arm64")
def android_arm64(
    out: Annotated[Path | None, typer.Option(help="Copy the bundle to this folder too.")] = None,
    compiler: Annotated[str, typer.Option(help="aarch64 C++ compiler.")] = DEFAULT_COMPILER,
    ndk: Annotated[Path | None, typer.Option(help="Android NDK: build against bionic instead of glibc.")] = None,
    executorch: Annotated[Path | None, typer.Option(help="With --ndk: ExecuTorch's CMake install for Android.")] = None,
    test: Annotated[bool, typer.Option("--test", help="Run all operator tests under qemu-aarch64 first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Build for 64-bit ARM phones; done at once when these sources were built before."""
    if test and ndk is None:
        run_tests(compiler)
    bundle = build_bundle(compiler) if ndk is None else build_with_ndk(ndk, executorch)
    if out is not None:
        bundle = copy_bundle(bundle, out)
    typer.echo(json.dumps(_summary(bundle)) if as_json else _sentence(bundle))


def _summary(bundle: Bundle) -> dict[str, object]:
    return {
        "path": str(bundle.path), "digest": bundle.digest, "bytes": bundle.total_bytes, "files": len(bundle.files),
        "runner_version": bundle.runner_version, "executorch": bundle.executorch,
    }  # fmt: skip


def _sentence(bundle: Bundle) -> str:
    size = bundle.total_bytes / 1e6
    return f"{bundle.runner_version}: {len(bundle.files)} files, {size:.1f} MB in {bundle.path}"
