"""Shared fixtures. Folders are named by what their tests need: unit (nothing), property (hypothesis), contract (every
implementation of a protocol), server (an app), parity (torch, the compiled runner), e2e (real processes)."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

SEED = int(os.environ.get("HILNAS_TEST_SEED", "0"))
ROOT = Path(__file__).parents[1]


def pytest_report_header() -> str:
    return f"hilnas seed {SEED} (HILNAS_TEST_SEED)"


@pytest.fixture
def rng() -> random.Random:
    return random.Random(SEED)


@pytest.fixture(scope="session")
def runner() -> Path:
    path = ROOT / "build" / "kernels" / "hilnas-runner"
    if not path.exists():
        pytest.fail("the runner is not built: `make setup` builds it")
    return path


@pytest.fixture(scope="session")
def library():
    """One block library for all tests of a checkout: what one compiled, the next reuses."""
    from nas.export.library import BlockLibrary

    shared = BlockLibrary(ROOT / "build" / "test-library", workers=2)
    yield shared
    shared.close()


@pytest.fixture(scope="session")
def phone_bundle():
    """The aarch64 bundle with qemu to run it. A machine without the cross tools skips; CI must not (the variable)."""
    from device_agents.bundle.build import build_bundle
    from device_agents.bundle.toolchain import Compiler, find_emulator
    from foundation.errors import InvalidConfig

    try:
        Compiler.find()
        find_emulator()
    except InvalidConfig as error:
        if os.environ.get("HILNAS_REQUIRE_PHONE") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    return build_bundle()
