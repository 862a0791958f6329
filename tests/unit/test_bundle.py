"""Bundles say what is in them; what cannot be built is answered with what would work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device_agents.bundle.build import find_bundle
from device_agents.bundle.copy import copy_bundle
from device_agents.bundle.manifest import MANIFEST, Bundle, write_manifest
from device_agents.bundle.ndk import build_with_ndk
from device_agents.bundle.toolchain import Compiler, pinned_executorch
from foundation.errors import InvalidConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    for name, mode in (("hilnas-runner", 0o755), ("ld-linux-aarch64.so.1", 0o755), ("libc.so.6", 0o644)):
        (path / name).write_text(name)
        (path / name).chmod(mode)
    write_manifest(path, "aarch64", "hilnas-runner 0.1.0", "1.5.1", "ld-linux-aarch64.so.1")
    return path


def test_a_bundle_is_read_back(folder: Path) -> None:
    bundle = Bundle.load(folder)
    assert set(bundle.files) == {"hilnas-runner", "ld-linux-aarch64.so.1", "libc.so.6"}
    assert bundle.files["hilnas-runner"].mode == 0o755
    assert bundle.total_bytes == sum(len(name) for name in bundle.files)
    assert bundle.runner_command == ["./ld-linux-aarch64.so.1", "--library-path", ".", "./hilnas-runner"]


def test_the_digest_tells_the_files_alone(folder: Path) -> None:
    digest = Bundle.load(folder).digest
    assert write_manifest(folder, "aarch64", "another version", "1.0", None) == digest
    (folder / "libc.so.6").chmod(0o755)
    assert write_manifest(folder, "aarch64", "another version", "1.0", None) != digest


@pytest.mark.parametrize("harm", ["change", "remove", "digest", "format", "no manifest"])
def test_harm_is_noticed(folder: Path, harm: str) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    if harm == "change":
        (folder / "libc.so.6").write_text("LIBC.SO.6")
    elif harm == "remove":
        (folder / "libc.so.6").unlink()
    elif harm == "no manifest":
        (folder / MANIFEST).unlink()
    else:
        (folder / MANIFEST).write_text(json.dumps({**document, harm: 99 if harm == "format" else "0" * 64}))
    with pytest.raises(InvalidConfig):
        Bundle.load(folder)


def test_the_named_bundle_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILNAS_BUNDLE", str(folder))
    assert find_bundle().path == folder
    monkeypatch.setenv("HILNAS_BUNDLE", str(folder / "nowhere"))
    with pytest.raises(InvalidConfig, match="hilnas bundle android-arm64"):
        find_bundle()


def test_a_copy_replaces_a_bundle_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    bundle, target = Bundle.load(folder), tmp_path / "copy"
    assert copy_bundle(bundle, target).digest == copy_bundle(bundle, target).digest == bundle.digest
    (target / MANIFEST).unlink()
    with pytest.raises(InvalidConfig, match="--out"):
        copy_bundle(bundle, target)


def test_a_compiler_must_exist_and_be_for_phones(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="apt-get install g\\+\\+-aarch64-linux-gnu"):
        Compiler.find("no-such-compiler")
    other = tmp_path / "g++"
    other.write_text("#!/bin/sh\necho riscv64-linux-gnu\n")
    other.chmod(0o755)
    with pytest.raises(InvalidConfig, match="riscv64"):
        Compiler.find(str(other))


def test_the_ndk_needs_an_executorch_built_for_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="not an Android NDK"):
        build_with_ndk(tmp_path, None)
    toolchain = tmp_path / "build" / "cmake" / "android.toolchain.cmake"
    toolchain.parent.mkdir(parents=True)
    toolchain.touch()
    with pytest.raises(InvalidConfig, match="bionic"):
        build_with_ndk(tmp_path, None)


def test_the_runner_is_built_with_the_version_that_exports() -> None:
    assert f"executorch=={pinned_executorch()}" in (ROOT / "requirements.lock").read_text().splitlines()
