"""The same runner against bionic, for those who have the NDK and ExecuTorch built for Android: no loader, no libc."""

from __future__ import annotations

import shutil
from pathlib import Path

from device_agents.bundle.build import BUNDLES, CACHE, configure_and_build
from device_agents.bundle.manifest import RUNNER, Bundle, write_manifest
from device_agents.bundle.toolchain import json_include, pinned_executorch
from foundation.errors import InvalidConfig
from foundation.files import new_folder, take_name

API_LEVEL = 28


def build_with_ndk(ndk: Path, executorch: Path | None) -> Bundle:
    toolchain = ndk / "build" / "cmake" / "android.toolchain.cmake"
    if not toolchain.exists():
        raise InvalidConfig(f"{ndk} is not an Android NDK: build/cmake/android.toolchain.cmake is missing")
    if executorch is None:
        raise InvalidConfig(
            "--ndk needs --executorch, ExecuTorch's CMake install for Android: the wheel is built for glibc and cannot"
            " be linked with bionic; without --ndk the bundle includes glibc and needs neither"
        )
    options: dict[str, object] = {
        "CMAKE_TOOLCHAIN_FILE": toolchain, "ANDROID_ABI": "arm64-v8a", "ANDROID_PLATFORM": f"android-{API_LEVEL}",
        "ANDROID_STL": "c++_static", "EXECUTORCH_ROOT": executorch, "NLOHMANN_INCLUDE": json_include(),
        "HILNAS_BUILD_TESTS": "OFF",
    }  # fmt: skip
    build = CACHE / "ndk"
    configure_and_build(build, options)
    return _gather(build, executorch)


def _gather(build: Path, executorch: Path) -> Bundle:
    with new_folder(BUNDLES) as partial:
        for source in (build / RUNNER, *(executorch / "lib").glob("libexecutorch*.so")):
            shutil.copy(source, partial / source.name)
        version = pinned_executorch()
        digest = write_manifest(partial, "aarch64", f"hilnas-runner (bionic), executorch {version}", version, None)
        take_name(partial, BUNDLES / digest)
    return Bundle.load(BUNDLES / digest)
