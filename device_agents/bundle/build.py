"""Builds the phone bundle: cross-compiles kernels/, collects every library it needs, writes the manifest.

Builds are cached by a key over sources, compiler and ExecuTorch version, so a second call compiles nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device_agents.bundle.manifest import FORMAT, RUNNER, Bundle, write_manifest
from device_agents.bundle.toolchain import (
    DEFAULT_COMPILER,
    ROOT,
    Compiler,
    build_tool,
    executorch_sdk,
    find_emulator,
    json_include,
    pinned_executorch,
)
from foundation.errors import HilnasError, InvalidConfig
from foundation.files import new_folder, take_name

KERNELS = ROOT / "kernels"
BUNDLES = ROOT / "build" / "bundles"
CACHE = ROOT / "build" / "aarch64"
LOADER = "ld-linux-aarch64.so.1"
# one CPU without any extension (an instruction beyond the baseline would end there) and one with all of them
TEST_CPUS = ("cortex-a57", "max")


def find_bundle() -> Bundle:
    """The bundle named by HILNAS_BUNDLE, else the one built last."""
    path = Path(os.environ.get("HILNAS_BUNDLE") or BUNDLES / "current")
    if not path.exists():
        raise InvalidConfig(f"there is no phone bundle at {path}; `hilnas bundle android-arm64` builds one")
    return Bundle.load(path.resolve())


def ready_bundle() -> Bundle:
    """The bundle that an agent pushes: HILNAS_BUNDLE, else that of these sources, else (without sources) the last."""
    return build_bundle() if not os.environ.get("HILNAS_BUNDLE") and KERNELS.is_dir() else find_bundle()


def build_bundle(compiler: str = DEFAULT_COMPILER) -> Bundle:
    """Returns the bundle of these sources; compiles only if there is none yet."""
    cross, version = Compiler.find(compiler), pinned_executorch()
    with _lock():
        built = BUNDLES / "by-source" / _key(cross.identity(), version)
        if not built.exists() or not (BUNDLES / built.read_text()).exists():
            sdk = executorch_sdk(version, CACHE)
            build = _compile(cross, sdk)
            digest = _gather(cross, sdk, build, version)
            built.parent.mkdir(exist_ok=True)
            built.write_text(digest)
        digest = built.read_text()
        _point_at(digest)
    return Bundle.load(BUNDLES / digest)


def run_tests(compiler: str = DEFAULT_COMPILER, cpus: tuple[str, ...] = TEST_CPUS) -> None:
    """ctest of all operators and of the runner, once per kind of CPU. Raises HilnasError with ctest's output."""
    cross = Compiler.find(compiler)
    with _lock():
        build = _compile(cross, executorch_sdk(pinned_executorch(), CACHE), tests=True)
    for cpu in cpus if find_emulator() else ("native",):
        command = [build_tool("ctest"), "--test-dir", str(build), "--output-on-failure", "-j2"]
        _run(command, f"an operator's test on {cpu} failed", env={"QEMU_CPU": cpu} if cpu != "native" else {})


def _compile(cross: Compiler, sdk: Path, tests: bool = False) -> Path:
    build, loader = CACHE / "kernels", cross.library(LOADER)
    emulator = find_emulator() if tests else []
    if emulator and loader:
        emulator = [*emulator, "-L", str(loader.parents[1]), "-E", f"LD_LIBRARY_PATH={sdk / 'lib'}"]
    options = {
        "CMAKE_TOOLCHAIN_FILE": KERNELS / "cmake" / "aarch64-linux-gnu.cmake",
        "HILNAS_CROSS_CXX": cross.command, "HILNAS_EMULATOR": ";".join(emulator),
        "EXECUTORCH_ROOT": sdk, "NLOHMANN_INCLUDE": json_include(), "HILNAS_BUILD_TESTS": "ON" if tests else "OFF",
        # no run paths or file names of this machine: equal sources must give equal bundles
        "CMAKE_SKIP_BUILD_RPATH": "ON", "CMAKE_CXX_FLAGS": f"-ffile-prefix-map={KERNELS}=. -ffile-prefix-map={sdk}=.",
    }  # fmt: skip
    configure_and_build(build, options)
    return build


def configure_and_build(build: Path, options: dict[str, object]) -> None:
    cmake, ninja = build_tool("cmake"), build_tool("ninja")
    defines = [f"-D{name}={value}" for name, value in {"CMAKE_BUILD_TYPE": "Release", **options}.items()]
    configure = [cmake, "-S", str(KERNELS), "-B", str(build), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", *defines]
    _run(configure, "configuring the cross build failed")
    _run([cmake, "--build", str(build)], "the cross build failed")


def _gather(cross: Compiler, sdk: Path, build: Path, version: str) -> str:
    """Runner, loader and the closure of needed libraries in one stripped folder, named by its digest."""
    strip = [cross.tool("strip"), "--strip-unneeded", "-o"]
    with new_folder(BUNDLES) as partial:
        for source in (build / RUNNER, _library(cross, sdk, LOADER), *_closure(cross, sdk, build / RUNNER)):
            _run([*strip, str(partial / source.name), str(source)], "strip failed")
            (partial / source.name).chmod(0o755 if source.name in (RUNNER, LOADER) else 0o644)
        digest = write_manifest(partial, "aarch64", _runner_version(partial, version), version, LOADER)
        if not (BUNDLES / digest).exists():
            take_name(partial, BUNDLES / digest)
    return digest


def _closure(cross: Compiler, sdk: Path, program: Path) -> list[Path]:
    """Libraries that ``program`` needs, directly or indirectly."""
    found: dict[str, Path] = {}
    waiting = _needed(cross, program)
    while waiting:
        name = waiting.pop()
        if name not in found and name != LOADER:
            found[name] = _library(cross, sdk, name)
            waiting += _needed(cross, found[name])
    return list(found.values())


def _needed(cross: Compiler, file: Path) -> list[str]:
    text = _run([cross.tool("readelf"), "-d", str(file)], f"{file.name} is not an ELF file")
    return re.findall(r"\(NEEDED\).*\[(.+)\]", text)


def _library(cross: Compiler, sdk: Path, name: str) -> Path:
    """The file keeps the name that programs link to, whatever its symbolic link points at."""
    found = sdk / "lib" / name if (sdk / "lib" / name).exists() else cross.library(name)
    if found is None:
        raise InvalidConfig(f"the runner needs {name}, which neither ExecuTorch's wheel nor {cross.command} has")
    if found.name == name:
        return found
    named = CACHE / "libraries" / name
    named.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(found, named)
    return named


def _runner_version(folder: Path, executorch: str) -> str:
    try:
        emulator = find_emulator()
    except InvalidConfig:
        text = (KERNELS / "CMakeLists.txt").read_text()
        version = re.search(r'HILNAS_RUNNER_VERSION "([^"]+)"', text)
        return f"hilnas-runner {version[1] if version else 'unknown'}, executorch {executorch}"
    command = [*emulator, f"./{LOADER}", "--library-path", ".", f"./{RUNNER}", "--version"]
    return _run(command, "the runner of the new bundle does not start", cwd=folder).strip()


def _key(compiler: str, version: str) -> str:
    """Sources, compiler, ExecuTorch and the way bundles are made (this folder)."""
    state = hashlib.sha256(f"{FORMAT} {compiler} {version}\n".encode())
    for folder in (KERNELS, Path(__file__).parent):
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.suffix in (".cpp", ".h", ".cmake", ".txt", ".py") and "tests" not in file.parts:
                state.update(f"{file.relative_to(ROOT)} ".encode() + hashlib.sha256(file.read_bytes()).digest())
    return state.hexdigest()


def _point_at(digest: str) -> None:
    link = BUNDLES / f"current.{os.getpid()}"
    link.symlink_to(digest)
    os.replace(link, BUNDLES / "current")


@contextmanager
def _lock() -> Iterator[None]:
    """Two builds at once would write into each other's folders."""
    for folder in (CACHE, BUNDLES):
        folder.mkdir(parents=True, exist_ok=True)
    with open(CACHE / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(command: list[str], failure: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        env={**os.environ, **(env or {})}, cwd=cwd,
    )  # fmt: skip
    if done.returncode != 0:
        raise HilnasError(f"{failure}: {Path(command[0]).name} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout
